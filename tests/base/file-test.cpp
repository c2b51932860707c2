#include <capstan/base/file.h>

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include <gtest/gtest.h>

namespace capstan {
namespace {

class Files : public ::testing::Test {
 protected:
  Files() {
    char name[] = "/tmp/capstan-file-test-XXXXXX";
    folder = mkdtemp(name);
  }
  ~Files() override { std::filesystem::remove_all(folder); }
  std::string folder;
};

TEST_F(Files, AreWrittenAtomicallyWithTheirMode) {
  std::string path = folder + "/token";
  ASSERT_TRUE(writeFileAtomically(path, "first", 0600).ok());
  ASSERT_TRUE(writeFileAtomically(path, "second", 0600).ok());
  EXPECT_EQ(*readFile(path), "second");
  struct stat status;
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1) << "no temporary file is left";
}

TEST_F(Files, ThatAreMissingOrTooLargeAreErrors) {
  EXPECT_EQ(readFile(folder + "/none").error().code, ErrorCode::NOT_FOUND);
  ASSERT_TRUE(writeFileAtomically(folder + "/big", std::string(1000, 'x'), 0600).ok());
  EXPECT_EQ(readFile(folder + "/big", 999).error().code, ErrorCode::TOO_LARGE);
  EXPECT_EQ(writeFileAtomically(folder + "/none/file", "x", 0600).error().code, ErrorCode::NOT_FOUND);
}

TEST_F(Files, AreReadFromThePageCacheWithoutWaiting) {
  ASSERT_TRUE(writeFileAtomically(folder + "/warm", "content", 0600).ok());
  kj::AutoCloseFd fd(open((folder + "/warm").c_str(), O_RDONLY));
  char buffer[16];
  ssize_t n = readCachedAt(fd, buffer, sizeof(buffer), 3);
  if (n < 0 && errno == EOPNOTSUPP) GTEST_SKIP() << "this file system cannot tell";
  EXPECT_EQ(std::string(buffer, size_t(n)), "tent");
}

TEST_F(Files, FoldersAreMadeWithTheirParents) {
  EXPECT_TRUE(makeDirectories(folder + "/a/b/c").ok());
  EXPECT_TRUE(makeDirectories(folder + "/a/b/c").ok());
  ASSERT_TRUE(writeFileAtomically(folder + "/file", "", 0600).ok());
  EXPECT_EQ(makeDirectories(folder + "/file/x").error().code, ErrorCode::NOT_DIRECTORY);
}

TEST(Times, AreConvertedAlsoBeforeTheEpoch) {
  for (int64_t time : {int64_t(0), int64_t(-1), int64_t(1'700'000'000'123'456'789), INT64_MIN, INT64_MAX}) {
    EXPECT_EQ(toNanoseconds(toTimespec(time)), time);
  }
}

}  // namespace
}  // namespace capstan
