// What `capstan doctor` looks at of the disk: room, and what the file system below a folder can do.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <capstan/client/cli/doctor-finding.h>

namespace capstan::cli {

// What this user may still take. A file system that has no fixed number of inodes says 0 of 0.
struct Space {
  uint64_t free = 0, total = 0;  // bytes
  uint64_t freeInodes = 0, totalInodes = 0;
};
// `what` is for sentences: "the served folder /srv/files".
Finding judgeSpace(const std::string& what, const Space& space);

struct FileSystem {
  std::string kind;        // "ext4"; a number in hexadecimal where it is not known
  bool isNetwork = false;  // other machines may change it, and flush as they like
  bool isMemory = false;
  // Found out by trying, nothing where that was not possible.
  std::optional<bool> exchanges;  // renameat2() with RENAME_EXCHANGE
  std::optional<bool> unnamed;    // O_TMPFILE
};
Finding judgeFileSystem(const std::string& what, const FileSystem& system);

// The name for statfs()'s number.
FileSystem fileSystemOf(uint64_t magic);

// Room, kind and abilities. Tries the latter in a folder of its own, which is gone afterwards: in .capstan, where the
// server has made that.
Findings lookAtRoot(const std::string& root);
// Room alone; of a folder that is not there yet, where it would be.
Finding lookAtRoomFor(const std::string& stateFolder);

}  // namespace capstan::cli
