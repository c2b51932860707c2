#include <capstan/rpc/peer-connection.h>

#include <capnp/rpc.capnp.h>
#include <capnp/serialize.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <capstan/rpc/outcome.h>
#include <capstan/schema/files.capnp.h>
#include <capstan/schema/gateway.capnp.h>

#include "frames.h"
#include "in-process-peers.h"

namespace capstan::rpc {
namespace {

using capnp::rpc::twoparty::Side;

struct Loop {
  kj::EventLoop loop;
  kj::WaitScope waitScope{loop};
};

// File.read answers as many bytes as were asked for.
class TestFile final : public schema::File::Server {
  kj::Promise<void> read(ReadContext context) override {
    context.getResults().initData(context.getParams().getCount());
    return kj::READY_NOW;
  }
};

class TestGateway final : public schema::Gateway::Server {
  kj::Promise<void> hello(HelloContext context) override {
    context.getResults().initInfo().setName("capstan");
    return kj::READY_NOW;
  }
};

template <typename T>
capnp::Capability::Client served() {
  return kj::heap<T>();
}

// What the promise is rejected with; an exception of type OVERLOADED if it is not.
template <typename Promise>
kj::Exception rejectionOf(Promise&& promise, kj::WaitScope& waitScope) {
  KJ_IF_MAYBE (exception, kj::runCatchingExceptions([&]() { (void)promise.wait(waitScope); })) {
    return kj::mv(*exception);
  }
  return KJ_EXCEPTION(OVERLOADED, "was not rejected");
}

TEST(PeerConnection, CarriesCallsAndCountsThem) {
  Loop loop;
  InProcessPeers peers(served<TestGateway>());
  auto gateway = peers.bootstrap<schema::Gateway>();
  for (unsigned i = 0; i < 10; ++i) {
    EXPECT_EQ(gateway.helloRequest().send().wait(loop.waitScope).getInfo().getName(), "capstan");
  }
  settle(loop.waitScope);
  EXPECT_GE(peers.clientCounters.messagesSent, 10u);  // a call each; Cap'n Proto 0.9 sends a finish each, too
  EXPECT_EQ(peers.clientCounters.messagesSent, peers.serverCounters.messagesReceived);
  EXPECT_EQ(peers.clientCounters.bytesSent, peers.serverCounters.bytesReceived);
  EXPECT_EQ(peers.serverCounters.messagesSent, peers.clientCounters.messagesReceived);
  EXPECT_EQ(peers.serverCounters.bytesSent, peers.clientCounters.bytesReceived);
}

TEST(PeerConnection, CarriesAnswersOfAllSizes) {
  Loop loop;
  InProcessPeers peers(served<TestFile>());
  auto file = peers.bootstrap<schema::File>();
  std::vector<kj::Promise<void>> reads;
  for (size_t count : {0, 1, 7, 500, 8000, 8192, 65536, 1000000, 8000000}) {
    auto request = file.readRequest();
    request.setCount(count);
    reads.push_back(request.send().then([count](auto&& answer) { EXPECT_EQ(answer.getData().size(), count); }));
  }
  for (auto& read : reads) read.wait(loop.waitScope);
}

TEST(PeerConnection, GivesTheCallerTheErrorOfAnAnswerThatIsTooLarge) {
  Loop loop;
  InProcessPeers peers(served<TestFile>());
  auto file = peers.bootstrap<schema::File>();
  auto request = file.readRequest();
  request.setCount(9 << 20);
  kj::Exception exception = rejectionOf(request.send(), loop.waitScope);
  EXPECT_EQ(exception.getType(), kj::Exception::Type::FAILED);
  EXPECT_NE(std::string(exception.getDescription().cStr()).find("larger than"), std::string::npos);
  // And the connection goes on.
  file.readRequest().send().wait(loop.waitScope);
}

TEST(PeerConnection, RefusesToSendACallThatIsTooLarge) {
  Loop loop;
  class Sink final : public schema::ByteSink::Server {
    kj::Promise<void> end(EndContext) override { return kj::READY_NOW; }
  };
  InProcessPeers peers(served<Sink>());
  auto sink = peers.bootstrap<schema::ByteSink>();
  auto request = sink.writeRequest();
  request.initData(9 << 20);
  EXPECT_EQ(rejectionOf(request.send(), loop.waitScope).getType(), kj::Exception::Type::FAILED);
  sink.endRequest().send().wait(loop.waitScope);
}

TEST(PeerConnection, HearsThatThePeerIsGone) {
  for (bool serverGoes : {true, false}) {
    Loop loop;
    InProcessPeers peers(served<TestGateway>());
    auto gateway = peers.bootstrap<schema::Gateway>();
    gateway.helloRequest().send().wait(loop.waitScope);
    auto& stays = serverGoes ? peers.client : peers.server;
    auto gone = stays->onDisconnect();
    EXPECT_FALSE(gone.poll(loop.waitScope));
    (serverGoes ? peers.server : peers.client) = nullptr;
    EXPECT_TRUE(gone.poll(loop.waitScope));
    EXPECT_TRUE(stays->violation() == nullptr);
    EXPECT_TRUE(isDisconnected(rejectionOf(gateway.helloRequest().send(), loop.waitScope)));
  }
}

TEST(PeerConnection, OfAClientHearsOfTheEndBeforeAnythingWasAsked) {
  Loop loop;
  InProcessPeers peers(served<TestGateway>());
  auto gone = peers.client->onDisconnect();
  EXPECT_FALSE(gone.poll(loop.waitScope));
  peers.server = nullptr;
  EXPECT_TRUE(gone.poll(loop.waitScope));
}

TEST(PeerConnection, WithoutABootstrapCapabilityAnswersWithAnException) {
  Loop loop;
  InProcessPeers peers(nullptr);
  EXPECT_NE(rejectionOf(peers.bootstrap<schema::Gateway>().helloRequest().send(), loop.waitScope).getType(),
            kj::Exception::Type::OVERLOADED);
  EXPECT_FALSE(peers.client->onDisconnect().poll(loop.waitScope));
}

// A connection whose peer is the test itself, with bytes.
struct Raw {
  kj::EventLoop loop;
  kj::WaitScope waitScope{loop};
  WireCounters counters;
  kj::Own<kj::AsyncIoStream> bytes;
  kj::Own<PeerConnection> connection;

