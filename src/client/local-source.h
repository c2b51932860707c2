// A local file that is being sent: its content in pieces of data and holes, and whether it stayed what it was.
#pragma once

#include <optional>
#include <string>

#include <kj/io.h>

#include <capstan/base/digest.h>
#include <capstan/base/entry.h>
#include <capstan/base/error.h>

namespace capstan::client {

// Belongs to one transfer. Its calls block, as long as reading one piece takes.
class LocalSource {
 public:
  // The file `relative` below `folder` (AT_FDCWD: the path itself); `shown` is for sentences. Folders are isDirectory,
  // devices and the like unsupported; a symlink is followed only with `follow`. What says it is empty is read to its
  // end at once, for the sake of /proc: at most 64 MiB (tooLarge).
  static Result<LocalSource> open(int folder, const std::string& relative, const std::string& shown, bool follow);

  uint64_t size() const { return bytes; }
  // Mode and mtime as they were when it was opened.
  Attributes attributes() const { return metadata; }

  struct Piece {
    uint64_t length = 0;
    bool hole = false;
  };
  // What begins at `position`, which is before the end. Without support by the file system all is data.
  Piece pieceAt(uint64_t position);
  // Exactly `size` bytes; `changed` if they are not there any more.
  Status read(void* buffer, uint64_t size, uint64_t position) const;
  // Adds the content from `from` to `to` to the hash.
  Status hash(Hasher& hasher, uint64_t from, uint64_t to);

  // Ok while size and times are what they were, else `changed`.
  Status checkUnchanged() const;

  // Names this content at this remote path, the same in a later run: 32 bytes.
  std::string resumeKey(std::string_view remotePath, std::string_view salt) const;

 private:
  kj::AutoCloseFd fd;
  std::string shown;
  uint64_t bytes = 0;
  Attributes metadata;
  int64_t changeTime = 0;
  uint64_t device = 0;
  uint64_t inode = 0;
  // Data as the file system told last. It is asked once for each extent: on tmpfs the answer takes as long as the
  // extent.
  uint64_t dataBegin = 0;
  uint64_t dataEnd = 0;
  std::optional<std::string> gathered;  // the content of a file that says it is empty, and is not

  Status gather();
  Error changed() const;
};

}  // namespace capstan::client
