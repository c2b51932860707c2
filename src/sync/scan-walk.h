// Walks folders on the disk in tree order and tells what it comes upon, one thing after the other. Knows nothing of
// what was agreed.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <functional>
#include <string>
#include <string_view>

#include <kj/io.h>

#include <capstan/base/error.h>
#include <capstan/sync/ignore.h>

namespace capstan::sync {

// What a walk comes upon. In tree order, except for UNREADABLE, which follows what is known of the folder.
struct Seen {
  enum class Kind : uint8_t {
    ENTRY,       // a file, folder or symlink
    SPECIAL,     // a device, socket or pipe, or a name that cannot be transferred
    UNREADABLE,  // nothing is known of what is (still) in this folder, or whether this is there at all: `error`
    VANISHED,    // gone, or something else, since it was listed: to be looked at again
  };
  Kind kind = Kind::ENTRY;
  bool settled = false;  // of ENTRY: whether the stamp was old enough in that moment
  int error = 0;         // an errno
  struct stat status;    // of ENTRY
};

// What walks have in common.
struct WalkOptions {
  int root = -1;
  const IgnoreRules* ignore = nullptr;           // folders that are ignored are not entered, nor told
  const std::atomic<bool>* cancelled = nullptr;  // ends the walk early
  // Answers an errno instead of opening a folder, or 0: for tests of what cannot be read.
  std::function<int(std::string_view folder)> failing;
};

class TreeWalk {
 public:
  using Sink = std::function<void(std::string_view path, const Seen& seen)>;
  TreeWalk(const WalkOptions& options, Sink sink) : options(options), sink(std::move(sink)) {}

  // Everything below the folder at `path` (relative to the root; "" is the root). Mounts below are entered; symlinks
  // are not followed.
  void below(const std::string& path);

 private:
  void walk(kj::AutoCloseFd folder, size_t depth);
  enum class Next { ON, ENTER, LEAVE };  // to the next name, into this folder, out of the folder that it is in
  Next look(int folder, std::string_view name, Seen& seen);
  kj::AutoCloseFd open(int parent, const char* name);
  void tellUnreadable(int error);

  const WalkOptions& options;
  Sink sink;
  std::string path;  // of what is looked at
};

}  // namespace capstan::sync
