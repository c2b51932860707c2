#include <capstan/server/files/stream.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <capstan/server/files/file.h>

#include "served.h"

namespace capstan::server::files {
namespace {

using ::testing::HasSubstr;

std::string noise(size_t size) {
  std::string bytes(size, '\0');
  uint64_t state = 7;
  for (char& c : bytes) c = char((state = state * 6364136223846793005u + 1442695040888963407u) >> 56);
  return bytes;
}

class StreamTest : public ::testing::TestWithParam<bool> {
 protected:
  ~StreamTest() noexcept override {}

  Received received;  // outlives what refers to it
  Served served{16 << 20};
  TempFolder& temp = served.temp;

  schema::File::Client open(const std::string& path) {
    if (GetParam()) return served.open(path);
    auto fd = served.state().root->open(path, O_RDONLY, Follow::YES);
    KJ_REQUIRE(fd.ok(), fd.error().message.c_str());
    auto file = std::make_shared<const OpenFile>(OpenFile{std::move(*fd), path, false});
    return newGuarded<FileServer>(served.state(), View::of(served.state(), ""), file,
                                  *Slot::take(Access::ofOwner(kj::addRef(*served.scope)), Resource::FILES));
  }
  capnp::RemotePromise<schema::File::StreamResults> start(schema::File::Client file, uint64_t offset = 0,
                                                          uint64_t count = ~uint64_t(0)) {
    auto request = file.streamRequest();
    request.setSink(kj::heap<RecordingSink>(received));
    request.setOffset(offset);
    request.setCount(count);
    return request.send();
  }
  capnp::Response<schema::File::StreamResults> stream(const std::string& path, uint64_t offset = 0,
                                                      uint64_t count = ~uint64_t(0)) {
    received = Received();
    return served.wait(start(open(path), offset, count));
  }
};

INSTANTIATE_TEST_SUITE_P(Disk, StreamTest, ::testing::Bool(),
                         [](auto& info) { return info.param ? "OnTheLoop" : "OnThePool"; });

TEST_P(StreamTest, SendsAnyRangeAndEndsTheSink) {
  std::string bytes = noise((3 << 20) + 12345);
  temp.write("file", bytes);
  temp.write("empty", "");
  uint64_t size = bytes.size();
  for (auto [offset, count] : {std::pair<uint64_t, uint64_t>(0, ~uint64_t(0)),
                               {0, size},
                               {5, 100},
                               {1 << 20, 1 << 20},
                               {size - 1, 5},
                               {size, 5},
                               {size + 5, 5},
                               {~uint64_t(0), ~uint64_t(0)},
                               {0, 0}}) {
    auto response = stream("file", offset, count);
    ASSERT_EQ(codeIn(response.getOutcome()), ErrorCode::UNSET) << offset;
    std::string expected = offset > size ? "" : bytes.substr(offset, count);
    EXPECT_EQ(received.bytes.size(), expected.size()) << offset;
    EXPECT_TRUE(received.bytes == expected) << offset;
    EXPECT_EQ(response.getCount(), expected.size()) << offset;
    EXPECT_TRUE(received.ended);
    EXPECT_EQ(rpc::read(response.getEntry()).size, size);
    EXPECT_EQ(rpc::read(response.getEntry()).path, "file");
  }
  EXPECT_EQ(stream("empty").getCount(), 0u);
  EXPECT_TRUE(received.ended);
  EXPECT_EQ(received.writes, 0u);
  EXPECT_EQ(served.scope->meter->used(Resource::STREAMS), 0u);
}

TEST_P(StreamTest, SkipsHoles) {
  temp.write("file", noise(100'000));
  ASSERT_EQ(truncate((temp / "file").c_str(), 8 << 20), 0);
  temp.overwrite("file", noise(50'000), 4 << 20);
  std::string bytes = temp.read("file");
  auto response = stream("file");
  EXPECT_EQ(response.getCount(), uint64_t(8 << 20));
  EXPECT_TRUE(received.bytes == bytes);
  EXPECT_GT(received.skipped, uint64_t(7 << 20));
  EXPECT_TRUE(received.ended);
  stream("file", 1 << 20, 2 << 20);
  EXPECT_EQ(received.skipped, uint64_t(2 << 20));
  EXPECT_EQ(received.writes, 0u);
  stream("file", 50, (4 << 20) + 100);
  EXPECT_TRUE(received.bytes == bytes.substr(50, (4 << 20) + 100));

  temp.write("hole", "");
  ASSERT_EQ(truncate((temp / "hole").c_str(), off_t(1) << 23), 0);
  EXPECT_EQ(stream("hole").getCount(), uint64_t(1) << 23);
  EXPECT_EQ(received.writes, 0u);
}

TEST_P(StreamTest, ReadsSmallHolesAsData) {
  temp.write("file", "x");
  for (int i = 0; i < 64; ++i) temp.overwrite("file", noise(4096), uint64_t(i) * 16384);
  std::string bytes = temp.read("file");
  stream("file");
  EXPECT_EQ(received.skipped, 0u);
  EXPECT_TRUE(received.bytes == bytes);
}

TEST_P(StreamTest, SendsWhatIsOnTheDiskOnly) {
  std::string bytes = noise(3 << 20);
  temp.write("file", bytes);
  kj::AutoCloseFd fd(::open((temp / "file").c_str(), O_RDONLY));
  ASSERT_EQ(fsync(fd), 0);
  posix_fadvise(fd, 1 << 20, 0, POSIX_FADV_DONTNEED);
  stream("file");
  EXPECT_TRUE(received.bytes == bytes);
}

TEST_P(StreamTest, AFileStreamedWholeIsCached) {
  std::string bytes = noise(1'500'000);
  temp.write("file", bytes);
  temp.settle("file");
  stream("file", 0, 1000);
  EXPECT_EQ(served.folder->figures().cache.entries, 0u);
  EXPECT_TRUE(stream("file").getEntry().getCached());
  EXPECT_EQ(served.folder->figures().cache.entries, 1u);
  EXPECT_TRUE(stream("file").getEntry().getCached());
  EXPECT_TRUE(received.bytes == bytes);
  EXPECT_EQ(served.folder->figures().cache.hits, 1u);
  stream("file", 100, 300'000);
  EXPECT_TRUE(received.bytes == bytes.substr(100, 300'000));
  temp.overwrite("file", "new", 700'000);
  stream("file");
  EXPECT_TRUE(received.bytes == temp.read("file"));
}

TEST_P(StreamTest, ASparseFileIsCachedAsWhatItReads) {
  temp.write("file", "begin");
  ASSERT_EQ(truncate((temp / "file").c_str(), 1'000'000), 0);
  temp.overwrite("file", "end", 999'997);
  temp.settle("file");
  for (int i = 0; i < 2; ++i) {
    stream("file");
    EXPECT_TRUE(received.bytes == temp.read("file"));
  }
  EXPECT_EQ(received.skipped, 0u) << "the second time it came from the cache";
}

TEST_P(StreamTest, WaitsForASlowSinkAndHoldsLittleMeanwhile) {
  temp.write("file", noise(12 << 20));
  auto gate = kj::newPromiseAndFulfiller<void>();
  received.gate = kj::mv(gate.promise);
  auto promise = start(open("file"));
  served.turnUntil([&] { return received.writes > 0; });
  for (int i = 0; i < 1000; ++i) served.waitScope.poll();
  EXPECT_FALSE(promise.poll(served.waitScope));
  EXPECT_LT(received.bytes.size(), size_t(8 << 20)) << "no more than a window is on its way";
  EXPECT_EQ(served.scope->meter->used(Resource::STREAMS), 1u);
  gate.fulfiller->fulfill();
  EXPECT_EQ(served.wait(kj::mv(promise)).getCount(), uint64_t(12 << 20));
}

TEST_P(StreamTest, StopsWhenTheCallIsDropped) {
  temp.write("file", noise(12 << 20));
  auto gate = kj::newPromiseAndFulfiller<void>();
  received.gate = kj::mv(gate.promise);
  {
    auto promise = start(open("file"));
    served.turnUntil([&] { return received.writes > 0; });
    EXPECT_EQ(served.scope->meter->used(Resource::STREAMS), 1u);
  }
  gate.fulfiller->fulfill();
  served.turnUntil([&] { return served.scope->meter->used(Resource::STREAMS) == 0 && received.dropped; });
  EXPECT_FALSE(received.ended);
  EXPECT_LT(received.bytes.size(), size_t(12 << 20));
}

TEST_P(StreamTest, SaysWhyTheSinkFailed) {
  temp.write("file", noise(3 << 20));
  received.fails = true;
  auto response = served.wait(start(open("file")));
  auto error = KJ_ASSERT_NONNULL(rpc::errorIn(response.getOutcome()));
  EXPECT_THAT(error.message, HasSubstr("the sink is broken"));
  EXPECT_FALSE(received.ended);
}

TEST_P(StreamTest, AFileThatChangesMeanwhileIsNotEnded) {
  for (bool shorter : {false, true}) {
    received = Received();
    temp.write("file", noise(24 << 20));
    auto gate = kj::newPromiseAndFulfiller<void>();
    received.gate = kj::mv(gate.promise);
    auto promise = start(open("file"));
    served.turnUntil([&] { return received.writes > 0; });
    if (shorter) {
      ASSERT_EQ(truncate((temp / "file").c_str(), 1000), 0);
    } else {
      temp.settle("file");
      temp.overwrite("file", "changed", 20 << 20);
    }
    gate.fulfiller->fulfill();
    EXPECT_EQ(codeIn(served.wait(kj::mv(promise)).getOutcome()), ErrorCode::CHANGED);
    EXPECT_FALSE(received.ended);
  }
}

TEST_P(StreamTest, ARenameMeanwhileIsNoChange) {
  temp.write("file", noise(12 << 20));
  auto gate = kj::newPromiseAndFulfiller<void>();
  received.gate = kj::mv(gate.promise);
  auto promise = start(open("file"));
  served.turnUntil([&] { return received.writes > 0; });
  std::filesystem::rename(temp / "file", temp / "other");
  gate.fulfiller->fulfill();
  EXPECT_EQ(codeIn(served.wait(kj::mv(promise)).getOutcome()), ErrorCode::UNSET);
  EXPECT_TRUE(received.ended);
}

}  // namespace
}  // namespace capstan::server::files
