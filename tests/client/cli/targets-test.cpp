// Where put, get, mv and cp write to: the table is the specification.
#include <capstan/client/cli/targets.h>

#include <capstan/client/cli/transfers.h>
#include <gtest/gtest.h>

namespace capstan::cli {
namespace {

constexpr auto MISSING = TargetKind::MISSING;
constexpr auto FOLDER = TargetKind::FOLDER;
constexpr auto OTHER = TargetKind::OTHER;

struct Case {
  const char* source;
  const char* target;
  TargetKind kind;
  bool several;
  const char* result;  // null: notDirectory
};

TEST(Targets, FollowCp) {
  const Case CASES[] = {
      {"a", "b", MISSING, false, "b"},      {"a", "b", OTHER, false, "b"},       {"a", "b", FOLDER, false, "b/a"},
      {"x/a", "b/", MISSING, false, "b/a"}, {"x/a", "b/", FOLDER, false, "b/a"}, {"x/a", "b/", OTHER, false, nullptr},
      {"a/", "b", MISSING, false, "b"},     {"a/", "b", FOLDER, false, "b/a"},   {"a/.", "b", FOLDER, false, "b"},
      {"a/.", "b", MISSING, false, "b"},    {".", "b/", MISSING, false, "b"},    {"..", "b", FOLDER, false, "b"},
      {"x/a", ".", FOLDER, false, "./a"},   {"x/a", "/", FOLDER, false, "/a"},   {"a", "b", FOLDER, true, "b/a"},
      {"a", "b/", MISSING, true, "b/a"},    {"a", "b", MISSING, true, nullptr},  {"a", "b", OTHER, true, nullptr},
  };
  for (auto& test : CASES) {
    auto result = targetFor(localSource(test.source), localSource(test.target).path, namesFolder(test.target),
                            test.kind, test.several);
    std::string what = std::string(test.source) + " -> " + test.target;
    ASSERT_EQ(result.ok(), test.result != nullptr) << what;
    if (result.ok()) {
      EXPECT_EQ(*result, test.result) << what;
    } else {
      EXPECT_EQ(result.error().code, ErrorCode::NOT_DIRECTORY) << what;
    }
  }
}

TEST(Targets, TakeTheServedFolderByItsNames) {
  for (auto* name : {"", "/", ".", "./"}) {
    EXPECT_EQ(remotePath(name), "") << name;
    EXPECT_TRUE(namesFolder(name)) << name;
    auto result = targetFor(localSource("x/a"), remotePath(name), true, MISSING, false);
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(*result, "a");
  }
  EXPECT_EQ(remotePath("a//"), "a");
  EXPECT_EQ(remotePath("a/../b"), "a/../b") << "the server is to refuse it";
  EXPECT_EQ(remotePath("/etc/passwd"), "/etc/passwd");
}

TEST(Targets, OfARemoteFoldersContentAreTheTargetItself) {
  EXPECT_EQ(remoteSource("d/.").path, "d");
  EXPECT_EQ(remoteSource("d/.").name, "");
  EXPECT_EQ(remoteSource("d/e/").name, "e");
  EXPECT_EQ(remoteSource("/").name, "");
  EXPECT_EQ(remoteSource(".").path, "");
}

TEST(DestinationOf, StaysInsideTheTree) {
  EXPECT_EQ(destinationOf("a/l", "b"), "a/b");
  EXPECT_EQ(destinationOf("a/l", "../b/./c//d/"), "b/c/d");
  EXPECT_EQ(destinationOf("a/l", ".."), "");
  EXPECT_FALSE(destinationOf("a/l", "../../x"));
  EXPECT_FALSE(destinationOf("a/l", "/x"));
  EXPECT_FALSE(destinationOf("l", ""));
}

TEST(PlanTransfers, RefusesToWriteOnePlaceTwice) {
  auto plan = planTransfers({localSource("x/a"), localSource("y/a"), localSource("y/b")}, "t", true, MISSING);
  ASSERT_TRUE(plan.ok());
  ASSERT_EQ(plan->size(), 3u);
  EXPECT_TRUE((*plan)[0].target.ok());
  ASSERT_FALSE((*plan)[1].target.ok());
  EXPECT_EQ((*plan)[1].target.error().code, ErrorCode::EXISTS);
  EXPECT_TRUE((*plan)[2].target.ok());
}

TEST(PlanTransfers, SaysOnceThatThereIsNoFolder) {
  auto plan = planTransfers({localSource("a"), localSource("b")}, "t", false, MISSING);
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.error().code, ErrorCode::NOT_DIRECTORY);
}

}  // namespace
}  // namespace capstan::cli
