// For commands that make clients of their own, and see to signals themselves: everything that a command has, on a loop
// of its own.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include <capstan/client/cli/runtime.h>

namespace capstan::cli {

// 128 plus its number when a signal that should end the command has come.
using WhenSignalled = std::function<kj::Promise<int>()>;
using OwnLoopWork = std::function<kj::Promise<int>(Context&, WhenSignalled)>;

// Runs `work` to its end, or the command's time limit; signals are its business. `server`: the one to use where neither
// flags nor environment name another. Answers the exit status.
int runOnOwnLoop(const char* command, const GlobalFlags& flags, const Operands& operands,
                 const std::optional<std::string>& server, const OwnLoopWork& work);

}  // namespace capstan::cli
