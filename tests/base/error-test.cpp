#include <capstan/base/error.h>

#include <cerrno>

#include <gtest/gtest.h>

namespace capstan {
namespace {

TEST(Error, NamesTheThingAndTheReason) {
  Error error = errorFromErrno(ENOSPC, "cannot store", "a/b");
  EXPECT_EQ(error.code, ErrorCode::NO_SPACE);
  EXPECT_EQ(error.message, "cannot store a/b: the disk is full");
  EXPECT_EQ(error.path, "a/b");
}

TEST(Error, EscapesThePathInTheSentenceButNotInThePath) {
  Error error = errorAt(ErrorCode::NOT_FOUND, "a\x1b\n", "there is no ", " here");
  EXPECT_EQ(error.message, "there is no a\\x1b\\n here");
  EXPECT_EQ(error.path, "a\x1b\n");
}

TEST(Error, HasAKebabCaseNameForEachCode) {
  EXPECT_EQ(kebabCase(ErrorCode::NOT_FOUND), "not-found");
  for (int i = 0; i <= int(ErrorCode::UNREACHABLE); ++i) EXPECT_NE(kebabCase(ErrorCode(i)), "unknown") << i;
  EXPECT_EQ(kebabCase(ErrorCode(999)), "unknown");
}

TEST(Result, HoldsAValueOrAnError) {
  Result<int> good = 3;
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(*good, 3);
  Result<int> bad = Error{ErrorCode::IO, "broken", {}};
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().message, "broken");
}

}  // namespace
}  // namespace capstan
