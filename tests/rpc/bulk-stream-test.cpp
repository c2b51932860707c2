#include <capstan/rpc/bulk-stream.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <kj/async-io.h>
#include <kj/debug.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace capstan::rpc {
namespace {

// Notes each call, and takes or brings bytes when the test says so.
class Wire final : public kj::AsyncIoStream {
 public:
  std::vector<std::string> writes;
  std::string incoming;
  std::vector<size_t> readSizes;
  bool isShut = false, isOpen = true;
  kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>> held;
  bool hold = false;

  kj::Promise<size_t> tryRead(void* buffer, size_t, size_t maxBytes) override {
    readSizes.push_back(maxBytes);
    size_t count = std::min(maxBytes, incoming.size());
    memcpy(buffer, incoming.data(), count);
    incoming.erase(0, count);
    return count;
  }
  kj::Promise<void> write(const void* buffer, size_t size) override {
    if (!isOpen) return KJ_EXCEPTION(DISCONNECTED, "the peer left");
    writes.emplace_back(static_cast<const char*>(buffer), size);
    if (!hold) return kj::READY_NOW;
    auto paf = kj::newPromiseAndFulfiller<void>();
    held = kj::mv(paf.fulfiller);
    return kj::mv(paf.promise);
  }
  kj::Promise<void> write(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>>) override { KJ_UNIMPLEMENTED("unused"); }
  kj::Promise<void> whenWriteDisconnected() override { return kj::NEVER_DONE; }
  void shutdownWrite() override { isShut = true; }
  void release() {
    auto fulfiller = kj::mv(KJ_ASSERT_NONNULL(held));
    held = nullptr;
    fulfiller->fulfill();
  }
};

struct BulkStreamTest : testing::Test {
  kj::EventLoop loop;
  kj::WaitScope scope{loop};
  kj::Own<Wire> owned = kj::heap<Wire>();
  Wire& wire = *owned;
  kj::Own<BulkStream> streamOwned = kj::heap<BulkStream>(kj::mv(owned));
  BulkStream& stream = *streamOwned;
  ~BulkStreamTest() noexcept override { streamOwned = nullptr; }

  bool write(std::string_view text) { return stream.write(text.data(), text.size()).poll(scope); }
  void endTurn() { kj::Promise<void>(kj::NEVER_DONE).poll(scope); }
  std::string read(size_t min, size_t max) {
    std::string text(max, '?');
    text.resize(stream.tryRead(text.data(), min, max).wait(scope));
    return text;
  }
};

TEST_F(BulkStreamTest, SendsManySmallWritesAsOneAtTheEndOfTheTurn) {
  auto first = stream.write("a", 1);
  auto second = stream.write("bc", 2);
  EXPECT_TRUE(wire.writes.empty());
  first.wait(scope);
  second.wait(scope);
  endTurn();
  EXPECT_THAT(wire.writes, testing::ElementsAre("abc"));
}

TEST_F(BulkStreamTest, LetsNobodyWriteWithoutEnd) {
  wire.hold = true;
  std::string much(300 << 10, 'x');
  auto first = stream.write(much.data(), much.size());
  EXPECT_TRUE(first.poll(scope)) << "this much goes to the wire at once";
  auto second = stream.write(much.data(), much.size());
  EXPECT_FALSE(second.poll(scope));
  wire.release();
  EXPECT_TRUE(second.poll(scope));
  EXPECT_EQ(wire.writes.size(), 2u);
}

TEST_F(BulkStreamTest, TellsOfAFailureWithTheNextWrite) {
  wire.isOpen = false;
  EXPECT_TRUE(write("lost"));
  endTurn();
  EXPECT_ANY_THROW(stream.write("more", 4).wait(scope));
}

TEST_F(BulkStreamTest, FreesAWriterThatWaitsWhenTheConnectionBreaks) {
  wire.hold = true;
  std::string much(300 << 10, 'x');
  stream.write(much.data(), much.size()).wait(scope);
  auto waiting = stream.write(much.data(), much.size());
  EXPECT_FALSE(waiting.poll(scope));
  auto fulfiller = kj::mv(KJ_ASSERT_NONNULL(wire.held));
  fulfiller->reject(KJ_EXCEPTION(DISCONNECTED, "the peer left"));
  EXPECT_ANY_THROW(waiting.wait(scope));
}

TEST_F(BulkStreamTest, ShutsDownBehindWhatWasWritten) {
  wire.hold = true;
  EXPECT_TRUE(write("last words"));
  stream.shutdownWrite();
  EXPECT_FALSE(wire.isShut);
  EXPECT_THAT(wire.writes, testing::ElementsAre("last words"));
  wire.release();
  endTurn();
  EXPECT_TRUE(wire.isShut);
}

TEST_F(BulkStreamTest, ReadsInLargeBlocksWhenMuchComesAndSmallOnesWhenLittleDoes) {
  std::string all;
  for (int i = 0; i < 3'000'000; ++i) all += char(i * 31 >> 3);
  wire.incoming = all;
  std::string got;
  while (got.size() < all.size()) got += read(1, 1000);
  EXPECT_EQ(got, all);
  EXPECT_EQ(*std::max_element(wire.readSizes.begin(), wire.readSizes.end()), 256u << 10);
  EXPECT_LT(wire.readSizes.size(), 30u);
  wire.incoming = "little";
  read(1, 100);
  EXPECT_EQ(read(1, 100), "") << "the end";
  EXPECT_EQ(wire.readSizes.back(), 1u << 10);
}

TEST_F(BulkStreamTest, WaitsForAsMuchAsIsWanted) {
  wire.incoming = "12345678";
  EXPECT_EQ(read(3, 3), "123");
  EXPECT_EQ(read(5, 100), "45678");
  EXPECT_EQ(read(5, 100), "") << "the end";
}

TEST_F(BulkStreamTest, TellsHowMuchThereWasAtAnEarlyEnd) {
  wire.incoming = "12";
  EXPECT_EQ(read(5, 100), "12");
}

}  // namespace
}  // namespace capstan::rpc
