// A file held open for reading. Internal to src/server/files.
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

}  // namespace capstan::server::files
