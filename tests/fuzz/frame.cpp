// Raw bytes into the framing: whatever arrives, in whatever portions, the reader gives whole messages within the limits
// or ends the stream with one of two known exceptions; and how the bytes were cut into portions changes nothing.
#include <algorithm>

#include <capnp/any.h>
#include <capnp/serialize.h>
#include <kj/async-io.h>

#include <capstan/rpc/message-stream.h>

#include "../rpc/frames.h"
#include "fuzz.h"

namespace capstan::rpc {
namespace {

constexpr size_t MAX_MESSAGE_BYTES = 64 << 10;
constexpr size_t MAX_PORTIONS = 256;

// What a stream gave, as text that can be compared.
struct Outcome {
  std::string messages;
  std::string end;
};

// Reads all that a message says of itself: nothing in it may lead out of its segments.
void walk(capnp::AnyPointer::Reader pointer) {
  auto size = pointer.targetSize();
  FUZZ_CHECK(size.wordCount <= MAX_MESSAGE_BYTES / sizeof(capnp::word) * 8 + (64 << 10));
  if (pointer.isStruct()) {
    auto structure = pointer.getAs<capnp::AnyStruct>();
    for (auto inner : structure.getPointerSection()) walk(inner);
  } else if (pointer.isList()) {
    auto list = pointer.getAs<capnp::AnyList>();
    if (list.getElementSize() != capnp::ElementSize::POINTER) return;
    for (auto inner : list.as<capnp::List<capnp::AnyPointer>>()) walk(inner);
  }
}

Outcome readAll(kj::WaitScope& waitScope, const std::vector<std::string>& portions) {
  Outcome outcome;
  auto pipe = kj::newTwoWayPipe();
  WireCounters counters;
  MessageStream stream(*pipe.ends[0], counters, MAX_MESSAGE_BYTES, 0);
  kj::Promise<void> feed = kj::READY_NOW;
  for (auto& portion : portions) {
    feed = feed.then([&]() { return pipe.ends[1]->write(portion.data(), portion.size()); });
  }
  feed = feed.then([&]() { pipe.ends[1]->shutdownWrite(); }).eagerlyEvaluate([](kj::Exception&&) {});
  while (true) {
    bool over = false;
    auto failure = kj::runCatchingExceptions([&]() {
      KJ_IF_MAYBE (message, stream.receive().wait(waitScope)) {
        auto& received = static_cast<ReceivedMessage&>(**message);
        FUZZ_CHECK(received.content().size() <= MAX_MESSAGE_BYTES);
        FUZZ_CHECK(received.getSegment(MAX_SEGMENTS).begin() == nullptr);
        outcome.messages += frameOf(received);
        // A message that contradicts itself throws; that is the RPC system's business.
        fuzz::expectKnown(kj::runCatchingExceptions([&]() { walk(received.getBody()); }));
      }
      else {
        over = true;
      }
    });
    KJ_IF_MAYBE (exception, failure) {
      bool refused = stream.violation() != nullptr;
      FUZZ_CHECK(exception->getType() == (refused ? kj::Exception::Type::FAILED : kj::Exception::Type::DISCONNECTED));
      outcome.end = exception->getDescription().cStr();
      break;
    }
    if (over) break;
  }
  FUZZ_CHECK(counters.messagesReceived.load() == 0 || !outcome.messages.empty());
  return outcome;
}

}  // namespace
}  // namespace capstan::rpc

// The first byte says into what portions the rest is cut.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace capstan;
  if (size == 0) return 0;
  kj::EventLoop loop;
  kj::WaitScope waitScope(loop);
  size_t portion = data[0] == 0 ? size : std::max<size_t>(data[0], size / rpc::MAX_PORTIONS);
  std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::vector<std::string> portions;
  for (size_t at = 0; at < bytes.size(); at += portion) portions.push_back(bytes.substr(at, portion));
  auto inPortions = rpc::readAll(waitScope, portions);
  auto atOnce = rpc::readAll(waitScope, {bytes});
  FUZZ_CHECK(inPortions.messages == atOnce.messages);
  FUZZ_CHECK(inPortions.end == atOnce.end);
  return 0;
}
