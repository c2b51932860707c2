// Completion for bash, zsh and fish, made from the table of commands. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <capstan/client/cli/arguments.h>

namespace capstan::cli {

// The script for one shell ("bash", "zsh" or "fish"); empty for another. Names of remote files come from running
// `capstan ls`.
std::string completionScript(std::string_view shell, const std::vector<Command>& table);

}  // namespace capstan::cli
