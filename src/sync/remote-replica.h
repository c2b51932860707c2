// The server's folder as a side of the synchroniser: listings or the server's notices, batches, differences of large
// files. Over one Client; a broken connection is an `unreachable` of what was under way, and the next look begins anew
// from its cursor.
#pragma once

#include <kj/async-io.h>

#include <capstan/client/client.h>
#include <capstan/sync/replica.h>

namespace capstan::sync {

struct RemoteOptions {
  std::string path;  // at the server; "" is the tree itself
  bool watch = true;
  bool mayMake = true;  // the folder is made by the first operation if it is missing
};

// `client` and `timer` must outlive it.
kj::Own<Replica> newRemoteReplica(client::Client& client, kj::Timer& timer, RemoteOptions options);

}  // namespace capstan::sync
