// What a peer says in a message that is sound as a message: entries, expectations, attributes, checks, outcomes and
// exceptions are read with values that no schema forbids, and come out within bounds and fit for a terminal. The
// input's first byte chooses the reader, the rest is one segment.
#include <cstring>

#include <capnp/message.h>
#include <kj/exception.h>

#include <capstan/base/text.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>

#include "fuzz.h"

namespace capstan::fuzz {
namespace {

void checkShown(std::string_view text) {
  FUZZ_CHECK(isUtf8(text));
  for (unsigned char c : text) FUZZ_CHECK(c >= 0x20 && c != 0x7f);
}

void readEntry(capnp::MessageReader& message) {
  Entry entry = rpc::read(message.getRoot<schema::Entry>());
  FUZZ_CHECK(uint16_t(entry.type) <= uint16_t(EntryType::OTHER));
  capnp::MallocMessageBuilder again;
  rpc::write(again.initRoot<schema::Entry>(), entry);
  Entry second = rpc::read(again.getRoot<schema::Entry>().asReader());
  FUZZ_CHECK(second.path == entry.path && second.version == entry.version && second.mode == entry.mode);
}

void readExpectation(capnp::MessageReader& message) {
  Expectation expectation = rpc::read(message.getRoot<schema::Expectation>());
  FUZZ_CHECK(unsigned(expectation.kind) <= unsigned(Expectation::Kind::IDENTITY));
}

void readAttributes(capnp::MessageReader& message) {
  auto attributes = rpc::read(message.getRoot<schema::Attributes>());
  if (attributes.ok() && attributes->mode) FUZZ_CHECK(*attributes->mode <= 07777);
  if (!attributes.ok()) checkShown(attributes.error().message);
}

void readCheck(capnp::MessageReader& message) {
  auto check = rpc::read(message.getRoot<schema::ContentCheck>());
  if (!check.ok()) return checkShown(check.error().message);
  FUZZ_CHECK(uint16_t(check->algorithm) <= uint16_t(DigestAlgorithm::SHA256));
  FUZZ_CHECK(check->digest.size() == 0 || check->digest.size() == 16 || check->digest.size() == 32);
}

void readOutcome(capnp::MessageReader& message) {
  KJ_IF_MAYBE (error, rpc::errorIn(message.getRoot<schema::Outcome>())) {
    checkShown(error->message);
    FUZZ_CHECK(error->code != ErrorCode::UNSET && kebabCase(error->code) != "unknown");
  }
}

// Also one whose type does not exist.
void readException(capnp::MessageReader& message) {
  auto from = message.getRoot<schema::Error>();
  kj::Exception exception(kj::Exception::Type(uint16_t(from.getCode())), "(remote)", 0,
                          kj::heapString(from.getMessage()));
  Error error = rpc::errorFromException(exception);
  checkShown(error.message);
  FUZZ_CHECK(error.code != ErrorCode::UNSET && kebabCase(error.code) != "unknown");
  kj::Exception harmless = rpc::clamped(kj::mv(exception));
  expectKnown(harmless);
  kj::str(harmless);
  // Through a stream that threw it, and back.
  Error second = rpc::errorFromException(rpc::exceptionFromError(error));
  FUZZ_CHECK(second.code == error.code && second.message == error.message);
}

}  // namespace
}  // namespace capstan::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace capstan::fuzz;
  constexpr void (*READERS[])(capnp::MessageReader&) = {readEntry, readExpectation, readAttributes,
                                                        readCheck, readOutcome,     readException};
  if (size == 0) return 0;
  auto words = kj::heapArray<capnp::word>((size - 1) / sizeof(capnp::word));
  if (words.size() > 0) memcpy(words.begin(), data + 1, words.asBytes().size());
  kj::ArrayPtr<const capnp::word> segments[] = {words};
  capnp::SegmentArrayMessageReader message(segments);
  // A message that contradicts itself throws FAILED, and the call that it belongs to ends.
  KJ_IF_MAYBE (exception, kj::runCatchingExceptions([&]() { READERS[data[0] % std::size(READERS)](message); })) {
    FUZZ_CHECK(exception->getType() == kj::Exception::Type::FAILED);
  }
  return 0;
}
