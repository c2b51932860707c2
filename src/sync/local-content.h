// Files of the local folder while they are read: on the pool, never on the event loop, and only as long as they are
// what they were expected to be.
#pragma once

#include <memory>
#include <string>

#include <kj/async.h>
#include <kj/io.h>

#include <capstan/base/blocking-pool.h>
#include <capstan/sync/replica.h>

namespace capstan::sync {

// A file that is open, and what it was then. Thread-safe: nothing in it changes.
struct LocalFile {
  kj::AutoCloseFd fd;
  std::string path;
  Node node;
  bool sparse = false;

  // `changed` unless it is what it was when it was opened. Blocks.
  Status checkUnchanged() const;
};

// Opens a file below the folder; `changed` if it is not what `expected` says (by stamp; without one, any file will do).
// Blocks.
Result<std::shared_ptr<LocalFile>> openLocalFile(const std::string& folder, const std::string& path,
                                                 const Node& expected);

// All of a small file, with its digest. Blocks.
Result<Replica::Fetched> fetchLocalFile(const std::string& folder, const std::string& path, const Node& expected);

// XXH3-128 of a file that stays the same meanwhile. Blocks.
Result<std::string> digestOfLocalFile(const std::string& folder, const std::string& path,
                                      const std::atomic<bool>& cancelled);

// The pool must outlive its promises.
kj::Own<Content> newLocalContent(BlockingPool& pool, std::shared_ptr<LocalFile> file);

}  // namespace capstan::sync
