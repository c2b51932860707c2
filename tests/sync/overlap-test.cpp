#include <capstan/sync/overlap.h>

#include <gtest/gtest.h>

namespace capstan::sync {

TEST(Overlap, FoldersApartMayBeKeptInStep) {
  EXPECT_TRUE(checkOverlap("/home/a", "/srv", "a").ok());
  EXPECT_TRUE(checkOverlap("/srv/a", "/srv", "b").ok());
  EXPECT_TRUE(checkOverlap("/srv/a", "/srv", "ab").ok());
  EXPECT_TRUE(checkOverlap("/srv/ab", "/srv", "a").ok());
}

TEST(Overlap, AFolderIsNotKeptInStepWithItself) {
  EXPECT_FALSE(checkOverlap("/srv/a", "/srv", "a").ok());
  EXPECT_FALSE(checkOverlap("/srv", "/srv", "").ok());
  EXPECT_FALSE(checkOverlap("/a", "/", "a").ok());
}

TEST(Overlap, NorWithAFolderInItOrAboveIt) {
  EXPECT_FALSE(checkOverlap("/srv", "/srv", "copy").ok());
  EXPECT_FALSE(checkOverlap("/srv/a", "/srv", "a/sub").ok());
  EXPECT_FALSE(checkOverlap("/srv/a/b", "/srv", "a").ok());
  EXPECT_FALSE(checkOverlap("/", "/srv", "a").ok());
  EXPECT_EQ(checkOverlap("/srv", "/srv", "copy").error().code, ErrorCode::INVALID_PATH);
}

}  // namespace capstan::sync
