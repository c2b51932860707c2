// Files for what is too large for memory: runs of a sort that goes on, values, results of jobs. Temporary ones have no
// name (O_TMPFILE, or unlinked at once), so that nothing is left of them however the server dies.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <kj/common.h>
#include <kj/io.h>

#include <capstan/base/error.h>

namespace capstan::server::compute {

// How many bytes somebody may have in spool files, and has. Thread-safe. Kept alive by the files that are charged to it.
struct SpoolAccount {
  explicit SpoolAccount(uint64_t limit) : limit(limit) {}

  const uint64_t limit;
  std::atomic<uint64_t> used{0};

  // False, and nothing charged, if it would be more than the limit.
  bool charge(uint64_t bytes);
  void release(uint64_t bytes) { used.fetch_sub(bytes, std::memory_order_relaxed); }
};

// One file, written from its beginning to its end and then read. Writing belongs to one thread at a time; once nobody
// writes any more any number of threads may read. Its bytes are charged to the account until it is destroyed.
class SpoolFile {
 public:
  // Takes over `fd`, which is empty. `account` may be null: then nothing is counted.
  SpoolFile(kj::AutoCloseFd fd, std::shared_ptr<SpoolAccount> account);
  ~SpoolFile();
  KJ_DISALLOW_COPY(SpoolFile);

  // Errors: noSpace, quota (the account's limit, with a sentence that says how much it is), io.
  Status append(std::string_view bytes);
  uint64_t size() const { return bytes; }

  // Up to `size` bytes, fewer only at the end.
  Result<size_t> readAt(uint64_t offset, char* to, size_t size) const;

  // Makes what was written survive the machine; the caller flushes the folder.
  Status flush();

 private:
  kj::AutoCloseFd fd;
  std::shared_ptr<SpoolAccount> account;
  uint64_t bytes = 0;
  uint64_t charged = 0;
};

// A folder for spool files. Thread-safe; must outlive nothing: files live on without it.
class Spool {
 public:
  // `folder` must exist. Holds a descriptor of it.
  static Result<std::unique_ptr<Spool>> open(const std::string& folder);

  // A file without a name.
  Result<std::unique_ptr<SpoolFile>> newFile(std::shared_ptr<SpoolAccount> account) const;
  // A file with a name that must be free, mode 0600.
  Result<std::unique_ptr<SpoolFile>> newFile(const std::string& name, std::shared_ptr<SpoolAccount> account) const;
  // One that is there, to be read. Its size is not charged to anybody.
  Result<std::unique_ptr<SpoolFile>> openFile(const std::string& name) const;
  Status removeFile(const std::string& name) const;  // that it is not there is no error
  Status flushFolder() const;
  Result<std::vector<std::string>> names() const;

 private:
  kj::AutoCloseFd folder;
  explicit Spool(kj::AutoCloseFd folder) : folder(kj::mv(folder)) {}
};

}  // namespace capstan::server::compute
