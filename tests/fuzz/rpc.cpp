// Bytes into a whole connection: framing, the RPC system and the server's Gateway behind it. The first byte says
// whether the bytes are the stream itself or the bodies of messages that are framed properly, and whether a login is
// sent before them, so that calls reach further than to the Gateway.
//
// A body is: 2 bytes for its length in words (modulo 512), then so many words. Questions 0 to 3 are taken by the login:
// Gateway, Session, FileStore and Compute are their answers.
#include <capnp/rpc.capnp.h>
#include <capnp/serialize.h>

#include "hostile-guest.h"

namespace capstan::fuzz {
namespace {

constexpr kj::Duration PATIENCE = 20 * kj::SECONDS;
constexpr unsigned MAX_BODY_WORDS = 512;

enum Form : uint8_t { FRAMED = 1, LOGGED_IN = 2, CUT_OFF = 4 };
// The other bits are all 0 but this one: seldom, since ports of closed connections stay in use for a minute.
constexpr uint8_t OVER_TCP = 8;

void append(std::string& to, capnp::MessageBuilder& message) {
  auto words = capnp::messageToFlatArray(message);
  auto bytes = words.asBytes();
  to.append(reinterpret_cast<const char*>(bytes.begin()), bytes.size());
}

// A call on the capability that is the pointer `field` of the answer to a question; `field` -1: the answer itself.
template <typename Interface, typename Params>
void appendCall(std::string& to, uint32_t question, uint32_t on, int field, uint16_t method) {
  capnp::MallocMessageBuilder message;
  auto call = message.initRoot<capnp::rpc::Message>().initCall();
  call.setQuestionId(question);
  call.setInterfaceId(capnp::typeId<Interface>());
  call.setMethodId(method);
  auto target = call.initTarget().initPromisedAnswer();
  target.setQuestionId(on);
  if (field >= 0) target.initTransform(1)[0].setGetPointerField(uint16_t(field));
  call.initParams().getContent().initAs<Params>();
  append(to, message);
}

std::string loginMessages() {
  using schema::Gateway;
  using schema::Session;
  std::string bytes;
  capnp::MallocMessageBuilder bootstrap;
  bootstrap.initRoot<capnp::rpc::Message>().initBootstrap().setQuestionId(0);
  append(bytes, bootstrap);
  constexpr int SESSION = 1;  // behind the outcome
  appendCall<Gateway, Gateway::LoginParams>(bytes, 1, 0, -1, 1);
  appendCall<Session, Session::FileStoreParams>(bytes, 2, 1, SESSION, 0);
  appendCall<Session, Session::ComputeParams>(bytes, 3, 1, SESSION, 2);
  return bytes;
}

std::string framed(Choices& choices) {
  std::string bytes;
  while (!choices.atEnd()) {
    unsigned words = choices.below(MAX_BODY_WORDS);
    std::string body(choices.bytes(words * sizeof(capnp::word)));
    body.resize((body.size() + 7) / 8 * 8);
    uint32_t header[] = {0, uint32_t(body.size() / sizeof(capnp::word))};
    bytes.append(reinterpret_cast<const char*>(header), sizeof(header));
    bytes += body;
  }
  return bytes;
}

// Takes what the server sends until it closes the connection.
kj::Promise<void> readAll(kj::AsyncIoStream& stream, kj::ArrayPtr<kj::byte> buffer) {
  return stream.tryRead(buffer.begin(), 1, buffer.size()).then([&stream, buffer](size_t count) -> kj::Promise<void> {
    if (count == 0) return kj::READY_NOW;
    return readAll(stream, buffer);
  });
}

void send(House& house, House::Door door, const std::string& bytes, bool cutOff) {
  auto stream = house.dial(door);
  auto buffer = kj::heapArray<kj::byte>(16 << 10);
  auto written = stream->write(bytes.data(), bytes.size()).then([&]() {
    if (!cutOff) stream->shutdownWrite();
  });
  if (cutOff) {
    house.finishes(kj::mv(written), PATIENCE);
    return;
  }
  // The server may close before it has taken all.
  auto over = readAll(*stream, buffer).exclusiveJoin(written.then([]() { return kj::Promise<void>(kj::NEVER_DONE); }));
  FUZZ_CHECK(house.finishes(kj::mv(over), PATIENCE));  // the server ends a connection whose peer has ended
}

}  // namespace
}  // namespace capstan::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace capstan::fuzz;
  static const std::string LOGIN = loginMessages();
  House& house = House::get();
  house.tidy();
  Choices choices(data, size);
  uint8_t form = choices.byte();
  std::string bytes = form & LOGGED_IN ? LOGIN : "";
  bytes += form & FRAMED ? framed(choices) : std::string(choices.all());
  bool overTcp = (form & ~(FRAMED | LOGGED_IN | CUT_OFF)) == OVER_TCP;
  send(house, overTcp ? House::Door::TCP : House::Door::UNIX, bytes, form & CUT_OFF);
  house.check();
  return 0;
}
