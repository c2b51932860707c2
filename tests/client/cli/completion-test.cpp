// What TAB makes of a line, in capstan's own prompt and in other shells.
#include <capstan/client/cli/line-completion.h>

#include <cstdlib>
#include <fstream>

#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/completion-script.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace capstan::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Completions complete(std::string_view before) {
  auto list = [](std::string_view folder) -> Names {
    if (folder == "") return {"docs/", "draft one", "draft two", "quote'd", "esc\x1b", "\xff"};
    if (folder == "docs/") return {"docs/notes.txt", "docs/sub/"};
    return {};
  };
  return completeLine(before, commandTable(), list);
}

TEST(CompleteLine, CompletesCommandsAndWords) {
  EXPECT_EQ(complete("sta").candidates, (std::vector<std::string>{"stat", "status"}));
  EXPECT_EQ(complete("mkd").insert, "mkdir ");
  EXPECT_EQ(complete("DOWN").insert, "DOWNLOAD ");
  EXPECT_EQ(complete("zzz").insert, "");
}

TEST(CompleteLine, CompletesRemoteNamesAndQuotesThem) {
  auto found = complete("cat dr");
  EXPECT_EQ(found.insert, "draft\\ ");
  EXPECT_EQ(found.replaceFrom, 4u);
  EXPECT_THAT(found.candidates, ElementsAre("draft one", "draft two"));
  EXPECT_EQ(complete("cat draft\\ o").insert, "draft\\ one ");
  EXPECT_EQ(complete("cat 'draft t").insert, "'draft two' ");
  EXPECT_EQ(complete("cat q").insert, "quote\\'d ");
  EXPECT_EQ(complete("LIST do").insert, "docs/") << "a folder goes on";
  EXPECT_EQ(complete("cat docs/n").insert, "docs/notes.txt ");
}

TEST(CompleteLine, OffersNothingThatCannotBeTyped) {
  EXPECT_EQ(complete("cat e").insert, "");
  EXPECT_EQ(complete("cat ").candidates.size(), 4u);
}

TEST(CompleteLine, CompletesFlags) {
  EXPECT_EQ(complete("put --if-a").insert, "--if-absent ");
  EXPECT_THAT(complete("ls --no-").candidates, ElementsAre("--no-color", "--no-progress"));
}

TEST(CompleteLine, CompletesWhatComputingTakes) {
  EXPECT_EQ(complete("SO").insert, "SORT ");
  EXPECT_EQ(complete("sort --file do").insert, "docs/");
  EXPECT_EQ(complete("sort -o docs/n").insert, "docs/notes.txt ");
  EXPECT_EQ(complete("job st").insert, "status ");
  EXPECT_EQ(complete("add do").insert, "") << "numbers are no names";
  auto jobs = []() -> Names { return {"j-17", "j-18", "x"}; };
  auto none = [](std::string_view) -> Names { return {}; };
  EXPECT_EQ(completeLine("job wait j", commandTable(), none, jobs).insert, "j-1");
  EXPECT_EQ(completeLine("JOB wait x", commandTable(), none, jobs).insert, "x ");
}

TEST(KindsOfOperand, FollowTheTable) {
  auto& put = *findCommand(commandTable(), "put");
  EXPECT_TRUE(kindsOfOperand(put, 0).local);
  EXPECT_FALSE(kindsOfOperand(put, 0).remote);
  EXPECT_TRUE(kindsOfOperand(put, 1).remote);
  auto& mv = *findCommand(commandTable(), "mv");
  EXPECT_TRUE(kindsOfOperand(mv, 1).remote);
  EXPECT_FALSE(kindsOfOperand(mv, 2).remote);
}

std::string outputOf(const std::string& command) {
  std::string text;
  FILE* pipe = popen(command.c_str(), "r");
  char buffer[4096];
  while (size_t count = fread(buffer, 1, sizeof(buffer), pipe)) text.append(buffer, count);
  EXPECT_EQ(pclose(pipe), 0) << command << "\n" << text;
  return text;
}

// Runs bash's completion of a line with a `capstan` that is a function.
std::string bashCompletes(const std::string& words, unsigned position) {
  std::string file = testing::TempDir() + "capstan-completion-" + std::to_string(getpid()) + ".bash";
  std::ofstream(file) << completionScript("bash", commandTable())
                      << "capstan() { printf '%s\\n' 'docs/' 'a b'; }\ncompopt() { :; }\n"
                      << "COMP_WORDS=(" << words << "); COMP_CWORD=" << position
                      << "; _capstan; printf '[%s]' \"${COMPREPLY[@]}\"\n";
  outputOf("bash -n " + file + " 2>&1");
  std::string text = outputOf("bash " + file + " 2>&1");
  unlink(file.c_str());
  return text;
}

TEST(BashCompletion, CompletesCommandsFlagsChoicesAndRemoteNames) {
  EXPECT_EQ(bashCompletes("capstan mkd", 1), "[mkdir]");
  EXPECT_EQ(bashCompletes("capstan --server h:1 sta", 3), "[stat][status]");
  EXPECT_EQ(bashCompletes("capstan put --if", 2), "[--if-absent][--if-version]");
  EXPECT_EQ(bashCompletes("capstan digest --algorithm s", 3), "[sha256]");
  EXPECT_EQ(bashCompletes("capstan completion f", 2), "[fish]");
  EXPECT_EQ(bashCompletes("capstan cat ''", 2), "[docs/][a b]");
  EXPECT_EQ(bashCompletes("capstan cat x/a", 2), "[x/a b]");
  EXPECT_EQ(bashCompletes("capstan sort --file d", 3), "[docs/]");
  EXPECT_EQ(bashCompletes("capstan sort --type f", 3), "[float]");
  EXPECT_EQ(bashCompletes("capstan job st", 2), "[status]");
  EXPECT_EQ(bashCompletes("capstan job wait a", 3), "[a]") << "the first word of each line of the list";
}

TEST(Completion, KnowsEachCommandAndFlagInEachShell) {
  for (auto* shell : {"bash", "zsh", "fish"}) {
    std::string script = completionScript(shell, commandTable());
    for (auto& command : commandTable()) EXPECT_THAT(script, HasSubstr(command.name)) << shell;
    for (auto* flag : {"if-absent", "token-file", "no-clobber", "algorithm", "cache-policy"})
      EXPECT_THAT(script, HasSubstr(flag)) << shell;
  }
  EXPECT_EQ(completionScript("csh", commandTable()), "");
}

}  // namespace
}  // namespace capstan::cli
