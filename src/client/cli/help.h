// The texts of `--help`, made from the table of commands. Pure.
#pragma once

#include <string>
#include <vector>

#include <capstan/client/cli/arguments.h>

namespace capstan::cli {

// What the program is, its commands and global flags.
std::string helpAboutAll(const std::vector<Command>& table);

// One command: usage, operands, options, examples, what comes next.
std::string helpAbout(const Command& command);

// The commands of the shell and its own words.
std::string helpInShell(const std::vector<Command>& table);

}  // namespace capstan::cli
