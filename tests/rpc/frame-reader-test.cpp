#include <capstan/rpc/frame-reader.h>

#include <gtest/gtest.h>

#include "frames.h"

namespace capstan::rpc {
namespace {

constexpr size_t MAX_MESSAGE = 1 << 20;

struct Reader {
  kj::EventLoop loop;
  kj::WaitScope waitScope{loop};
  WireCounters counters;
  PortionedInput input;
  FrameReader reader{MAX_MESSAGE, capnp::ReaderOptions(), counters};

  explicit Reader(std::vector<std::string> portions) : input(std::move(portions)) {}

  // All messages up to the end of the stream, as frames.
  std::vector<std::string> all() {
    std::vector<std::string> messages;
    while (true) {
      KJ_IF_MAYBE (message, reader.next()) {
        messages.push_back(frameOf(**message));
      }
      else if (!reader.fill(input).wait(waitScope)) {
        return messages;
      }
    }
  }

  // The sentence with which the input is refused; empty if it is not.
  std::string refusal() {
    KJ_IF_MAYBE (exception, kj::runCatchingExceptions([this]() { all(); })) {
      EXPECT_EQ(exception->getType(), kj::Exception::Type::FAILED);
      KJ_IF_MAYBE (text, reader.violation()) {
        EXPECT_EQ(exception->getDescription(), *text);
        return text->cStr();
      }
      ADD_FAILURE() << "not a violation: " << exception->getDescription().cStr();
    }
    return {};
  }
};

std::string number(uint32_t value) { return {char(value), char(value >> 8), char(value >> 16), char(value >> 24)}; }

TEST(FrameReader, ReadsMessagesOfAllSizes) {
  std::string bytes;
  std::vector<std::string> expected;
  for (size_t words : {0ul, 1ul, 2ul, 3ul, 100ul, 2047ul, 2048ul, 2049ul, 8190ul, 8191ul, 8192ul, 8193ul, 50000ul, 1ul,
                       131072ul, 7ul}) {
    expected.push_back(frameOf({words}));
    bytes += expected.back();
  }
  Reader reader({bytes});
  EXPECT_EQ(reader.all(), expected);
  EXPECT_EQ(reader.counters.messagesReceived, expected.size());
  EXPECT_EQ(reader.counters.bytesReceived, bytes.size());
}

TEST(FrameReader, ReadsMessagesSplitAtEveryByte) {
  std::vector<std::string> expected{frameOf({3}), frameOf({1, 0, 2}), frameOf({2, 2}), frameOf({5})};
  std::string bytes;
  for (auto& frame : expected) bytes += frame;
  for (size_t split = 1; split < bytes.size(); ++split) {
    Reader reader({bytes.substr(0, split), bytes.substr(split)});
    EXPECT_EQ(reader.all(), expected) << split;
  }
  std::vector<std::string> singles;
  for (char c : bytes) singles.emplace_back(1, c);
  EXPECT_EQ(Reader(singles).all(), expected);
}

TEST(FrameReader, ReadsALargeMessageSplitAnywhereInItsBeginning) {
  std::vector<std::string> expected{frameOf({1}), frameOf({3, 4000}), frameOf({2})};
  std::string bytes = expected[0] + expected[1] + expected[2];
  for (size_t split = 1; split < 64; ++split) {
    Reader reader({bytes.substr(0, split), bytes.substr(split, 5000), bytes.substr(split + 5000)});
    EXPECT_EQ(reader.all(), expected) << split;
  }
}

TEST(FrameReader, ServesManySmallMessagesWithTwoReads) {
  std::string bytes;
  for (unsigned i = 0; i < 500; ++i) bytes += frameOf({10});
  Reader reader({bytes});
  EXPECT_EQ(reader.all().size(), 500u);
  EXPECT_EQ(reader.input.reads, 3u);  // the first shows that there is much, the last is for the end
}

TEST(FrameReader, WaitsWithLittleMemoryOnceLittleComes) {
  std::string many;
  for (unsigned i = 0; i < 500; ++i) many += frameOf({10});
  Reader reader({frameOf({10}), many, frameOf({10}), frameOf({10})});
  constexpr size_t LITTLE = 1 << 10;
  std::vector<bool> little;
  for (bool more = true; more;) {
    while (reader.reader.next() != nullptr) continue;
    more = reader.reader.fill(reader.input).wait(reader.waitScope);
    little.push_back(reader.input.lastRoom == LITTLE);
  }
  EXPECT_EQ(little, (std::vector<bool>{true, true, false, false, true, true}));
}

TEST(FrameReader, KeepsTheBeginningOfAMessageWhereverItWaitsForTheRest) {
  // Each larger than the buffer of an idle connection, and not so large that it gets memory of its own at once.
  std::vector<std::string> expected;
  std::vector<std::string> portions;
  for (size_t words : {2000u, 200u, 1u, 1900u}) {
    std::string frame = frameOf({words});
    expected.push_back(frame);
    portions.push_back(frame.substr(0, frame.size() / 3));
    portions.push_back(frame.substr(frame.size() / 3));
  }
  EXPECT_EQ(Reader(std::move(portions)).all(), expected);
}

TEST(FrameReader, ReadsALargeMessageStraightIntoItsPlace) {
  Reader reader({frameOf({100000})});
  EXPECT_EQ(reader.all().size(), 1u);
  EXPECT_EQ(reader.input.reads, 3u);  // its beginning, the rest at once, the end
}

TEST(FrameReader, TakesUpTo512Segments) {
  for (size_t count : {2u, 3u, 4u, 255u, 511u, 512u}) {
    std::string frame = frameOf(std::vector<size_t>(count, 1));
    EXPECT_EQ(Reader({frame}).all(), std::vector<std::string>{frame}) << count;
  }
}

TEST(FrameReader, Refuses513Segments) {
  std::string refusal = Reader({frameOf(std::vector<size_t>(513, 1))}).refusal();
  EXPECT_NE(refusal.find("513"), std::string::npos) << refusal;
  EXPECT_NE(refusal.find("512"), std::string::npos) << refusal;
}

TEST(FrameReader, RefusesASegmentCountThatOverflows) {
  EXPECT_NE(Reader({number(0xffffffff) + number(0)}).refusal(), "");
  EXPECT_NE(Reader({number(0xfffffffe) + number(0)}).refusal(), "");
  EXPECT_NE(Reader({std::string(64, '\xff')}).refusal(), "");
}

TEST(FrameReader, RefusesAMessageThatIsTooLongBeforeTakingMemory) {
  EXPECT_EQ(Reader({frameOf({MAX_MESSAGE / 8})}).refusal(), "");
  EXPECT_NE(Reader({number(0) + number(MAX_MESSAGE / 8 + 1)}).refusal(), "");
  // 34 GB, and more than 32 bits can count when summed up.
  EXPECT_NE(Reader({number(0) + number(0xffffffff)}).refusal(), "");
  EXPECT_NE(Reader({number(1) + number(0xffffffff) + number(1) + number(0)}).refusal(), "");
  EXPECT_NE(Reader({number(2) + number(0x80000000) + number(0x80000000) + number(0)}).refusal(), "");
}

TEST(FrameReader, RefusesOtherProtocols) {
  EXPECT_NE(Reader({"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"}).refusal(), "");
  EXPECT_NE(Reader({"SSH-2.0-OpenSSH_9.2\r\n"}).refusal(), "");
  EXPECT_NE(Reader({std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03", 10)}).refusal(), "");
}

TEST(FrameReader, EndsQuietlyBetweenMessages) {
  EXPECT_TRUE(Reader({}).all().empty());
  EXPECT_EQ(Reader({frameOf({1})}).all().size(), 1u);
}

TEST(FrameReader, TellsThatAMessageWasCutOff) {
  for (auto& frame : {frameOf({3}), frameOf({1, 1, 1, 1}), frameOf({10000})}) {
    for (size_t length : {size_t(1), size_t(4), size_t(7), size_t(8), size_t(12), frame.size() / 2, frame.size() - 1}) {
      Reader reader({frame.substr(0, length)});
      KJ_IF_MAYBE (exception, kj::runCatchingExceptions([&]() { reader.all(); })) {
        EXPECT_EQ(exception->getType(), kj::Exception::Type::DISCONNECTED) << length;
        EXPECT_TRUE(reader.reader.violation() == nullptr);
      }
      else {
        ADD_FAILURE() << "ended quietly after " << length;
      }
    }
  }
}

}  // namespace
}  // namespace capstan::rpc
