// Which server a command talks to, how, and with which token: flag, environment, configuration, default. The first half
// is pure, the second looks at sockets and token files.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <capstan/base/error.h>
#include <capstan/client/cli/arguments.h>
#include <capstan/client/cli/config.h>
#include <capstan/client/client.h>
#include <capstan/rpc/address.h>

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
  std::optional<std::string> tokenFile;
  std::string serverFrom;                      // "--server", "CAPSTAN_SERVER", "the configuration": for sentences
  bool tokenIsAsked = false;                   // the token file is the flag's: it goes before an invite's token
  bool insecure = false;                       // no TLS; an invite knows better
  std::optional<std::string> certificateFile;  // the server's, to be pinned
};

// Flag over environment over configuration; names of remotes replaced by what they stand for.
ServerWish wishOf(const GlobalFlags& flags, const Environment& environment, const Config& config);

struct ServerChoice {
  rpc::Address address;
  std::vector<rpc::Address> moreAddresses;  // of an invite
  rpc::Security security;
  std::string token;                  // 32 bytes, or empty
  bool tokenIsOwn = false;            // nobody has named it: it is not for other users' servers
  std::vector<std::string> warnings;  // sentences for the user, e.g. about a token file that others can read
};

// Errors: invalidArgument where the address, the invite, the certificate or the token file is not one (a usage error),
// notFound or denied where a file that was asked for cannot be read.
Result<ServerChoice> chooseServer(const ServerWish& wish);

// What every client of the command line is made with.
client::Options clientOptionsOf(const ServerChoice& choice);

// The secret in a token file's text: 64 hex digits, white space around them. `file` is for the sentence, which does not
// hold the text.
Result<std::string> parseToken(std::string_view text, std::string_view file);

// What the address of a listener may be called, so that its token is found: "localhost" is 127.0.0.1 or ::1.
std::vector<rpc::Address> aliasesOf(const rpc::Address& address);

}  // namespace capstan::cli
