#include <capstan/rpc/frame-writer.h>

#include <gtest/gtest.h>

#include "frames.h"

namespace capstan::rpc {
namespace {

// What keeps segments alive; says when it is gone.
class Owner final : public capnp::OutgoingRpcMessage {
 public:
  explicit Owner(unsigned& alive) : alive(alive) { ++alive; }
  ~Owner() { --alive; }
  capnp::AnyPointer::Builder getBody() override { KJ_UNREACHABLE; }
  void send() override {}
  size_t sizeInWords() override { return 0; }

 private:
  unsigned& alive;
};

struct Writer {
  kj::EventLoop loop;
  kj::WaitScope waitScope{loop};
  WireCounters counters;
  RecordingOutput output;
  unsigned failures = 0;
  unsigned owners = 0;
  FrameWriter writer{output, counters, [this](const kj::Exception&) { ++failures; }};

  // Queues the message of a frame made by frameOf(). True if it was copied.
  bool queue(const std::string& frame, const std::vector<size_t>& segmentWords) {
    size_t at = (segmentWords.size() / 2 + 1) * 8;
    std::vector<kj::ArrayPtr<const capnp::word>> segments;
    for (size_t words : segmentWords) {
      segments.push_back(kj::arrayPtr(reinterpret_cast<const capnp::word*>(frame.data() + at), words));
      at += words * 8;
    }
    auto array = kj::arrayPtr(segments.data(), segments.size());
    if (writer.tryQueueCopy(array)) return true;
    writer.queueByReference(array, kj::heap<Owner>(owners));
    return false;
  }

  void turn() {
    kj::evalLast([]() {}).wait(waitScope);
  }
};

TEST(FrameWriter, WritesWhatTheReaderReads) {
  Writer writer;
  std::string expected;
  std::vector<std::string> frames;
  for (std::vector<size_t> sizes : std::vector<std::vector<size_t>>{
           {1}, {0}, {1, 2}, {1, 2, 3}, {1000}, {1023}, {1024}, {5, 2000}, {2000, 5, 200}, {40000}, {3}}) {
    frames.push_back(frameOf(sizes));
    writer.queue(frames.back(), sizes);
    expected += frames.back();
  }
  EXPECT_EQ(writer.writer.queuedBytes(), expected.size());
  writer.writer.flush();
  writer.turn();
  EXPECT_EQ(writer.output.bytes, expected);
  EXPECT_EQ(writer.counters.bytesSent, expected.size());
  EXPECT_EQ(writer.counters.messagesSent, frames.size());
  EXPECT_EQ(writer.writer.queuedBytes(), 0u);
}

TEST(FrameWriter, SendsManySmallMessagesInOneWrite) {
  Writer writer;
  std::string expected;
  for (unsigned i = 0; i < 2000; ++i) {
    std::string frame = frameOf({i % 20 + 1});
    EXPECT_TRUE(writer.queue(frame, {i % 20 + 1}));  // copied: the frame dies here
    expected += frame;
  }
  writer.writer.flush();
  writer.turn();
  EXPECT_EQ(writer.output.writes, 1u);
  EXPECT_EQ(writer.output.bytes, expected);
}

TEST(FrameWriter, GathersLargeSegmentsWithoutACopy) {
  Writer writer;
  std::string frame = frameOf({10000});
  EXPECT_FALSE(writer.queue(frame, {10000}));
  EXPECT_EQ(writer.owners, 1u);
  writer.output.hold();
  writer.writer.flush();
  writer.turn();
  ASSERT_EQ(writer.output.addresses.size(), 2u);
  EXPECT_EQ(static_cast<const void*>(writer.output.addresses[1]), frame.data() + 8);
  EXPECT_EQ(writer.owners, 1u);  // still needed
  writer.output.release();
  writer.turn();
  EXPECT_EQ(writer.owners, 0u);
}

TEST(FrameWriter, GathersWhatComesDuringAWriteIntoTheNext) {
  Writer writer;
  writer.output.hold();
  std::string frame = frameOf({1});
  writer.queue(frame, {1});
  writer.writer.flush();
  for (unsigned i = 0; i < 100; ++i) {
    writer.queue(frame, {1});
    writer.writer.flush();
  }
  EXPECT_EQ(writer.output.writes, 1u);
  EXPECT_EQ(writer.writer.queuedBytes(), 101 * frame.size());
  writer.output.release();
  writer.turn();
  EXPECT_EQ(writer.output.writes, 2u);
  EXPECT_EQ(writer.output.bytes.size(), 101 * frame.size());
}

TEST(FrameWriter, TellsWhenTheQueueIsShort) {
  Writer writer;
  writer.output.hold();
  std::string frame = frameOf({100});
  for (unsigned i = 0; i < 10; ++i) writer.queue(frame, {100});
  writer.writer.flush();
  writer.queue(frame, {100});
  auto short1 = writer.writer.whenAtMost(2 * frame.size());
  auto empty = writer.writer.whenAtMost(0);
  EXPECT_FALSE(short1.poll(writer.waitScope));
  writer.output.release();
  writer.output.hold();  // the second write stays
  EXPECT_TRUE(short1.poll(writer.waitScope));
  EXPECT_FALSE(empty.poll(writer.waitScope));
  writer.output.release();
  EXPECT_TRUE(empty.poll(writer.waitScope));
  EXPECT_TRUE(writer.writer.whenAtMost(0).poll(writer.waitScope));
}

TEST(FrameWriter, TellsOnceOfAFailureAndDropsTheRest) {
  Writer writer;
  std::string small = frameOf({1}), large = frameOf({10000});
  writer.output.failFromNowOn();
  writer.queue(small, {1});
  writer.queue(large, {10000});
  auto empty = writer.writer.whenAtMost(0);
  writer.writer.flush();
  writer.turn();
  EXPECT_EQ(writer.failures, 1u);
  EXPECT_EQ(writer.owners, 0u);
  EXPECT_TRUE(empty.poll(writer.waitScope));
  writer.queue(small, {1});
  writer.queue(large, {10000});
  writer.writer.flush();
  writer.turn();
  EXPECT_EQ(writer.failures, 1u);
  EXPECT_EQ(writer.owners, 0u);
  EXPECT_EQ(writer.writer.queuedBytes(), 0u);
  EXPECT_EQ(writer.output.bytes, "");
}

}  // namespace
}  // namespace capstan::rpc
