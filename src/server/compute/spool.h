// Files for what is too large for memory: runs of a sort that goes on, values, results of jobs. Temporary ones have no
// name (O_TMPFILE, or unlinked at once), so that nothing is left of them however the server dies.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <kj/common.h>
#include <kj/io.h>

#include <capstan/base/error.h>

namespace capstan::server::compute {

// How many bytes somebody may have in spool files, and has. Thread-safe. Kept alive by the files that are charged to
// it.
struct SpoolAccount {
  explicit SpoolAccount(uint64_t limit, uint64_t memoryLimit = 64 << 20) : limit(limit), memoryLimit(memoryLimit) {}

  const uint64_t limit;
  const uint64_t memoryLimit;  // of those bytes, as many may be in memory; the others are in files however small
  std::atomic<uint64_t> used{0};
  std::atomic<uint64_t> inMemory{0};  // of finished content

  // False, and nothing charged, if it would be more than the limit.
  bool charge(uint64_t bytes);
  void release(uint64_t bytes) { used.fetch_sub(bytes, std::memory_order_relaxed); }

  // `quota`, with a sentence that says how much the limit is and what to do.
  Error exceeded() const;
};

// What one thing has of an account, given back when it is destroyed. Belongs to one thread at a time.
class SpoolCharge {
 public:
  // `account` may be null: then nothing is counted, and everything is granted.
  explicit SpoolCharge(std::shared_ptr<SpoolAccount> account) : account(std::move(account)) {}
  SpoolCharge(SpoolCharge&& other) : account(std::move(other.account)), charged(std::exchange(other.charged, 0)) {}
  SpoolCharge& operator=(SpoolCharge&& other) {
    settle(0);
    account = std::move(other.account);
    charged = std::exchange(other.charged, 0);
    return *this;
  }
  ~SpoolCharge() { settle(0); }
  KJ_DISALLOW_COPY(SpoolCharge);

  // Sees to it that at least `bytes` in all are charged: ahead, in larger steps, so that many small additions do not
  // contend for the account; the exact need if only that is left. Otherwise `quota`, and nothing more is charged.
  Status cover(uint64_t bytes);
  // Gives back what is charged beyond `bytes`.
  void settle(uint64_t bytes);

 private:
  std::shared_ptr<SpoolAccount> account;
  uint64_t charged = 0;
};

// One file, written from its beginning to its end and then read. Writing belongs to one thread at a time; once nobody
// writes any more any number of threads may read. Its bytes are charged to the account until it is destroyed.
class SpoolFile {
 public:
  // Takes over `fd`, which is empty. `account` may be null: then nothing is counted.
  SpoolFile(kj::AutoCloseFd fd, std::shared_ptr<SpoolAccount> account);
  // Does not wait where freeing the file takes long.
  ~SpoolFile();
  KJ_DISALLOW_COPY(SpoolFile);

  // In the whole process. All together may have half of the descriptors that the process may have: `limit` beyond.
  static uint32_t openNow();

  // One write, so small pieces want to be gathered before. Nothing is added if it fails. Errors: noSpace, quota
  // (SpoolAccount::exceeded), tooLarge (for the file system), io.
  Status append(std::string_view data);
  // Nothing more will be appended for now: gives back to the account what was charged ahead.
  void settle() { charge.settle(bytes); }
  uint64_t size() const { return bytes; }

  // Up to `size` bytes, fewer only at the end.
  Result<size_t> readAt(uint64_t offset, char* to, size_t size) const;

  // Makes what was written survive the machine; the caller flushes the folder.
  Status flush();

 private:
  kj::AutoCloseFd fd;
  SpoolCharge charge;
  uint64_t bytes = 0;

  friend class Spool;
};

// A folder for spool files. Thread-safe; must outlive nothing: files live on without it.
class Spool {
 public:
  // `folder` must exist. Holds a descriptor of it. `useTmpfile` false: works as on file systems without O_TMPFILE,
  // where a file has a name ("unnamed-" and random digits) for the moment between its making and its unlinking.
  static Result<std::unique_ptr<Spool>> open(const std::string& folder, bool useTmpfile = true);

  // A file without a name.
  Result<std::unique_ptr<SpoolFile>> newFile(std::shared_ptr<SpoolAccount> account) const;
  // A file with a name that must be free, mode 0600. Names, here and below, are without '/'.
  Result<std::unique_ptr<SpoolFile>> newFile(const std::string& name, std::shared_ptr<SpoolAccount> account) const;
  // One that is there, to be read. Its size is not charged to anybody. Errors: notFound, corrupt (no plain file), io.
  Result<std::unique_ptr<SpoolFile>> openFile(const std::string& name) const;
  Status removeFile(const std::string& name) const;  // that it is not there is no error
  Status flushFolder() const;
  Result<std::vector<std::string>> names() const;

 private:
  const kj::AutoCloseFd folder;
  const bool useTmpfile;

  Spool(kj::AutoCloseFd folder, bool useTmpfile) : folder(kj::mv(folder)), useTmpfile(useTmpfile) {}
};

}  // namespace capstan::server::compute
