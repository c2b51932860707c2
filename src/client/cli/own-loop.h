// For commands that make clients of their own, and see to signals themselves: everything that a command has, on a loop
// of its own.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include <capstan/client/cli/runtime.h>

namespace capstan::cli {

using OwnLoopWork = std::function<kj::Promise<int>(Runtime&, Context&, const Connection&)>;

// Runs `work` to its end, or the command's time limit; signals are its business. `server`: the one to use where neither
// flags nor environment name another. Answers the exit status.
int runOnOwnLoop(const char* command, const GlobalFlags& flags, const Operands& operands,
                 const std::optional<std::string>& server, const OwnLoopWork& work);

}  // namespace capstan::cli
