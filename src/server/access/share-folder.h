// The folder that shares are kept in: reading, replacing and removing their files, so that several servers can do so at
// the same time, and a crash leaves the old file or the new one. Knows what is in a file, but not what it means.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <kj/io.h>

#include <capstan/base/error.h>
#include <capstan/server/access/share-file.h>

namespace capstan::server {

// Tells a file from what it was before: each time it is replaced it is another one.
struct FileStamp {
  uint64_t inode = 0;
  int64_t changed = 0;  // ctime, nanoseconds
  bool operator==(const FileStamp&) const = default;
};

// For one thread at a time. All methods block.
class ShareFolder {
 public:
  // STATE/shares, made if missing, mode 0700. `state` is a descriptor of STATE, needed by this call only.
  static Result<std::unique_ptr<ShareFolder>> open(int state);
  ShareFolder(kj::AutoCloseFd folder, kj::AutoCloseFd lockFile);
  KJ_DISALLOW_COPY(ShareFolder);

  // Keeps all others who do so waiting until it is destroyed. Waits two seconds at most, and not at all shortly after
  // it has waited in vain: then it is `overloaded`.
  class Lock {
   public:
    explicit Lock(int fd) : fd(fd) {}
    Lock(Lock&& other) : fd(other.fd) { other.fd = -1; }
    Lock& operator=(Lock&&) = delete;
    ~Lock();

   private:
    int fd;
  };
  Result<Lock> lock();

  // Whether anything was made, replaced or removed since list() was called for the last time.
  bool hasChanged() const;
  // The ids of all shares.
  Result<std::map<std::string, FileStamp>> list();
  // What list() has not told, and is there: then hasChanged(), until it is listed again.
  void distrust() { seen = 0; }
  // There is no such file, for certain.
  bool isGone(const std::string& id) const;

  // Errors: notFound; corrupt, also for what is no plain file; io and others, that may pass.
  Result<ShareFile> read(const std::string& id) const;
  FileStamp stampOf(const std::string& id) const;

  // With the lock held. Durable when they return.
  Status write(const std::string& id, const ShareFile& share);
  Status remove(const std::string& id);
  // Removes what a crash left of a write().
  void sweep();

 private:
  const kj::AutoCloseFd folder;
  const kj::AutoCloseFd lockFile;
  std::optional<std::chrono::steady_clock::time_point> waitedInVain;  // when lock() has done so
  int64_t seen = 0;  // the folder's mtime at list(); 0: it may have been changed since without another mtime

  int64_t changed() const;
};

}  // namespace capstan::server
