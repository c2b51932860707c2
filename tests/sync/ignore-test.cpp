// Ignore patterns, by a table that follows gitignore(5); the implementation was compared with `git check-ignore` over
// random patterns. Then what files in folders add to that.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <map>

#include <capstan/sync/ignore.h>

namespace capstan::sync {
namespace {

// Texts of `.capstanignore` by folder.
using Files = std::map<std::string, std::string>;

IgnoreRules rulesOf(const Files& files, std::vector<IgnoreRules::Rule> given = {}) {
  return IgnoreRules(std::move(given), [&files](std::string_view folder) -> std::optional<std::string> {
    auto found = files.find(std::string(folder));
    return found == files.end() ? std::nullopt : std::optional<std::string>(found->second);
  });
}

struct Row {
  const char* text;  // of the file at the top
  const char* path;  // a folder's ends with a slash
  bool isIgnored;
};

constexpr Row TABLE[] = {
    // Names, anywhere.
    {"foo", "foo", true},
    {"foo", "a/foo", true},
    {"foo", "foo/", true},
    {"foo", "foo/bar", true},
    {"foo", "foobar", false},
    {"foo", "afoo", false},
    {"Foo", "foo", false},
    {"", "foo", false},
    {"\n\n", "foo", false},
    // Comments and blanks.
    {"#foo", "#foo", false},
    {"\\#foo", "#foo", true},
    {"# a\nfoo", "foo", true},
    {"foo  ", "foo", true},
    {"foo\\ ", "foo ", true},
    {"foo\\ ", "foo", false},
    {"foo\\  ", "foo ", true},
    {" foo", "foo", false},
    {" foo", " foo", true},
    {"foo\t", "foo", false},
    {"foo\r\nbar\r\n", "foo", true},
    {"foo\r\nbar\r\n", "bar", true},
    {"\xEF\xBB\xBF"
     "foo",
     "foo", true},
    // Folders only.
    {"foo/", "foo/", true},
    {"foo/", "foo", false},
    {"foo/", "a/foo/", true},
    {"foo/", "foo/bar", true},
    {"/", "foo", false},
    // From the top.
    {"/foo", "foo", true},
    {"/foo", "a/foo", false},
    {"a/foo", "a/foo", true},
    {"a/foo", "b/a/foo", false},
    {"/a/foo/", "a/foo/x", true},
    {"a/foo/", "a/foo", false},
    // Stars.
    {"*.o", "x.o", true},
    {"*.o", "a/x.o", true},
    {"*.o", ".o", true},
    {"*.o", "x.oo", false},
    {"x*z", "xyyz", true},
    {"x*z", "xz", true},
    {"a/*", "a/b", true},
    {"a/*.c", "a/b/x.c", false},
    {"/*.c", "x.c", true},
    {"/*.c", "a/x.c", false},
    {"*", "anything", true},
    {"a*b*c", "a1b2b3c", true},
    {"a*b*c", "a1b2b3", false},
    {"?oo", "foo", true},
    {"?oo", "oo", false},
    {"a?b", "a/b", false},
    {"x/a?b", "x/a/b", false},
    // Two stars.
    {"**/foo", "foo", true},
    {"**/foo", "a/b/foo", true},
    {"**/foo/bar", "a/foo/bar", true},
    {"**/foo/bar", "foo/x/bar", false},
    {"foo/**", "foo/a", true},
    {"foo/**", "foo/a/b", true},
    {"foo/**", "foo/", false},
    {"a/**/b", "a/b", true},
    {"a/**/b", "a/x/b", true},
    {"a/**/b", "a/x/y/b", true},
    {"a/**/b", "ab", false},
    {"a/**/b", "a/xb", false},
    {"a/**/**/b", "a/b", true},
    {"**", "a/b", true},
    {"a**/b", "ax/b", true},
    {"a**/b", "ax/y/b", false},
    {"x/a**b", "x/a/b", false},
    {"**/", "a/", true},
    {"**/", "a", false},
    // Sets.
    {"[abc]", "b", true},
    {"[abc]", "d", false},
    {"[a-c]x", "bx", true},
    {"[!a]", "b", true},
    {"[!a]", "a", false},
    {"[^a]", "a", false},
    {"[]]", "]", true},
    {"[!]]", "]", false},
    {"[a-]", "-", true},
    {"[-a]", "-", true},
    {"[\\]]", "]", true},
    {"[\\\\]", "\\", true},
    {"[[:digit:]]", "7", true},
    {"[[:digit:]]", "x", false},
    {"[![:digit:]]", "x", true},
    {"[[:alpha:]_]", "_", true},
    {"[[:nothing:]]", "n", false},
    {"[a", "[a", false},
    {"[a", "a", false},
    {"x/[!a]b", "x//b", false},
    // Backslashes.
    {"\\*", "*", true},
    {"\\*", "x", false},
    {"\\foo", "foo", true},
    {"a\\[1]", "a[1]", true},
    {"foo\\", "foo\\", false},
    // Taken back.
    {"*.o\n!x.o", "x.o", false},
    {"*.o\n!x.o", "y.o", true},
    {"!x.o\n*.o", "x.o", true},
    {"*.o\n!x.o\nx.*", "x.o", true},
    {"\\!foo", "!foo", true},
    {"foo/\n!foo/bar", "foo/bar", true},
    {"foo/*\n!foo/bar", "foo/bar", false},
    {"foo/*\n!foo/bar", "foo/baz", true},
    {"/*\n!/a\n/a/*\n!/a/b", "a/b/c", false},
    {"/*\n!/a\n/a/*\n!/a/b", "a/c", true},
};

TEST(Ignore, FollowsTheTable) {
  for (const Row& row : TABLE) {
    Files files = {{"", row.text}};
    IgnoreRules rules = rulesOf(files);
    std::string_view path = row.path;
    bool isFolder = path.ends_with('/');
    if (isFolder) path.remove_suffix(1);
    EXPECT_EQ(rules.isIgnored(path, isFolder), row.isIgnored) << "'" << row.text << "' and '" << row.path << "'";
  }
}

TEST(Ignore, TheDeepestFileCountsAndIsAboutItsOwnFolder) {
  Files files = {{"", "*.log\n/top"}, {"a", "!keep.log\n/top\nsub/x"}, {"a/b", "keep.log"}};
  IgnoreRules rules = rulesOf(files);
  EXPECT_TRUE(rules.isIgnored("keep.log", false));
  EXPECT_FALSE(rules.isIgnored("a/keep.log", false));
  EXPECT_TRUE(rules.isIgnored("a/b/keep.log", false));
  EXPECT_TRUE(rules.isIgnored("a/other.log", false));
  EXPECT_TRUE(rules.isIgnored("a/top", false));
  EXPECT_FALSE(rules.isIgnored("b/top", false));
  EXPECT_TRUE(rules.isIgnored("a/sub/x", false));
  EXPECT_FALSE(rules.isIgnored("sub/x", false));
}

TEST(Ignore, AFileInAnIgnoredFolderTakesNothingBack) {
  Files files = {{"", "build"}, {"build", "!*"}};
  IgnoreRules rules = rulesOf(files);
  EXPECT_TRUE(rules.isIgnored("build/x", false));
  EXPECT_TRUE(rules.isIgnored("build/deep/x", false));
}

TEST(Ignore, WhatWasGivenGoesBeforeAllFiles) {
  Files files = {{"", "!*.o\n*.c"}};
  IgnoreRules rules = rulesOf(files, {{"*.o", "--exclude", 0}, {"!x.c", "--exclude", 0}});
  EXPECT_TRUE(rules.isIgnored("a/y.o", false));
  EXPECT_FALSE(rules.isIgnored("x.c", false));
  EXPECT_TRUE(rules.isIgnored("y.c", false));
}

TEST(Ignore, NamesTheRule) {
  Files files = {{"", "a\n"}, {"sub", "# why\n\n*.o\n"}};
  IgnoreRules rules = rulesOf(files);
  auto rule = rules.ruleFor("sub/deep/x.o", false);
  ASSERT_TRUE(rule);
  EXPECT_EQ(rule->pattern, "*.o");
  EXPECT_EQ(rule->origin, "sub/.capstanignore");
  EXPECT_EQ(rule->line, 3u);
  EXPECT_FALSE(rules.ruleFor("sub/deep/x.c", false));
}

TEST(Ignore, OwnNamesAlwaysAre) {
  Files files = {{"", "!.capstan\n!*"}};
  IgnoreRules rules = rulesOf(files);
  EXPECT_TRUE(rules.isIgnored(".capstan", true));
  EXPECT_TRUE(rules.isIgnored(".capstan/trash/x", false));
  EXPECT_FALSE(rules.isIgnored("a/.capstan", true));
  EXPECT_TRUE(rules.isIgnored("a/.report.txt.capstan-part-01ab", false));
  EXPECT_FALSE(rules.isIgnored("a/report.capstan-part-01ab", false));
  EXPECT_FALSE(rules.isIgnored("", true));
}

TEST(Ignore, AFileIsReadOnceUntilItIsForgotten) {
  std::string text = "*.o";
  int reads = 0;
  IgnoreRules rules({}, [&](std::string_view folder) -> std::optional<std::string> {
    if (!folder.empty()) return std::nullopt;
    ++reads;
    return text;
  });
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(rules.isIgnored("a/b/x.o", false));
  EXPECT_EQ(reads, 1);
  text = "*.c";
  EXPECT_TRUE(rules.isIgnored("a/b/x.o", false));
  rules.forget("");
  EXPECT_FALSE(rules.isIgnored("a/b/x.o", false));
  EXPECT_TRUE(rules.isIgnored("a/b/x.c", false));
}

TEST(Ignore, TheFingerprintIsAnotherOneWheneverARuleIs) {
  Files files = {{"", "*.o"}, {"a", "x"}};
  IgnoreRules rules = rulesOf(files);
  rules.isIgnored("a/b", false);
  std::string first = rules.fingerprint();
  EXPECT_EQ(rules.fingerprint(), first);
  files["a"] = "y";
  rules.forget("a");
  EXPECT_NE(rules.fingerprint(), first);
  files["a"] = "x";
  rules.forget("a");
  EXPECT_EQ(rules.fingerprint(), first);
  files.erase("a");
  rules.forget("a");
  EXPECT_NE(rules.fingerprint(), first);
  EXPECT_NE(rulesOf(files, {{"*.c", "--exclude", 0}}).fingerprint(), rulesOf(files).fingerprint());
}

TEST(Ignore, WhileRulesCannotBeReadEverythingInTheirFolderIsLeftAlone) {
  bool readable = false;
  IgnoreRules rules({}, [&readable](std::string_view folder) -> Result<std::optional<std::string>> {
    if (folder != "a") return std::optional<std::string>();
    if (!readable) return Error{ErrorCode::IO, "broken", "a/.capstanignore"};
    return std::optional<std::string>("*.o");
  });
  EXPECT_FALSE(rules.isIgnored("x", false));
  EXPECT_FALSE(rules.takeTrouble());
  EXPECT_TRUE(rules.isIgnored("a/x", false));
  EXPECT_TRUE(rules.isIgnored("a/b/x", false));
  auto trouble = rules.takeTrouble();
  ASSERT_TRUE(trouble);
  EXPECT_EQ(trouble->message, "broken");
  readable = true;
  EXPECT_FALSE(rules.isIgnored("a/x", false));
  EXPECT_TRUE(rules.isIgnored("a/b/x.o", false));
  EXPECT_FALSE(rules.takeTrouble());
  // Rules that were read once and cannot be read now are not other rules.
  auto before = rules.fingerprint();
  readable = false;
  rules.forget("a");
  EXPECT_EQ(rules.fingerprint(), before);
  EXPECT_TRUE(rules.takeTrouble());
}

TEST(Ignore, APatternOfManyStarsTakesNoTime) {
  std::string stars, name(250, 'a');
  for (int i = 0; i < 100; ++i) stars += "a*";
  Files files = {{"", stars + "b"}};
  EXPECT_FALSE(rulesOf(files).isIgnored(name, false));
}

TEST(Ignore, PatternsAreReadFromAFile) {
  char folder[] = "/tmp/capstan-ignore-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  std::string file = std::string(folder) + "/patterns";
  std::ofstream(file) << "# comment\n*.o\n\n!x.o  \n";
  auto rules = IgnoreRules::readPatterns(file);
  ASSERT_TRUE(rules.ok());
  ASSERT_EQ(rules->size(), 2u);
  EXPECT_EQ((*rules)[1].pattern, "!x.o");
  EXPECT_EQ((*rules)[1].origin, file);
  EXPECT_EQ((*rules)[1].line, 4u);
  auto missing = IgnoreRules::readPatterns(std::string(folder) + "/missing");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::NOT_FOUND);
  std::ofstream(file) << std::string(2 << 20, 'x');
  auto large = IgnoreRules::readPatterns(file);
  ASSERT_FALSE(large.ok());
  EXPECT_EQ(large.error().code, ErrorCode::TOO_LARGE);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace capstan::sync
