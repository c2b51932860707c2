// Command lines as people write them, and what becomes of wrong ones.
#include <capstan/client/cli/arguments.h>

#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/help.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace capstan::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Invocation understood(const std::vector<std::string>& words) {
  Parsed parsed = parseWords(commandTable(), words);
  if (auto error = std::get_if<UsageError>(&parsed)) {
    ADD_FAILURE() << error->message;
    return {};
  }
  return std::get<Invocation>(parsed);
}

std::string refused(const std::vector<std::string>& words) {
  Parsed parsed = parseWords(commandTable(), words);
  if (auto error = std::get_if<UsageError>(&parsed)) {
    EXPECT_NE(error->hint, "");
    return error->message;
  }
  ADD_FAILURE() << "was understood: " << words.back();
  return {};
}

TEST(Arguments, TakesGlobalFlagsBeforeAndAfterTheCommand) {
  for (auto& words : std::vector<std::vector<std::string>>{
           {"--server", "h:1", "--json", "-v", "--timeout", "2m", "ls", "d"},
           {"ls", "--server", "h:1", "d", "--json", "-v", "--timeout=2m"},
           {"--server=h:1", "ls", "--json", "--timeout", "120", "-v", "d"},
       }) {
    auto invocation = understood(words);
    ASSERT_NE(invocation.command, nullptr);
    EXPECT_STREQ(invocation.command->name, "ls");
    EXPECT_EQ(invocation.flags.server, "h:1");
    EXPECT_EQ(invocation.flags.timeout, 120'000'000'000u);
    EXPECT_TRUE(invocation.flags.json);
    EXPECT_TRUE(invocation.flags.verbose);
    EXPECT_FALSE(invocation.flags.quiet);
    EXPECT_THAT(invocation.operands, ElementsAre("d"));
  }
}

TEST(Arguments, KeepsOddNamesWhole) {
  EXPECT_THAT(understood({"rm", "--", "-r", "--json"}).operands, ElementsAre("-r", "--json"));
  EXPECT_THAT(understood({"put", "-", "x"}).operands, ElementsAre("-", "x"));
  EXPECT_THAT(understood({"rm", "[a,b]", "++", "ls", "put", "", "a=b"}).operands,
              ElementsAre("[a,b]", "++", "ls", "put", "", "a=b"));
  EXPECT_THAT(understood({"rm", "\x01[x]", "\xff", "a b\n"}).operands, ElementsAre("\x01[x]", "\xff", "a b\n"));
  EXPECT_EQ(understood({"--server", "[::1]", "ls"}).flags.server, "[::1]");
}

TEST(Arguments, TakesNegativeNumbersAsOperandsOnlyWhereNumbersAre) {
  EXPECT_THAT(understood({"add", "5", "-3"}).operands, ElementsAre("5", "-3"));
  EXPECT_THAT(understood({"add", "-1", "--json", "-.5", "-inf", "-NaN", "-1e-3"}).operands,
              ElementsAre("-1", "-.5", "-inf", "-NaN", "-1e-3"));
  EXPECT_THAT(understood({"add", "--", "-1", "-2"}).operands, ElementsAre("-1", "-2"));
  EXPECT_THAT(understood({"sort", "-u", "-5x", "--label", "-1"}).operands, ElementsAre("-5x"));
  EXPECT_THAT(refused({"add", "1", "-x"}), HasSubstr("there is no option -x"));
  EXPECT_THAT(refused({"ls", "-1"}), HasSubstr("ls: there is no option -1"));
  EXPECT_THAT(refused({"rm", "-1", "a"}), HasSubstr("rm: there is no option -1"));
  EXPECT_THAT(understood({"rm", "--", "-1"}).operands, ElementsAre("-1"));
  EXPECT_THAT(understood({"rm", "\x02-1"}).operands, ElementsAre("\x02-1"));
}

TEST(Arguments, TakesTheLastOfAFlagThatIsGivenTwice) {
  EXPECT_EQ(understood({"--server", "a:1", "ls", "--server", "b:2"}).flags.server, "b:2");
}

TEST(Arguments, UnderstandsShortFlagsTogether) {
  EXPECT_THAT(understood({"ls", "-lR", "x"}).operands, ElementsAre("x"));
}

TEST(Arguments, NamesTheCommandThatWasMeant) {
  EXPECT_THAT(refused({"stauts"}), HasSubstr("did you mean status?"));
  EXPECT_THAT(refused({"--json", "l"}), HasSubstr("did you mean ls?"));
  EXPECT_EQ(refused({"frobnicate"}).find("did you mean"), std::string::npos);
  EXPECT_EQ(refused({"evil\x1b[2J"}).find('\x1b'), std::string::npos);
}

TEST(Arguments, RefusesWhatDoesNotFitWithASentence) {
  EXPECT_THAT(refused({}), HasSubstr("a command is missing"));
  EXPECT_THAT(refused({"ls", "--nonsense"}), HasSubstr("ls: there is no option --nonsense"));
  EXPECT_EQ(refused({"ls", "--nonsense"}).find("did you mean"), std::string::npos);
  EXPECT_THAT(refused({"sort", "--unqiue", "1"}), testing::EndsWith("--unqiue; did you mean --unique?"));
  EXPECT_THAT(refused({"sort", "--memroy=1MiB", "1"}), testing::EndsWith("did you mean --memory?"));
  EXPECT_THAT(refused({"cat"}), HasSubstr("cat: needs PATH"));
  EXPECT_THAT(refused({"cat", "a", "b"}), HasSubstr("2 operands"));
  EXPECT_THAT(refused({"put", "only-one"}), HasSubstr("LOCAL... REMOTE"));
  EXPECT_THAT(refused({"--timeout", "soon", "ls"}), HasSubstr("\"soon\" is no duration"));
  EXPECT_THAT(refused({"cat", "a", "--offset", "x"}), HasSubstr("\"x\" is no size"));
  EXPECT_THAT(refused({"ping", "-c", "-1"}), testing::Not(""));
  EXPECT_THAT(refused({"digest", "a", "--algorithm", "md5"}), HasSubstr("xxh3|sha256"));
  EXPECT_THAT(refused({"digest", "a", "--algorithm", "xxh3|sha256"}), HasSubstr("is not one of"));
  EXPECT_THAT(refused({"ls", "--server"}), HasSubstr("--server"));
}

TEST(Arguments, RemembersThatJsonWasAskedFor) {
  Parsed parsed = parseWords(commandTable(), {"ls", "--json", "--nonsense"});
  EXPECT_TRUE(std::get<UsageError>(parsed).json);
}

TEST(Arguments, FindsHelpEverywhere) {
  EXPECT_TRUE(understood({"--help"}).help);
  EXPECT_EQ(understood({"-h"}).command, nullptr);
  auto invocation = understood({"put", "-h"});
  EXPECT_TRUE(invocation.help);
  EXPECT_STREQ(invocation.command->name, "put");
}

TEST(Help, OfEachCommandHasUsageExamplesAndWhatComesNext) {
  std::string all = helpAboutAll(commandTable());
  for (auto& command : commandTable()) {
    std::string text = helpAbout(command);
    EXPECT_THAT(text, HasSubstr(std::string("Usage: capstan ") + command.name));
    EXPECT_THAT(text, HasSubstr("Examples:\n  "));
    EXPECT_THAT(text, HasSubstr("Next: "));
    EXPECT_THAT(text, HasSubstr("--json"));
    EXPECT_THAT(all, HasSubstr(std::string("\n  ") + command.name + " "));
    EXPECT_FALSE(command.examples.empty());
    bool showsItself = false;
    for (auto& example : command.examples)
      showsItself |= std::string(example.command).find("capstan") != std::string::npos;
    EXPECT_TRUE(showsItself) << command.name;
  }
}

TEST(NearestName, IsEmptyForWhatIsFarAway) {
  EXPECT_EQ(nearestName("puts", {"put", "get"}), "put");
  EXPECT_EQ(nearestName("x", {"put", "get"}), "");
  EXPECT_EQ(nearestName("mkdri", {"mkdir", "mv"}), "mkdir");
}

}  // namespace
}  // namespace capstan::cli
