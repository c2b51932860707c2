// Lines of the shell.
#include <capstan/client/cli/words.h>

#include <capstan/client/cli/shell.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace capstan::cli {
namespace {

using testing::ElementsAre;

std::vector<std::string> words(std::string_view text) {
  auto line = splitLine(text);
  EXPECT_TRUE(line.ok()) << text;
  return line.ok() ? line->words : std::vector<std::string>{};
}

TEST(SplitLine, TakesQuotesAsAPosixShellDoes) {
  EXPECT_THAT(words("  put a\tb \n"), ElementsAre("put", "a", "b"));
  EXPECT_THAT(words(R"(a\ b 'c  d' "e 'f' \" \\ \n" g'h'"i"\j)"),
              ElementsAre("a b", "c  d", "e 'f' \" \\ \\n", "ghij"));
  EXPECT_THAT(words(R"('' "" x)"), ElementsAre("", "", "x"));
  EXPECT_THAT(words(R"('a\b' '|' "&" \& \#)"), ElementsAre("a\\b", "|", "&", "&", "#"));
  EXPECT_THAT(words(""), ElementsAre());
}

TEST(SplitLine, LeavesOutComments) {
  EXPECT_THAT(words("ls # all of it"), ElementsAre("ls"));
  EXPECT_THAT(words("# nothing & 'else"), ElementsAre());
  EXPECT_THAT(words("cat a#b"), ElementsAre("cat", "a#b"));
}

TEST(SplitLine, SeesTheAmpersandAtTheEnd) {
  EXPECT_TRUE(splitLine("put a b &")->background);
  EXPECT_THAT(words("put a b&"), ElementsAre("put", "a", "b"));
  EXPECT_TRUE(splitLine("put a b& # later")->background);
  EXPECT_FALSE(splitLine("put a b \\&")->background);
  EXPECT_FALSE(splitLine("ls & ls").ok());
  EXPECT_FALSE(splitLine("&").ok());
}

TEST(SplitLine, RefusesWhatItCannotDo) {
  for (auto* text : {"cat 'a", "cat \"a", "cat a\\", "cat a | less", "cat a > b", "ls; ls"}) {
    auto line = splitLine(text);
    ASSERT_FALSE(line.ok()) << text;
    EXPECT_NE(line.error().message, "");
  }
}

TEST(LastWord, KnowsWhereItBeginsAndWhichQuoteIsOpen) {
  auto partial = lastWord("put a\\ b 'c d");
  EXPECT_THAT(partial.before, ElementsAre("put", "a b"));
  EXPECT_EQ(partial.word, "c d");
  EXPECT_EQ(partial.begin, 9u);
  EXPECT_EQ(partial.quote, '\'');
  partial = lastWord("put ");
  EXPECT_THAT(partial.before, ElementsAre("put"));
  EXPECT_EQ(partial.word, "");
  EXPECT_EQ(partial.begin, 4u);
  EXPECT_EQ(lastWord("").begin, 0u);
}

TEST(Quoted, ComesBackThroughSplitLine) {
  for (std::string name : {"plain", "a b", "it's", "\"q\"", "back\\slash", "a&b|c;d", "#x", "\xc3\xbc", "tab\t"}) {
    EXPECT_THAT(words("x" + cli::quoted(name)), ElementsAre("x" + name)) << name;
    EXPECT_THAT(words(cli::quoted(name, '\'') + "'"), ElementsAre(name)) << name;
    EXPECT_THAT(words(cli::quoted(name, '"') + "\""), ElementsAre(name)) << name;
  }
}

TEST(CommandOfWord, TakesTheWordsInCapitalsAndNot) {
  EXPECT_EQ(commandOfWord("LIST"), "ls");
  EXPECT_EQ(commandOfWord("Upload"), "put");
  EXPECT_EQ(commandOfWord("download"), "get");
  EXPECT_EQ(commandOfWord("DELETE"), "rm");
  EXPECT_EQ(commandOfWord("RENAME"), "mv");
  EXPECT_EQ(commandOfWord("ADD"), "add");
  EXPECT_EQ(commandOfWord("Sort"), "sort");
  EXPECT_EQ(commandOfWord("COUNT"), "count");
  EXPECT_EQ(commandOfWord("JOB"), "job");
  EXPECT_EQ(commandOfWord("LOGOUT"), "logout");
  EXPECT_EQ(commandOfWord("HELP"), "help");
  EXPECT_EQ(commandOfWord("stat"), "stat");
}

}  // namespace
}  // namespace capstan::cli
