// Shares: parts of a server's tree that are handed out by token. Plain data; see schema/access.capnp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <capstan/base/error.h>

namespace capstan::client {

struct ShareTerms {
  std::string path;  // of a folder; empty: all that this login has
  bool write = false;
  bool compute = true;
  uint64_t lifetime = 0;  // nanoseconds; 0: without end
  uint64_t uses = 0;      // logins; 0: any number
  uint64_t quota = 0;     // bytes that the files in the folder may have together; 0: any number
  std::string label;
};

enum class ShareState : uint16_t { UNSET, LIVE, REVOKED, EXPIRED, USED_UP };  // the numbers of the schema

struct Share {
  std::string id;
  std::string parent;  // the id of the grant that it was made from
  std::string label;
  std::string path;  // relative to what this login has
  bool write = false;
  bool compute = false;
  int64_t made = 0, expires = 0, lastUsed = 0;  // nanoseconds since the epoch; 0: never
  uint64_t uses = 0, used = 0;
  uint64_t quota = 0, stored = 0;  // bytes
  ShareState state = ShareState::UNSET;
  uint32_t connections = 0;
};

struct NewShare {
  Share share;
  std::string token;  // 32 bytes: the secret; the server does not know it any more
};

// How the server is reached, for an invite.
struct Contact {
  std::vector<std::string>
      addresses;            // as the server's owner gave them; "0.0.0.0:PORT" is every address of the machine
  std::string certificate;  // PEM; empty: it has none
};

}  // namespace capstan::client
