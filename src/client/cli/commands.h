// The table of subcommands and the way from argv to an exit status.
#pragma once

namespace capstan::cli {

// Parses the command line and the configuration, runs the command, answers the exit status of the contract.
int run(int argc, char** argv);

}  // namespace capstan::cli
