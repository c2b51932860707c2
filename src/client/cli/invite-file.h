// What `capstan share` writes for the receiver: the invite, with the addresses under which the server can be reached.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <capstan/base/error.h>
#include <capstan/client/share.h>
#include <capstan/rpc/address.h>
#include <capstan/rpc/invite.h>

namespace capstan::cli {

// What this machine is called by others, for servers that listen on all of its addresses.
struct Machine {
  std::string host;                    // the server's name of itself
  std::vector<std::string> addresses;  // numeric, of its interfaces, without loopback; empty: it is another machine
};
// Of the machine that this program runs on. `host`: as the server tells it.
Machine thisMachine(std::string host);

// The addresses for an invite, the best first: those that others can reach before those of this machine alone, sockets
// last. `dialled`: by which the server was reached just now.
std::vector<rpc::Address> inviteAddresses(const std::vector<std::string>& listeners, const rpc::Address& dialled,
                                          const Machine& machine);

// Whether somebody on another machine could use one of them.
bool reachableFromElsewhere(const std::vector<rpc::Address>& addresses);

// Writes an invite to a file that nobody has named, so it takes nothing's place: `exists` where there is something, a
// symlink too. Mode 0600.
Status writeNewInvite(const std::string& file, std::string_view text);

}  // namespace capstan::cli
