// Chunks of files: whatever is known of an earlier content, the result is that of cutting from scratch.
#include <fcntl.h>
#include <unistd.h>

#include <kj/io.h>

#include <capstan/base/digest.h>
#include <capstan/sync/cut.h>

#include "local-fixture.h"

namespace capstan::sync {
namespace {

std::vector<Chunk> cutInMemory(std::string_view content) {
  std::vector<Chunk> chunks;
  while (!content.empty()) {
    size_t length = chunkLength(content);
    chunks.push_back(chunkOf(content.substr(0, length)));
    content.remove_prefix(length);
  }
  return chunks;
}

class CutTest : public LocalTest {
 protected:
  Result<Content::Cut> cut(const std::string& content, const std::vector<Chunk>& known) {
    write("file", content);
    kj::AutoCloseFd fd(open(path("file").c_str(), O_RDONLY | O_CLOEXEC));
    return cutFile(fd, content.size(), known, "file");
  }
  void expectCanonical(const std::string& content, const std::vector<Chunk>& known) {
    auto result = expectOk(cut(content, known));
    EXPECT_EQ(result.chunks, cutInMemory(content));
    EXPECT_EQ(result.digest, digestOf(DigestAlgorithm::XXH3, content));
  }
};

TEST_F(CutTest, AnswersTheSameWhateverIsKnown) {
  std::mt19937_64 random(11);
  std::string content = randomContent(3'000'000, 5);
  std::vector<Chunk> known;
  for (int round = 0; round < 40; ++round) {
    expectCanonical(content, known);
    if (round % 3 != 0) known = cutInMemory(content);
    size_t at = random() % content.size();
    switch (random() % 5) {
      case 0: content[at] ^= 1; break;
      case 1: content.insert(at, randomContent(random() % 100'000, unsigned(random()))); break;
      case 2: content.erase(at, random() % 300'000); break;
      case 3: content += content.substr(at, 200'000); break;
      case 4: content.resize(at); break;
    }
    if (content.size() < 500'000) content += randomContent(1'000'000, unsigned(round));
  }
}

TEST_F(CutTest, AnswersTheSameWhenWhatIsKnownIsWrong) {
  std::string content = randomContent(1'000'000);
  std::vector<Chunk> known = cutInMemory(content);
  std::vector<Chunk> wrong = known;
  wrong[3].length = 0;
  wrong[5].length = UINT32_MAX;
  wrong[7].low ^= 1;
  expectCanonical(content, wrong);
  expectCanonical("", known);
  expectCanonical("short", known);
  // The last chunk of a content that went on since.
  expectCanonical(content + "and more of it", known);
  expectCanonical(content.substr(0, content.size() - 1), known);
}

TEST_F(CutTest, AnswersTheSameForRepetitions) {
  std::string part = randomContent(150'000);
  std::string content = part + part + part + std::string(400'000, '\0') + part;
  std::vector<Chunk> known = cutInMemory(content);
  expectCanonical(content, known);
  expectCanonical(part + "x" + content, known);
  expectCanonical(std::string(1'000'000, '\0'), known);
}

TEST_F(CutTest, ReadsHolesAsZeros) {
  kj::AutoCloseFd fd(open(path("sparse").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  std::string data = randomContent(300'000);
  ASSERT_EQ(pwrite(fd, data.data(), data.size(), 5 << 20), ssize_t(data.size()));
  ASSERT_EQ(ftruncate(fd, 8 << 20), 0);
  std::string content(8 << 20, '\0');
  content.replace(5 << 20, data.size(), data);
  auto result = expectOk(cutFile(fd, content.size(), {}, "sparse"));
  EXPECT_EQ(result.chunks, cutInMemory(content));
  EXPECT_EQ(result.digest, digestOf(DigestAlgorithm::XXH3, content));
  EXPECT_EQ(expectOk(digestOfFile(fd, content.size(), "sparse")), result.digest);
}

TEST_F(CutTest, AFileThatBecameShorterIsChanged) {
  write("file", randomContent(600'000));
  kj::AutoCloseFd fd(open(path("file").c_str(), O_RDONLY | O_CLOEXEC));
  expectError(cutFile(fd, 600'001, {}, "file"), ErrorCode::CHANGED);
  expectError(digestOfFile(fd, 5'000'000, "file"), ErrorCode::CHANGED);
  std::atomic<bool> cancelled = true;
  expectError(cutFile(fd, 600'000, {}, "file", &cancelled), ErrorCode::CANCELLED);
}

}  // namespace
}  // namespace capstan::sync
