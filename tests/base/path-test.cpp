#include <capstan/base/path.h>

#include <gtest/gtest.h>

namespace capstan {
namespace {

using namespace std::string_literals;

TEST(ValidatePath, TakesWhatANameMayHold) {
  for (const std::string& path : {""s, "a"s, "a/b"s, "with space/and\nnewline"s, "\xff\xfe"s, "..."s, "a/..b"s,
                                  ".hidden"s, std::string(255, 'n'), "-rf"s}) {
    EXPECT_TRUE(validatePath(path).ok()) << path;
  }
}

TEST(ValidatePath, RefusesTricksAndSaysWhich) {
  for (const std::string& path : {"/"s, "/etc"s, "a/"s, "a//b"s, "."s, ".."s, "a/./b"s, "a/../b"s, "../a"s, "a/.."s,
                                  "a\0b"s, std::string(256, 'n'), std::string(4097, 'a')}) {
    auto outcome = validatePath(path);
    ASSERT_FALSE(outcome.ok()) << path;
    EXPECT_EQ(outcome.error().code, ErrorCode::INVALID_PATH);
    EXPECT_EQ(outcome.error().path, path);
  }
}

TEST(ValidatePath, CountsTheWholePathInBytes) {
  std::string path;
  while (path.size() + 101 <= MAX_PATH_BYTES) path += std::string(100, 'd') + "/";
  path += std::string(MAX_PATH_BYTES - path.size(), 'e');
  EXPECT_EQ(path.size(), MAX_PATH_BYTES);
  EXPECT_TRUE(validatePath(path).ok());
  EXPECT_FALSE(validatePath(path + "e").ok());
}

TEST(IsReserved, MeansTheStateFolderUnderTheRootOnly) {
  EXPECT_TRUE(isReserved(".capstan"));
  EXPECT_TRUE(isReserved(".capstan/staging"));
  EXPECT_FALSE(isReserved(".capstanrc"));
  EXPECT_FALSE(isReserved("a/.capstan"));
}

TEST(PathParts, AreTakenApartAndPutTogether) {
  EXPECT_EQ(parentOf("a/b/c"), "a/b");
  EXPECT_EQ(parentOf("a"), "");
  EXPECT_EQ(baseNameOf("a/b/c"), "c");
  EXPECT_EQ(baseNameOf("a"), "a");
  EXPECT_EQ(joinPath("", "a"), "a");
  EXPECT_EQ(joinPath("a", "b"), "a/b");
  EXPECT_EQ(joinPath("a", ""), "a");
  EXPECT_EQ(splitPath("a/b").size(), 2u);
  EXPECT_TRUE(splitPath("").empty());
}

TEST(IsWithin, LooksAtWholeNames) {
  EXPECT_TRUE(isWithin("a/b", "a"));
  EXPECT_TRUE(isWithin("a", "a"));
  EXPECT_TRUE(isWithin("anything", ""));
  EXPECT_FALSE(isWithin("ab", "a"));
  EXPECT_FALSE(isWithin("a", "a/b"));
}

TEST(ComparePaths, SortsByComponentsAFolderBeforeItsContent) {
  const char* sorted[] = {"", "a", "a/b", "a/b/c", "a/c", "a b", "a-b", "a.b", "ab", "b", "\xff"};
  for (size_t i = 0; i < std::size(sorted); ++i) {
    for (size_t j = 0; j < std::size(sorted); ++j) {
      int order = comparePaths(sorted[i], sorted[j]);
      EXPECT_EQ((order > 0) - (order < 0), (i > j) - (i < j)) << sorted[i] << " and " << sorted[j];
    }
  }
}

}  // namespace
}  // namespace capstan
