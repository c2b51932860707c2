// From a path to what is there, one name at a time in user space: for paths with symlinks on the way, and for kernels
// without openat2. Internal to Root.
#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

#include <kj/io.h>

#include <capstan/base/error.h>
#include <capstan/storage/version.h>

namespace capstan::storage {

// Where a walk begins, and what it must not enter. Constant.
struct Ground {
  int root = -1;  // not owned
  FileId stateFolder;
  bool isServed = true;  // the served folder itself: STATE_FOLDER in it is the server's
};

// Where a walk ended. `name` in `folder` is `target`, and was at the moment of the last step; "." if the walk ended at
// a folder that was reached otherwise than by name.
struct Walked {
  kj::AutoCloseFd folder;  // O_PATH
  std::string name;
  kj::AutoCloseFd target;  // O_PATH; a symlink only if the last name was not to be followed
  struct stat status;      // of target
  std::string canonical;   // the path of `target` from the ground, with no symlink in it
};

// Each step opens one name without following symlinks; links are read and walked by the same rules, so nothing outside
// the root is opened, whatever is moved about meanwhile. `path` is valid. Holds at most four descriptors, however deep
// the path. With `made`, missing folders on the way are made, the last name included (but none that only a symlink
// names), and `made` collects their parents, opened so that they can be flushed.
Result<Walked> walk(const Ground& ground, std::string_view path, bool followLast, std::vector<kj::AutoCloseFd>* made);

// The folder at a valid path, with O_PATH, on a way without symlinks: one is as if there was nothing.
Result<kj::AutoCloseFd> walkPlain(const Ground& ground, std::string_view path);

}  // namespace capstan::storage
