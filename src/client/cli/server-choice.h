// Which server a command talks to, how, and with which token: what follows from a ServerWish, sockets and files.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <capstan/base/error.h>
#include <capstan/client/cli/server-wish.h>
#include <capstan/client/client.h>
#include <capstan/rpc/address.h>

namespace capstan::cli {

struct ServerChoice {
  rpc::Address address;
  std::vector<rpc::Address> moreAddresses;  // of an invite
  rpc::Security security;
  std::string token;                  // 32 bytes, or empty
  bool tokenIsOwn = false;            // nobody has named it: it is not for other users' servers
  uint64_t timeout = 0;               // as in the wish
  std::vector<std::string> warnings;  // sentences for the user, e.g. about a token file that others can read
  std::vector<std::string> withheld;  // sentences about what was asked for and is not done
};

// Errors: invalidArgument where the address, the invite, the certificate or the token file is not one (a usage error)
// or where FOLDER_CONFIG asks for what it may not have, notFound or denied where a file that was asked for cannot be
// read.
Result<ServerChoice> chooseServer(const ServerWish& wish);

// What every client of the command line is made with.
client::Options clientOptionsOf(const ServerChoice& choice);

// The secret in a token file's text: 64 hex digits, white space around them. `file` is for the sentence, which does not
// hold the text.
Result<std::string> parseToken(std::string_view text, std::string_view file);

// What the address of a listener may be called, so that its token is found: "localhost" is 127.0.0.1 or ::1.
std::vector<rpc::Address> aliasesOf(const rpc::Address& address);

}  // namespace capstan::cli
