// A file held open for reading, and the place that it takes in its connection's count. Internal to src/server/files.
#pragma once

#include <string>

#include <kj/io.h>

#include <capstan/server/files/served-folder.h>
#include <capstan/storage/root.h>

namespace capstan::server::files {

// Immutable; shared by a FileServer and the jobs that it started, which may outlive it.
struct OpenFile {
  kj::AutoCloseFd fd;
  std::string path;  // that it was opened by
  bool local;        // answersAtOnce(fd)
};

// Opens a file for reading, with the errors of FileStore.open. Blocks.
Result<std::shared_ptr<const OpenFile>> openFile(const Root& root, std::string path);

// One of ConnectionScope.openFilesLimit, given back when it is destroyed. Belongs to the connection's loop.
class OpenSlot {
 public:
  explicit OpenSlot(kj::Own<Access> owner) : owner(kj::mv(owner)) {
    ++connection().openFiles;
    if (connection().totals != nullptr) ++connection().totals->openFiles;
  }
  OpenSlot(OpenSlot&&) = default;
  ~OpenSlot() {
    if (owner.get() == nullptr) return;
    --connection().openFiles;
    if (connection().totals != nullptr) --connection().totals->openFiles;
  }

  Access& access() { return *owner; }
  ConnectionScope& connection() { return owner->connection(); }

 private:
  kj::Own<Access> owner;
};

}  // namespace capstan::server::files
