#include <capstan/server/files/file-chunks.h>

#include <gtest/gtest.h>

#include <random>

#include "batching.h"

namespace capstan::server::files {
namespace {

class ChunksTest : public ::testing::Test, public Batching {
 public:
  ~ChunksTest() noexcept override {}

 protected:
  static std::string noise(size_t count) {
    std::mt19937_64 random(5);
    std::string bytes(count, '\0');
    for (char& byte : bytes) byte = char(random());
    return bytes;
  }
  schema::File::Client openFile(const std::string& path) {
    auto request = store.openRequest();
    request.setPath(rpc::asData(path));
    return request.send().getFile();
  }
  auto chunks(schema::File::Client& file, uint64_t offset, uint32_t max) {
    auto request = file.chunksRequest();
    request.setOffset(offset);
    request.setMaxChunks(max);
    return request.send().wait(waitScope);
  }
};

TEST_F(ChunksTest, AreThoseThatAClientCutsOfTheSameContentPageByPage) {
  std::string content = noise(3 << 20);
  temp.write("file", content);
  auto file = openFile("file");
  uint64_t offset = 0;
  bool atEnd = false;
  size_t pages = 0;
  for (; !atEnd; ++pages) {
    auto page = chunks(file, offset, 10);
    EXPECT_EQ(rpc::read(page.getEntry()).version, versionAt("file"));
    for (auto chunk : page.getChunks()) {
      std::string_view rest = std::string_view(content).substr(offset);
      ASSERT_EQ(chunk.getLength(), chunkLength(rest));
      ASSERT_EQ(rpc::asView(chunk.getDigest()), digestOf(DigestAlgorithm::XXH3, rest.substr(0, chunk.getLength())));
      offset += chunk.getLength();
    }
    atEnd = page.getAtEnd();
  }
  EXPECT_EQ(offset, content.size());
  EXPECT_GT(pages, 5u);
}

TEST_F(ChunksTest, OfAnEmptyFileAreNone) {
  temp.write("empty", "");
  auto file = openFile("empty");
  auto page = chunks(file, 0, 0);
  EXPECT_EQ(page.getChunks().size(), 0u);
  EXPECT_TRUE(page.getAtEnd());
  auto behind = chunks(file, 1, 0);
  EXPECT_EQ(KJ_ASSERT_NONNULL(rpc::errorIn(behind.getOutcome())).code, ErrorCode::INVALID_ARGUMENT);
}

TEST_F(ChunksTest, HaveNoGapBetweenAnswersThatEndByTheirSize) {
  std::string content = noise(70 << 20);
  temp.write("large", content);
  auto file = openFile("large");
  auto page = chunks(file, 0, 0);
  EXPECT_FALSE(page.getAtEnd());
  uint64_t offset = 0;
  for (auto chunk : page.getChunks()) {
    ASSERT_EQ(chunk.getLength(), chunkLength(std::string_view(content).substr(offset)));
    offset += chunk.getLength();
  }
  EXPECT_GE(offset, 64u << 20);
  auto rest = chunks(file, offset, 0);
  EXPECT_TRUE(rest.getAtEnd());
}

}  // namespace
}  // namespace capstan::server::files
