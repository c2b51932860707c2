// When a plan is stopped, wholly or as far as it deletes; and what is left of one without its deletions.
#include <gtest/gtest.h>

#include <capstan/sync/safety.h>

namespace capstan::sync {
namespace {

Plan planWith(uint64_t deletions, uint64_t unexplained = 0) {
  Plan plan;
  plan.deletions = deletions;
  for (uint64_t i = 0; i < unexplained; ++i) plan.withheld.push_back({std::to_string(i), Side::REMOTE, "why", true});
  return plan;
}

Evidence treeOf(uint64_t entries) {
  Evidence evidence;
  evidence.agreedEntries = entries;
  return evidence;
}

struct Row {
  const char* about;
  uint64_t agreed, deletions, unexplained;
  char stop;          // 'n'one, 'w'holly, 'd'eletions only
  uint64_t mustName;  // for --accept-deletes
};

constexpr Row AMOUNTS[] = {
    {"nothing", 100, 0, 0, 'n', 0},
    {"a few", 100, 3, 0, 'n', 0},
    {"half", 100, 50, 0, 'n', 0},
    {"more than half", 100, 51, 0, 'w', 51},
    {"all", 100, 100, 0, 'w', 100},
    {"the only one", 1, 1, 0, 'w', 1},
    {"just below a thousand", 1'000'000, 999, 0, 'n', 0},
    {"a thousand", 1'000'000, 1000, 0, 'w', 1000},
    {"unexplained ones only", 100, 0, 2, 'd', 2},
    {"many unexplained ones", 100, 0, 5000, 'd', 5000},
    {"a few, and unexplained ones", 100, 3, 2, 'd', 5},
    {"more than half, and unexplained ones", 100, 60, 2, 'w', 62},
    {"without a state", 0, 0, 7, 'd', 7},
};

TEST(Safety, StopsWhenTooMuchWouldGo) {
  for (const Row& row : AMOUNTS) {
    SCOPED_TRACE(row.about);
    Plan plan = planWith(row.deletions, row.unexplained);
    Evidence evidence = treeOf(row.agreed);
    auto stop = checkSafety(plan, evidence);
    ASSERT_EQ(stop.has_value(), row.stop != 'n');
    if (!stop) continue;
    EXPECT_EQ(stop->wholly, row.stop == 'w');
    EXPECT_EQ(stop->deletions, row.mustName);
    EXPECT_NE(stop->sentence.find("--accept-deletes " + std::to_string(row.mustName)), std::string::npos);
    for (uint64_t wrong : {row.mustName - 1, row.mustName + 1}) {
      evidence.acceptDeletes = wrong;
      EXPECT_TRUE(checkSafety(plan, evidence)) << wrong;
    }
    evidence.acceptDeletes = row.mustName;
    EXPECT_FALSE(checkSafety(plan, evidence));
  }
}

TEST(Safety, StopsWhollyWhenARootIsAnotherFolderAndSomethingWouldGo) {
  for (bool local : {true, false}) {
    Evidence evidence = treeOf(1000);
    (local ? evidence.localRootReplaced : evidence.remoteRootReplaced) = true;
    EXPECT_FALSE(checkSafety(planWith(0), evidence));
    auto stop = checkSafety(planWith(1), evidence);
    ASSERT_TRUE(stop);
    EXPECT_TRUE(stop->wholly);
    EXPECT_EQ(stop->deletions, 1u);
    evidence.acceptDeletes = 1;
    EXPECT_FALSE(checkSafety(planWith(1), evidence));
  }
}

Operation operationOf(Operation::Kind kind, const std::string& path, bool isThere = false) {
  Operation operation;
  operation.kind = kind;
  operation.path = path;
  if (isThere) operation.expected = Node();
  return operation;
}

TEST(Safety, WithoutDeletionsWhatNeedsThemIsLeftOutToo) {
  using Kind = Operation::Kind;
  Plan plan;
  plan.deletions = 2;
  plan.operations = {
      operationOf(Kind::PUT, "kept"), operationOf(Kind::REMOVE, "a/inside", true), operationOf(Kind::REMOVE, "a", true),
      operationOf(Kind::PUT, "a"),    operationOf(Kind::REMOVE, "b", true),        operationOf(Kind::MAKE_FOLDER, "b"),
      operationOf(Kind::PUT, "b/c"),  operationOf(Kind::REMOVE, "gone", true),     operationOf(Kind::PUT, "bc")};
  withholdDeletions(plan, "why");
  ASSERT_EQ(plan.operations.size(), 2u);
  EXPECT_EQ(plan.operations[0].path, "kept");
  EXPECT_EQ(plan.operations[1].path, "bc");
  EXPECT_EQ(plan.deletions, 0u);
  uint64_t deletions = 0;
  for (const Withheld& one : plan.withheld) {
    EXPECT_EQ(one.reason, "why");
    deletions += one.isDeletion;
  }
  EXPECT_EQ(plan.withheld.size(), 7u);
  EXPECT_EQ(deletions, 2u);
}

}  // namespace
}  // namespace capstan::sync