  explicit Raw(Side side = Side::SERVER, PeerOptions options = {}) {
    auto pipe = kj::newTwoWayPipe();
    bytes = kj::mv(pipe.ends[0]);
    kj::Maybe<capnp::Capability::Client> bootstrap;
    if (side == Side::SERVER) bootstrap = served<TestGateway>();
    connection = kj::heap<PeerConnection>(kj::mv(pipe.ends[1]), side, kj::mv(bootstrap), counters, options);
  }

  // Sends as much as the connection takes. True if the connection is over then.
  bool endsAfter(const std::string& sent) {
    auto writing = kj::evalNow([&]() { return bytes->write(sent.data(), sent.size()); });
    settle(waitScope);
    return connection->onDisconnect().poll(waitScope);
  }

  bool violated() const { return connection->violation() != nullptr; }
};

std::string asString(kj::Array<capnp::word> words) {
  auto bytes = words.asBytes();
  return std::string(reinterpret_cast<const char*>(bytes.begin()), bytes.size());
}

TEST(PeerConnection, EndsWhenThePeerBreaksTheFraming) {
  const std::string table[] = {
      std::string(8, '\xff'),
      "GET / HTTP/1.1\r\n\r\n",
      frameOf(std::vector<size_t>(513, 1)),
      std::string("\0\0\0\0\xff\xff\xff\x7f", 8),
  };
  for (auto& sent : table) {
    for (Side side : {Side::SERVER, Side::CLIENT}) {
      Raw raw(side);
      EXPECT_TRUE(raw.endsAfter(sent));
      EXPECT_TRUE(raw.violated());
    }
  }
}

TEST(PeerConnection, EndsWhenMessagesMakeNoSense) {
  // Random content in frames that are fine; each must end the connection or be ignored, and never do more.
  unsigned ended = 0;
  for (size_t words = 0; words < 40; ++words) {
    Raw raw;
    ended += raw.endsAfter(frameOf({words}));
  }
  EXPECT_GT(ended, 20u);
}

TEST(PeerConnection, EndsWithThePeersStream) {
  for (auto& sent : {std::string(), frameOf({5}).substr(0, 20)}) {
    Raw raw;
    EXPECT_FALSE(raw.endsAfter(sent));
    raw.bytes->shutdownWrite();
    EXPECT_TRUE(raw.connection->onDisconnect().poll(raw.waitScope));
    EXPECT_FALSE(raw.violated());
  }
}

TEST(PeerConnection, AnswersUnknownQuestionsAndGoesOn) {
  Raw raw;
  capnp::MallocMessageBuilder message;
  message.initRoot<capnp::rpc::Message>().initObsoleteSave();
  EXPECT_FALSE(raw.endsAfter(asString(capnp::messageToFlatArray(message))));
}

TEST(PeerConnection, MakesExceptionsOfInventedTypesHarmless) {
  for (uint16_t type : {uint16_t(4), uint16_t(300), uint16_t(0xffff)}) {
    Raw raw(Side::CLIENT);
    auto call = raw.connection->bootstrap().castAs<schema::Gateway>().helloRequest().send();
    settle(raw.waitScope);
    capnp::MallocMessageBuilder message;
    auto answer = message.initRoot<capnp::rpc::Message>().initReturn();
    answer.setAnswerId(1);  // 0 is the bootstrap capability
    auto sent = answer.initException();
    sent.setReason("because");
    sent.setType(static_cast<capnp::rpc::Exception::Type>(type));
    EXPECT_FALSE(raw.endsAfter(asString(capnp::messageToFlatArray(message))));
    kj::Exception exception = rejectionOf(kj::mv(call), raw.waitScope);
    EXPECT_EQ(exception.getType(), kj::Exception::Type::FAILED);
    EXPECT_NE(std::string(kj::str(exception).cStr()).find("because"), std::string::npos);

    // The same in an abort, which ends the connection.
    capnp::MallocMessageBuilder last;
    auto abort = last.initRoot<capnp::rpc::Message>().initAbort();
    abort.setReason("enough");
    abort.setType(static_cast<capnp::rpc::Exception::Type>(type));
    EXPECT_TRUE(raw.endsAfter(asString(capnp::messageToFlatArray(last))));
  }
}

TEST(PeerConnection, SurvivesAResetSocket) {
  for (Side side : {Side::SERVER, Side::CLIENT}) {
    auto io = kj::setupAsyncIo();
    auto address = io.provider->getNetwork().parseAddress("127.0.0.1").wait(io.waitScope);
    auto listener = address->listen();
    auto dialled = io.provider->getNetwork().parseAddress("127.0.0.1", listener->getPort()).wait(io.waitScope);
    auto connecting = dialled->connect();
    auto accepted = listener->accept().wait(io.waitScope);
    auto peer = connecting.wait(io.waitScope);

    WireCounters counters;
    PeerConnection connection(kj::mv(accepted), side, served<TestGateway>(), counters);
    auto call = connection.bootstrap().castAs<schema::Gateway>().helloRequest().send();
    auto gone = connection.onDisconnect();
    EXPECT_FALSE(gone.poll(io.waitScope));
    linger rightAway{1, 0};
    peer->setsockopt(SOL_SOCKET, SO_LINGER, &rightAway, sizeof(rightAway));
    peer = nullptr;
    gone.wait(io.waitScope);
    EXPECT_TRUE(isDisconnected(rejectionOf(kj::mv(call), io.waitScope)));
    EXPECT_TRUE(connection.violation() == nullptr);
  }
}

TEST(PeerConnection, TellsThePeerOverASocketWhyItEnds) {
  auto io = kj::setupAsyncIo();
  auto pipe = io.provider->newTwoWayPipe();
  WireCounters counters;
  auto connection = kj::heap<PeerConnection>(kj::mv(pipe.ends[0]), Side::SERVER, served<TestGateway>(), counters);
  pipe.ends[1]->write("\xff\xff\xff\xff\xff\xff\xff\xff", 8).wait(io.waitScope);
  connection->onDisconnect().wait(io.waitScope);
  connection = nullptr;
  auto answer = pipe.ends[1]->readAllBytes().wait(io.waitScope);
  std::string text(reinterpret_cast<const char*>(answer.begin()), answer.size());
  EXPECT_NE(text.find("512 are the limit"), std::string::npos);
}

// A server whose answers nobody reads must stop taking questions.
TEST(PeerConnection, OfAServerTakesNoMoreThanItsHighWaterMarks) {
  class SlowFile final : public schema::File::Server {
   public:
    explicit SlowFile(unsigned& calls) : calls(calls) {}
    kj::Promise<void> read(ReadContext context) override {
      ++calls;
      context.getResults().initData(100000);
      return kj::READY_NOW;
    }

   private:
    unsigned& calls;
  };
  Loop loop;
  unsigned calls = 0;
  WireCounters counters;
  auto pipe = kj::newTwoWayPipe();
  PeerOptions options;
  options.outgoingHighWater = 1 << 20;
  PeerConnection server(kj::mv(pipe.ends[0]), Side::SERVER, capnp::Capability::Client(kj::heap<SlowFile>(calls)),
                        counters, options);
  // A client that only writes: first a bootstrap, then calls on its answer.
  std::string questions;
  capnp::MallocMessageBuilder bootstrap;
  bootstrap.initRoot<capnp::rpc::Message>().initBootstrap().setQuestionId(0);
  questions += asString(capnp::messageToFlatArray(bootstrap));
  constexpr unsigned QUESTIONS = 200;
  for (unsigned id = 1; id <= QUESTIONS; ++id) {
    capnp::MallocMessageBuilder message;
    auto call = message.initRoot<capnp::rpc::Message>().initCall();
    call.setQuestionId(id);
    call.initTarget().initPromisedAnswer().setQuestionId(0);
    call.setInterfaceId(capnp::typeId<schema::File>());
    call.setMethodId(1);
    call.initParams();
    questions += asString(capnp::messageToFlatArray(message));
  }
  auto writing = pipe.ends[1]->write(questions.data(), questions.size()).eagerlyEvaluate(nullptr);
  settle(loop.waitScope);
  EXPECT_GE(calls, 10u);
  EXPECT_LE(calls, 20u);

  // Reading the answers lets it go on to the end.
  auto reading = pipe.ends[1]->readAllBytes().eagerlyEvaluate(nullptr);
  settle(loop.waitScope);
  EXPECT_EQ(calls, QUESTIONS);
}

TEST(PeerConnection, TakesOnlySoManyMessagesOfOneWhoIsNotTrusted) {
  Loop loop;
  PeerOptions options;
  options.strangersMessages = 50;
  InProcessPeers peers(served<TestGateway>(), options);
  auto gateway = peers.bootstrap<schema::Gateway>();
  // Of the answers nobody lets go, and so they are kept.
  kj::Vector<kj::Promise<void>> answers;
  for (unsigned i = 0; i < 100; ++i) answers.add(gateway.helloRequest().send().ignoreResult());
  EXPECT_EQ(rejectionOf(kj::joinPromises(answers.releaseAsArray()), loop.waitScope).getType(),
            kj::Exception::Type::DISCONNECTED);
  EXPECT_TRUE(peers.server->violation() != nullptr);
  EXPECT_LE(peers.serverCounters.messagesReceived, 51u);

  InProcessPeers trusted(served<TestGateway>(), options);
  trusted.server->trust();
  auto known = trusted.bootstrap<schema::Gateway>();
  for (unsigned i = 0; i < 100; ++i) known.helloRequest().send().wait(loop.waitScope);
}

TEST(PeerConnection, TakesNoLongMessageOfOneWhoIsNotTrustedYet) {
  class Counting final : public schema::ByteSink::Server {
   public:
    explicit Counting(size_t& bytes) : bytes(bytes) {}

   private:
    size_t& bytes;
    kj::Promise<void> write(WriteContext call) override {
      bytes += call.getParams().getData().size();
      return kj::READY_NOW;
    }
  };
  Loop loop;
  PeerOptions options;
  options.strangersMessageBytes = 64 << 10;
  size_t bytes = 0;
  InProcessPeers peers(schema::ByteSink::Client(kj::heap<Counting>(bytes)), options);
  auto sink = peers.bootstrap<schema::ByteSink>();
  std::vector<kj::Promise<void>> writes;
  for (size_t size : {60'000, 1'000'000, 5}) {
    auto request = sink.writeRequest();
    request.initData(size);
    writes.push_back(request.send());
  }
  settle(loop.waitScope);
  EXPECT_EQ(bytes, 60'000u);
  EXPECT_LE(peers.serverCounters.bytesReceived, 200'000u) << "the rest stays where it is";
  peers.server->trust();
  settle(loop.waitScope);
  EXPECT_EQ(bytes, 1'060'005u);
}

// A server that holds back what is long, and the bare other end of its connection.
struct StrangersServer {
  PeerOptions options{.strangersMessageBytes = 64 << 10};
  WireCounters counters;
  kj::TwoWayPipe pipe = kj::newTwoWayPipe();
  PeerConnection server{kj::mv(pipe.ends[0]), capnp::rpc::twoparty::Side::SERVER, served<TestGateway>(), counters,
                        options};
  kj::AsyncIoStream& stranger = *pipe.ends[1];

  static std::string longCall() {
    capnp::MallocMessageBuilder message;
    message.initRoot<capnp::rpc::Message>().initCall().initParams().getContent().initAs<capnp::Data>(100'000);
    return asString(capnp::messageToFlatArray(message));
  }
};

TEST(PeerConnection, EndsWithAPeerThatBeginsWithALongMessageBeforeItIsTrusted) {
  Loop loop;
  StrangersServer peers;
  auto bytes = StrangersServer::longCall();
  auto writing =
      peers.stranger.write(bytes.data(), bytes.size()).catch_([](kj::Exception&&) {}).eagerlyEvaluate(nullptr);
  peers.server.onDisconnect().wait(loop.waitScope);
  EXPECT_TRUE(peers.server.violation() != nullptr);
}

TEST(PeerConnection, NoticesTheEndOfAPeerWhoseLongMessageIsHeldBack) {
  Loop loop;
  StrangersServer peers;
  capnp::MallocMessageBuilder bootstrap;
  bootstrap.initRoot<capnp::rpc::Message>().initBootstrap().setQuestionId(0);
  auto bytes = asString(capnp::messageToFlatArray(bootstrap)) + StrangersServer::longCall().substr(0, 20'000);
  auto writing = peers.stranger.write(bytes.data(), bytes.size()).eagerlyEvaluate(nullptr);
  settle(loop.waitScope);
  peers.stranger.shutdownWrite();
  auto reading = peers.stranger.readAllBytes().ignoreResult().catch_([](kj::Exception&&) {}).eagerlyEvaluate(nullptr);
  auto over = peers.server.onDisconnect();
  settle(loop.waitScope);
  EXPECT_TRUE(over.poll(loop.waitScope));
}

TEST(PeerConnection, LimitsWhatAStreamHasInFlight) {
  class StuckSink final : public schema::ByteSink::Server {
    kj::Promise<void> write(WriteContext) override { return kj::NEVER_DONE; }
  };
  Loop loop;
  PeerOptions options;
  options.streamWindow = 500000;
  InProcessPeers peers(served<StuckSink>(), options);
  auto sink = peers.bootstrap<schema::ByteSink>();
  std::vector<kj::Promise<void>> writes;
  size_t inFlight = 0;
  do {
    auto request = sink.writeRequest();
    request.initData(100000);
    writes.push_back(request.send());
    inFlight += 100000;
  } while (inFlight < 5000000 && writes.back().poll(loop.waitScope));
  EXPECT_GE(inFlight, options.streamWindow);
  EXPECT_LE(inFlight, options.streamWindow + 200000);
}

}  // namespace
}  // namespace capstan::rpc
