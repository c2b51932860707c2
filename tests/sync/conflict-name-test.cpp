#include <gtest/gtest.h>

#include <capstan/base/path.h>
#include <capstan/base/text.h>
#include <capstan/sync/conflict-name.h>

namespace capstan::sync {
namespace {

constexpr int64_t TIME = 1'795'256'100'000'000'000;  // 2026-11-21 10:15:00 UTC

std::string nameFor(std::string_view path, std::string_view host = "host") {
  return conflictPath(path, TIME, host, {});
}

TEST(ConflictName, HasTheTimeAndTheHostBeforeTheEnding) {
  EXPECT_EQ(nameFor("report.txt"), "report.conflict-20261121-101500-host.txt");
  EXPECT_EQ(nameFor("a/b.c/report"), "a/b.c/report.conflict-20261121-101500-host");
  EXPECT_EQ(nameFor("x.tar.gz"), "x.tar.conflict-20261121-101500-host.gz");
}

TEST(ConflictName, TakesNoHiddenNameForAnEnding) {
  EXPECT_EQ(nameFor(".profile"), ".profile.conflict-20261121-101500-host");
  EXPECT_EQ(nameFor("a."), "a..conflict-20261121-101500-host");
  EXPECT_EQ(nameFor("...x"), "...x.conflict-20261121-101500-host");
}

TEST(ConflictName, CleansTheHost) {
  EXPECT_EQ(nameFor("f", "my host/ä_1.example"), "f.conflict-20261121-101500-my-host----1.example");
  EXPECT_EQ(nameFor("f", ""), "f.conflict-20261121-101500-host");
}

TEST(ConflictName, CountsOnWhereANameIsTaken) {
  int asked = 0;
  auto isTaken = [&](std::string_view) { return ++asked < 3; };
  EXPECT_EQ(conflictPath("f.txt", TIME, "host", isTaken), "f.conflict-20261121-101500-host-3.txt");
}

TEST(ConflictName, ShortensALongNameAtTheEndOfACharacter) {
  std::string name;
  while (name.size() + 2 <= MAX_NAME_BYTES - 4) name += "ä";
  for (const std::string& path : {name + ".txt", "x" + name + ".tx", std::string(MAX_NAME_BYTES, 'y')}) {
    std::string made = nameFor("folder/" + path);
    EXPECT_LE(baseNameOf(made).size(), MAX_NAME_BYTES);
    EXPECT_GE(baseNameOf(made).size(), MAX_NAME_BYTES - 1);
    EXPECT_TRUE(isUtf8(made)) << made;
    EXPECT_TRUE(isConflictName(made));
  }
}

TEST(ConflictName, IsToldFromOthers) {
  EXPECT_TRUE(isConflictName("a/report.conflict-20261121-101500-host.txt"));
  EXPECT_TRUE(isConflictName("report.conflict-20261121-101500-host-2"));
  EXPECT_FALSE(isConflictName("report.txt"));
  EXPECT_FALSE(isConflictName("report.conflict-yesterday-host.txt"));
  EXPECT_FALSE(isConflictName("report.conflict-20261121-101500"));
  EXPECT_FALSE(isConflictName("a.conflict-20261121-101500-host/b"));
}

TEST(ConflictName, IsInUtcAlsoBeforeTheEpoch) {
  EXPECT_EQ(conflictPath("f", -1, "h", {}), "f.conflict-19691231-235959-h");
}

}  // namespace
}  // namespace capstan::sync
