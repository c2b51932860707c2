#include <capstan/server/files/file.h>

#include <gtest/gtest.h>

#include <capstan/base/digest.h>
#include <capstan/server/files/cache.h>

#include "served.h"

namespace capstan::server::files {
namespace {

std::string noise(size_t size, unsigned seed = 1) {
  std::string bytes(size, '\0');
  uint64_t state = seed;
  for (char& c : bytes) c = char((state = state * 6364136223846793005u + 1442695040888963407u) >> 56);
  return bytes;
}

// With the kernel's answers on the loop, and as on file systems that may not be asked there.
class FileTest : public ::testing::TestWithParam<bool> {
 protected:
  ~FileTest() noexcept override {}

  Served served;
  TempFolder& temp = served.temp;

  schema::File::Client open(const std::string& path) {
    if (GetParam()) return served.open(path);
    auto fd = served.state().root->open(path, O_RDONLY, Follow::YES);
    KJ_REQUIRE(fd.ok(), fd.error().message.c_str());
    auto file = std::make_shared<const OpenFile>(OpenFile{std::move(*fd), path, false});
    return newGuarded<FileServer>(served.state(), View::of(served.state(), ""), file,
                                  *Slot::take(Access::ofOwner(kj::addRef(*served.scope)), Resource::FILES));
  }
  capnp::Response<schema::File::ReadResults> read(schema::File::Client file, uint64_t offset, uint64_t count) {
    auto request = file.readRequest();
    request.setOffset(offset);
    request.setCount(count);
    return served.wait(request.send());
  }
  std::string content(schema::File::Client file, uint64_t offset = 0, uint64_t count = MAX_READ_BYTES) {
    auto response = read(file, offset, count);
    EXPECT_EQ(codeIn(response.getOutcome()), ErrorCode::UNSET);
    return std::string(rpc::asView(response.getData()));
  }
  capnp::Response<schema::File::DigestResults> digest(schema::File::Client file, DigestAlgorithm algorithm) {
    auto request = file.digestRequest();
    request.setAlgorithm(static_cast<schema::DigestAlgorithm>(algorithm));
    return served.wait(request.send());
  }
};

INSTANTIATE_TEST_SUITE_P(Disk, FileTest, ::testing::Bool(),
                         [](auto& info) { return info.param ? "OnTheLoop" : "OnThePool"; });

TEST_P(FileTest, ReadsAnyRange) {
  std::string bytes = noise(3 << 20);
  temp.write("file", bytes);
  temp.write("empty", "");
  auto file = open("file");
  EXPECT_EQ(content(file, 0, 10), bytes.substr(0, 10));
  EXPECT_EQ(content(file, 12345, 100'000), bytes.substr(12345, 100'000));
  auto largest = read(file, 1, ~uint64_t(0));
  EXPECT_EQ(rpc::asView(largest.getData()), std::string_view(bytes).substr(1, MAX_READ_BYTES));
  EXPECT_FALSE(largest.getAtEnd());
  auto last = read(file, bytes.size() - 5, 100);
  EXPECT_EQ(rpc::asView(last.getData()), bytes.substr(bytes.size() - 5));
  EXPECT_TRUE(last.getAtEnd());
  EXPECT_TRUE(read(file, bytes.size() - 5, 5).getAtEnd());
  EXPECT_FALSE(read(file, bytes.size() - 5, 4).getAtEnd());
  for (uint64_t offset : {uint64_t(bytes.size()), uint64_t(bytes.size() + 1), uint64_t(1) << 63, ~uint64_t(0)}) {
    auto beyond = read(file, offset, 100);
    EXPECT_EQ(codeIn(beyond.getOutcome()), ErrorCode::UNSET) << offset;
    EXPECT_EQ(beyond.getData().size(), 0u);
    EXPECT_TRUE(beyond.getAtEnd());
  }
  auto nothing = read(file, 0, 0);
  EXPECT_EQ(nothing.getData().size(), 0u);
  EXPECT_FALSE(nothing.getAtEnd());
  auto empty = read(open("empty"), 0, 100);
  EXPECT_EQ(empty.getData().size(), 0u);
  EXPECT_TRUE(empty.getAtEnd());
}

TEST_P(FileTest, ReadsWhatIsOnTheDiskOnly) {
  std::string bytes = noise(600'000);
  temp.write("file", bytes);
  kj::AutoCloseFd fd(::open((temp / "file").c_str(), O_RDONLY));
  for (bool part : {false, true}) {
    ASSERT_EQ(fsync(fd), 0);
    posix_fadvise(fd, part ? 300'000 : 0, 0, POSIX_FADV_DONTNEED);
    EXPECT_EQ(content(open("file"), 100, 500'000), bytes.substr(100, 500'000));
  }
}

TEST_P(FileTest, StaysWhatItWasAfterRenameRemovalAndReplacement) {
  temp.write("file", "old");
  auto file = open("file");
  EXPECT_EQ(content(file), "old");
  temp.write("other", "new");
  std::filesystem::rename(temp / "other", temp / "file");
  EXPECT_EQ(content(file), "old");
  EXPECT_EQ(content(open("file")), "new");
  auto second = open("file");
  served.wait(second.statRequest().send());
  std::filesystem::remove(temp / "file");
  EXPECT_EQ(content(second), "new");
  EXPECT_EQ(rpc::read(served.wait(second.statRequest().send()).getEntry()).path, "file");
}

TEST_P(FileTest, ASmallFileReadWholeIsCachedAndNeverStale) {
  temp.write("file", "first");
  temp.settle("file");
  auto file = open("file");
  EXPECT_EQ(content(file, 0, 3), "fir");
  EXPECT_EQ(served.folder->figures().cache.entries, 0u) << "it was not read whole";
  EXPECT_EQ(content(file), "first");
  EXPECT_EQ(served.folder->figures().cache.entries, 1u);
  EXPECT_TRUE(served.wait(file.statRequest().send()).getEntry().getCached());
  EXPECT_EQ(content(file, 1, 3), "irs");
  EXPECT_EQ(content(open("file")), "first");
  EXPECT_EQ(served.folder->figures().cache.hits, 2u);

  temp.overwrite("file", "FIRST");  // in place, the same size, at once
  EXPECT_EQ(content(file), "FIRST");
  EXPECT_EQ(content(open("file")), "FIRST");
  EXPECT_FALSE(served.wait(file.statRequest().send()).getEntry().getCached()) << "it changed too lately";
  for (int i = 0; i < 200; ++i) {
    std::string next = "no" + std::to_string(100 + i);
    temp.overwrite("file", next);
    ASSERT_EQ(content(file), next);
    ASSERT_EQ(content(file), next);
  }
}

TEST_P(FileTest, LargeFilesDoNotEnterTheCache) {
  temp.write("file", noise(200'000));  // the cache has 1 MiB
  temp.settle("file");
  EXPECT_EQ(content(open("file")).size(), 200'000u);
  EXPECT_EQ(served.folder->figures().cache.entries, 0u);
}

TEST_P(FileTest, DigestsTheWholeContent) {
  std::string bytes = noise(20 << 20);
  temp.write("large", bytes);
  temp.write("empty", "");
  temp.write("small", "small");
  temp.write("sparse", "begin");
  ASSERT_EQ(truncate((temp / "sparse").c_str(), 40 << 20), 0);
  temp.overwrite("sparse", "middle", 20 << 20);
  std::string sparse = temp.read("sparse");
  ASSERT_EQ(sparse.size(), size_t(40 << 20));
  for (DigestAlgorithm algorithm : {DigestAlgorithm::XXH3, DigestAlgorithm::SHA256}) {
    for (auto& [name, expected] :
         {std::pair<std::string, std::string>("large", bytes), {"empty", ""}, {"small", "small"}, {"sparse", sparse}}) {
      auto response = digest(open(name), algorithm);
      ASSERT_EQ(codeIn(response.getOutcome()), ErrorCode::UNSET) << name;
      EXPECT_EQ(rpc::asView(response.getDigest().getValue()), digestOf(algorithm, expected)) << name;
      EXPECT_EQ(uint16_t(response.getDigest().getAlgorithm()), uint16_t(algorithm));
      EXPECT_EQ(response.getEntry().getSize(), expected.size());
      EXPECT_EQ(rpc::asView(response.getEntry().getVersion()), versionOf(temp.stat(name)));
    }
  }
  EXPECT_EQ(codeIn(digest(open("small"), DigestAlgorithm::UNSET).getOutcome()), ErrorCode::INVALID_ARGUMENT);
  EXPECT_EQ(codeIn(digest(open("small"), DigestAlgorithm(99)).getOutcome()), ErrorCode::INVALID_ARGUMENT);
}

TEST_P(FileTest, DigestsFromTheCacheToo) {
  temp.write("file", "cached content");
  temp.settle("file");
  auto file = open("file");
  content(file);
  EXPECT_EQ(rpc::asView(digest(file, DigestAlgorithm::SHA256).getDigest().getValue()),
            digestOf(DigestAlgorithm::SHA256, "cached content"));
  EXPECT_EQ(served.folder->figures().cache.hits, 1u);
}

TEST_P(FileTest, ADigestOfAFileThatChangesMeanwhileIsRefused) {
  temp.write("file", noise(64 << 20));
  auto file = open("file");
  auto request = file.digestRequest();
  request.setAlgorithm(schema::DigestAlgorithm::SHA256);
  auto promise = request.send();
  while (!promise.poll(served.waitScope)) temp.overwrite("file", "changed", 63 << 20);
  EXPECT_EQ(codeIn(served.wait(kj::mv(promise)).getOutcome()), ErrorCode::CHANGED);
}

TEST(Budget, LetsThoseWaitInOrderWhoWantMoreThanThereIs) {
  kj::EventLoop loop;
  kj::WaitScope waitScope(loop);
  Budget budget(100);
  auto first = kj::heap(budget.take(60).wait(waitScope));
  auto second = kj::heap(budget.take(60).wait(waitScope));  // may go beyond the limit
  auto third = budget.take(10);
  auto dropped = kj::heap(budget.take(90));
  auto fourth = budget.take(50);
  EXPECT_FALSE(third.poll(waitScope));
  dropped = nullptr;
  first = nullptr;
  EXPECT_TRUE(third.poll(waitScope));
  EXPECT_TRUE(fourth.poll(waitScope));
  second = nullptr;
  auto last = budget.take(1);
  EXPECT_TRUE(last.poll(waitScope));
}

TEST_P(FileTest, AnswersManyLargeReadsFromTheDiskALittleAtATime) {
  std::string content(4 << 20, 'x');
  served.temp.write("large", content);
  auto file = open("large");
  kj::Vector<kj::Promise<void>> reads;
  unsigned answered = 0;
  for (int i = 0; i < 100; ++i) {
    auto request = file.readRequest();
    request.setOffset(uint64_t(i % 4) << 20);
    request.setCount(1 << 20);
    reads.add(request.send().then([&](auto&& response) {
      ++answered;
      EXPECT_EQ(response.getData().size(), size_t(1) << 20);
    }));
  }
  served.waitScope.poll();
  EXPECT_LE(served.pool.pending(), ANSWER_BYTES_LIMIT / MAX_READ_BYTES);
  served.wait(kj::joinPromises(reads.releaseAsArray()));
  EXPECT_EQ(answered, 100u);
}

}  // namespace
}  // namespace capstan::server::files
