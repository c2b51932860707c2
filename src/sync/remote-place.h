// Where the synchroniser's folder is at the server, and what the server's words are here: paths without the folder's
// own, nodes for entries, failures of a connection as values. Shared by the parts of the remote side.
#pragma once

#include <deque>
#include <optional>
#include <string>

#include <kj/async.h>

#include <capstan/client/client.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/sync/node.h>

namespace capstan::sync {

struct RemotePlace {
  client::Client& client;
  std::string folder;  // "" is the tree itself

  // A path as the server has it.
  std::string atServer(std::string_view path) const { return joinPath(folder, path); }
  // The path within the folder of what the server says is at or below it. It becomes a path on this machine: so
  // whatever does not follow the rules of paths, or is elsewhere, is `corrupt`, and not looked at any further.
  Result<std::string> within(std::string_view path) const;

  // Calls `use` with the tree of the current connection (a new one if there is none); a connection that breaks is an
  // `unreachable`, bugs go on as exceptions. T: what the Result holds.
  template <typename T, typename Use>
  kj::Promise<Result<T>> with(Use use) const {
    return client.fileStore()
        .then([use = kj::mv(use)](Result<schema::FileStore::Client>&& store) mutable -> kj::Promise<Result<T>> {
          if (!store.ok()) return Result<T>(std::move(store).error());
          return use(*store);
        })
        .catch_([](kj::Exception&& exception) -> Result<T> { return failureIn(kj::mv(exception)); });
  }

  // What a call that threw comes to.
  static Error failureIn(kj::Exception&& exception) { return rpc::errorFromException(rpc::clamped(kj::mv(exception))); }
};

// The server's versions know by themselves when they are settled: what a Node of this side has for a stamp.
inline Node nodeOf(const Entry& entry) {
  Node node;
  node.type = entry.type;
  node.size = entry.size;
  node.mtime = entry.mtime;
  node.mode = entry.mode;
  node.target = entry.target;
  node.stamp = entry.version;
  node.identity = entry.identity;
  return node;
}

}  // namespace capstan::sync
