#include <capstan/rpc/message-stream.h>

#include <gtest/gtest.h>

#include "frames.h"

namespace capstan::rpc {
namespace {

constexpr size_t MAX_MESSAGE = 1 << 20;

// Passes everything on to one end of a pipe, and counts what is done to it.
class CountingStream final : public kj::AsyncIoStream {
 public:
  explicit CountingStream(kj::Own<kj::AsyncIoStream> inner) : inner(kj::mv(inner)) {}

  kj::Promise<size_t> tryRead(void* buffer, size_t minBytes, size_t maxBytes) override {
    ++reads;
    return inner->tryRead(buffer, minBytes, maxBytes);
  }
  kj::Promise<void> write(const void* buffer, size_t size) override {
    ++writes;
    return inner->write(buffer, size);
  }
  kj::Promise<void> write(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> pieces) override {
    ++writes;
    return inner->write(pieces);
  }
  kj::Promise<void> whenWriteDisconnected() override { return inner->whenWriteDisconnected(); }
  void shutdownWrite() override { inner->shutdownWrite(); }

  unsigned reads = 0;
  unsigned writes = 0;

 private:
  kj::Own<kj::AsyncIoStream> inner;
};

class Message final : public capnp::OutgoingRpcMessage {
 public:
  capnp::AnyPointer::Builder getBody() override { KJ_UNREACHABLE; }
  void send() override {}
  size_t sizeInWords() override { return 0; }
};

// Two streams over a pipe in memory.
struct Ends {
  kj::EventLoop loop;
  kj::WaitScope waitScope{loop};
  kj::TwoWayPipe pipe = kj::newTwoWayPipe();
  CountingStream leftBytes{kj::mv(pipe.ends[0])};
  kj::Own<CountingStream> rightBytes = kj::heap<CountingStream>(kj::mv(pipe.ends[1]));
  WireCounters leftCounters, rightCounters;
  kj::Own<MessageStream> left;
  kj::Own<MessageStream> right;
  std::vector<capnp::word> content = std::vector<capnp::word>(MAX_MESSAGE / 8 + 2);

  explicit Ends(size_t pauseAbove = 0)
      : left(kj::heap<MessageStream>(leftBytes, leftCounters, MAX_MESSAGE, pauseAbove)),
        right(kj::heap<MessageStream>(*rightBytes, rightCounters, MAX_MESSAGE, 0)) {}

  void send(MessageStream& stream, size_t words) {
    kj::ArrayPtr<const capnp::word> segment = kj::arrayPtr(content.data(), words);
    stream.send(kj::arrayPtr(&segment, 1), []() -> kj::Own<capnp::OutgoingRpcMessage> { return kj::heap<Message>(); });
  }

