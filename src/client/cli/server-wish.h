// Which server is asked for, and what may be sent to it: flag, environment, configuration, default. Pure, but for
// currentEnvironment(). What follows from it is for server-choice.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <capstan/client/cli/arguments.h>
#include <capstan/client/cli/config.h>

namespace capstan::cli {

struct Environment {
  std::optional<std::string> server;     // CAPSTAN_SERVER
  std::optional<std::string> tokenFile;  // CAPSTAN_TOKEN_FILE
  bool insecure = false;                 // CAPSTAN_INSECURE=1
};
Environment currentEnvironment();

// What was asked for. No server: the default one.
struct ServerWish {
  std::optional<std::string> server;  // an address, or '@' and the name of an invite file
  // Who gave the address. Where the folder did, no credential of the user goes there that was not named on the command
  // line: neither the owner's token nor what environment and configuration of the user say.
  Origin addressOrigin = Origin::USER;
  std::string serverFrom;             // "--server", "CAPSTAN_SERVER", "the configuration": for sentences
  std::optional<std::string> remote;  // whose name the server was asked for by
  std::optional<std::string> tokenFile;
  Origin tokenOrigin = Origin::USER;           // the folder's has to be a file of the folder
  bool tokenIsAsked = false;                   // the token file is the flag's: it goes before an invite's token
  bool insecure = false;                       // no TLS; an invite knows better
  Origin insecureOrigin = Origin::USER;        // the folder's is for this machine only
  std::optional<std::string> certificateFile;  // the server's, to be pinned
  uint64_t timeout = 0;                        // of the command, in nanoseconds; 0: none
  std::vector<std::string> warnings;           // of what was asked for and is not done
};

// Flag over environment over configuration; names of remotes replaced by what they stand for. What FOLDER_CONFIG says
// of the token goes with a server that it names, or that nobody names on the command line or in the environment.
ServerWish wishOf(const GlobalFlags& flags, const Environment& environment, const Config& config);

}  // namespace capstan::cli
