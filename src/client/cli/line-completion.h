// What TAB makes of the line being typed: commands first, then remote and local names.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <capstan/client/cli/arguments.h>
#include <capstan/client/cli/line-editor.h>
#include <capstan/client/cli/words.h>

namespace capstan::cli {

// A name that a word may become; folders end in '/'.
using Names = std::vector<std::string>;

// Which kinds of names the operand at `index` of a command takes, from the words in Command.operands.
struct OperandKinds {
  bool remote = false;
  bool local = false;
};
OperandKinds kindsOfOperand(const Command& command, size_t index);

// What the word becomes when it may be any of `names`: the longest beginning they share; with a space or the closing
// quote behind it where only one is left that is no folder. Names that cannot be typed (control characters, not UTF-8)
// are left out. Pure.
Completions completeFrom(const PartialWord& word, Names names);

// The names in the local folder that the word is in.
Names localNames(std::string_view word);
// The folder part of a word: "a/b" is "a/", "b" is "".
std::string_view folderOfWord(std::string_view word);

// Everything together. `listRemote` answers the names (with their folder, as typed) in a remote folder, `listJobs` the
// ids of jobs.
Completions completeLine(std::string_view beforeCursor, const std::vector<Command>& table,
                         const std::function<Names(std::string_view folder)>& listRemote,
                         const std::function<Names()>& listJobs = {});

}  // namespace capstan::cli