  // The size of the next message; -1 at the end.
  int64_t receive(MessageStream& stream) {
    KJ_IF_MAYBE (message, stream.receive().wait(waitScope)) {
      return int64_t((*message)->sizeInWords() - ReceivedMessage::CALL_WORDS);
    }
    return -1;
  }
};

TEST(MessageStream, CarriesMessagesBothWays) {
  Ends ends;
  for (size_t words : {1ul, 1000ul, 100000ul, 2ul, MAX_MESSAGE / 8}) {
    ends.send(*ends.left, words);
    ends.send(*ends.right, words + 1 > MAX_MESSAGE / 8 ? 1 : words + 1);
  }
  for (int64_t words : {1l, 1000l, 100000l, 2l, long(MAX_MESSAGE / 8)}) {
    EXPECT_EQ(ends.receive(*ends.right), words);
    EXPECT_EQ(ends.receive(*ends.left), words + 1 > int64_t(MAX_MESSAGE / 8) ? 1 : words + 1);
  }
  EXPECT_EQ(ends.leftCounters.bytesSent, ends.rightCounters.bytesReceived);
  EXPECT_EQ(ends.leftCounters.bytesReceived, ends.rightCounters.bytesSent);
  EXPECT_EQ(ends.leftCounters.messagesSent, 5u);
  EXPECT_EQ(ends.leftCounters.messagesReceived, 5u);
}

TEST(MessageStream, SendsWhatOneTurnProducedInOneWrite) {
  Ends ends;
  for (unsigned i = 0; i < 100; ++i) ends.send(*ends.left, 10);
  EXPECT_EQ(ends.leftBytes.writes, 0u);
  for (unsigned i = 0; i < 100; ++i) EXPECT_EQ(ends.receive(*ends.right), 10);
  EXPECT_EQ(ends.leftBytes.writes, 1u);
  EXPECT_EQ(ends.rightBytes->reads, 2u) << "one to see that there is much, one for all of it";
}

TEST(MessageStream, DoesNotKeepALargeAmountWaitingForTheTurnsEnd) {
  Ends ends;
  for (unsigned i = 0; i < 4; ++i) ends.send(*ends.left, 10000);
  EXPECT_EQ(ends.leftBytes.writes, 1u);
}

TEST(MessageStream, StopsReceivingWhileTooMuchWaitsToBeSent) {
  constexpr size_t HIGH_WATER = 100000;
  Ends ends(HIGH_WATER);
  // A peer that asks and asks, and reads no answer.
  size_t answered = 0;
  kj::Function<kj::Promise<void>()> answer = [&]() {
    return ends.left->receive().then([&](MaybeMessage&& message) -> kj::Promise<void> {
      if (message == nullptr) return kj::READY_NOW;
      ++answered;
      ends.send(*ends.left, 1000);
      return answer();
    });
  };
  auto server = answer().eagerlyEvaluate(nullptr);
  constexpr size_t QUESTIONS = 1000;
  for (size_t i = 0; i < QUESTIONS; ++i) ends.send(*ends.right, 1);
  settle(ends.waitScope);
  size_t before = answered;
  EXPECT_GT(ends.left->queuedBytes(), HIGH_WATER);
  EXPECT_LE(ends.left->queuedBytes(), HIGH_WATER + 2 * 8008);
  EXPECT_LT(before, QUESTIONS);

  // Once it reads, everything is answered.
  for (size_t i = 0; i < QUESTIONS; ++i) EXPECT_EQ(ends.receive(*ends.right), 1000);
  EXPECT_EQ(answered, QUESTIONS);
}

TEST(MessageStream, EndsWithNullWhenThePeerShutsDown) {
  Ends ends;
  ends.send(*ends.left, 5);
  ends.send(*ends.left, 20000);
  auto ended = ends.left->end();
  EXPECT_EQ(ends.receive(*ends.right), 5);
  EXPECT_EQ(ends.receive(*ends.right), 20000);
  ended.wait(ends.waitScope);
  EXPECT_EQ(ends.receive(*ends.right), -1);
}

TEST(MessageStream, EndsAlsoWhenThePeerDoesNotRead) {
  Ends ends;
  ends.send(*ends.left, 20000);
  EXPECT_TRUE(ends.left->end().poll(ends.waitScope));
}

TEST(MessageStream, FailsReadingWhenWritingFailed) {
  Ends ends;
  auto received = ends.left->receive();
  EXPECT_FALSE(received.poll(ends.waitScope));
  ends.right = nullptr;
  ends.rightBytes = nullptr;
  ends.send(*ends.left, 5);
  KJ_IF_MAYBE (exception, kj::runCatchingExceptions([&]() { (void)received.wait(ends.waitScope); })) {
    EXPECT_EQ(exception->getType(), kj::Exception::Type::DISCONNECTED);
  }
  EXPECT_TRUE(ends.left->flushed().poll(ends.waitScope));
}

TEST(MessageStream, TellsWhenEverythingIsSent) {
  Ends ends;
  EXPECT_TRUE(ends.left->flushed().poll(ends.waitScope));
  ends.send(*ends.left, 20000);
  auto flushed = ends.left->flushed();
  EXPECT_FALSE(flushed.poll(ends.waitScope));
  EXPECT_EQ(ends.receive(*ends.right), 20000);
  EXPECT_TRUE(flushed.poll(ends.waitScope));
}

TEST(MessageStream, NamesTheViolation) {
  Ends ends;
  EXPECT_TRUE(ends.right->violation() == nullptr);
  ends.send(*ends.left, MAX_MESSAGE / 8 + 1);
  EXPECT_TRUE(kj::runCatchingExceptions([&]() { ends.receive(*ends.right); }) != nullptr);
  KJ_IF_MAYBE (sentence, ends.right->violation()) {
    EXPECT_NE(std::string(sentence->cStr()).find("1048576"), std::string::npos);
  }
  else {
    ADD_FAILURE() << "no violation";
  }
}

}  // namespace
}  // namespace capstan::rpc
