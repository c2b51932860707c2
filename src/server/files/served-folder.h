// One served folder with all that its connections share, and the door from a connection to it: newFileStore().
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <capnp/capability.h>
#include <kj/async.h>
#include <kj/timer.h>

#include <capstan/base/blocking-pool.h>
#include <capstan/base/entry.h>
#include <capstan/base/error.h>
#include <capstan/base/tree-watcher.h>
#include <capstan/schema/files.capnp.h>
#include <capstan/server/access/access.h>
#include <capstan/server/files/storage.h>
#include <capstan/storage/trash.h>

namespace capstan::server::files {

enum class CachePolicy : uint16_t { UNSET, FIFO, LRU };  // the numbers of CachePolicy in schema/gateway.capnp

struct CacheFigures {
  uint64_t bytes = 0, limit = 0, entries = 0, hits = 0, misses = 0, evictions = 0;
  CachePolicy policy = CachePolicy::FIFO;
};

struct FolderFigures {
  uint64_t commits = 0;  // mutations made durable
  uint64_t flushes = 0;  // fsync, fdatasync and syncfs calls that they cost
  uint64_t pending = 0;  // mutations that are not answered yet
  uint64_t trashBytes = 0;
  CacheFigures cache;
  struct Watch {
    WatchMethod method = WatchMethod::UNSET;  // UNSET: nobody has watched yet
    uint64_t interval = 0;                    // nanoseconds, of what is polled
    bool partly = false;
  } watch;
};

struct FolderOptions {
  std::string root;
  size_t cacheBytes = 64 << 20;
  CachePolicy cachePolicy = CachePolicy::FIFO;
  uint64_t resumeTime = 24ull * 3600 * 1'000'000'000;  // nanoseconds
  storage::TrashLimits trash = {};
  // How long changes by other programs are noticed after the last subscription has ended: whoever synchronises every
  // few hours goes on from its cursor.
  uint64_t watchTime = 24ull * 3600 * 1'000'000'000;  // nanoseconds
  uint32_t listEntries = 2048;                        // in one answer: at most MAX_LIST_ENTRIES
  uint32_t watchNotices = 2000;                       // in one call to a watcher
  size_t watchChanges = 100'000;                      // remembered for watchers
  uint64_t shareQuota = 0;                            // bytes, of a share that was made without one; 0: none
};

// Limits that the file interfaces enforce; the same numbers go into schema::Limits.
inline constexpr size_t MAX_READ_BYTES = 1 << 20;
inline constexpr size_t MAX_PUT_BYTES = 1 << 20;
inline constexpr uint32_t MAX_LIST_ENTRIES = 2048;
inline constexpr uint32_t MAX_BATCH_OPERATIONS = 16384;
inline constexpr size_t STREAM_CHUNK_BYTES = 256 << 10;

// A file held open, for those in this process who read it without RPC. Plain data, may cross threads.
struct HeldFile {
  int fd = -1;  // valid as long as `owner` is held
  std::shared_ptr<const void> owner;
  std::string path;  // relative to `top`
  std::string top;   // of the tree that it was opened in, from the root of the served folder
  // Under which it was opened by a client: nothing is read once that has ended. Null: by none.
  std::shared_ptr<const Grant> grant = nullptr;
};

// Thread-safe. Must outlive every FileStore made from it; destroying it finishes commits that have begun.
class ServedFolder {
 public:
  // Opens the root, makes its state folder, sweeps what dead servers left in staging. `pool` must outlive it.
  static Result<std::unique_ptr<ServedFolder>> open(FolderOptions options, BlockingPool& pool);
  virtual ~ServedFolder() noexcept(false) = default;

  // A capability for the tree that `access` is for, on the connection's loop.
  virtual schema::FileStore::Client newFileStore(kj::Own<Access> access) = 0;

  // Opens a file for reading, with the errors of FileStore.open: in the tree at `top`, out of which nothing leads.
  // Blocks.
  virtual Result<HeldFile> hold(std::string path, const std::string& top = {}) = 0;
  // The version that the held file has now. Blocks.
  virtual Result<Version> versionOf(const HeldFile& file) = 0;

  // What a capability of `scope`'s connection stands for, if it was made by this folder for that connection; nothing if
  // it is another server's, the peer's own, or may not be used any more (then calling it tells why). On the
  // connection's loop; waits until a promised capability is known.
  virtual kj::Promise<kj::Maybe<HeldFile>> localFile(ConnectionScope& scope, schema::File::Client file) = 0;
  // The same for a tree: what its capability may do, and where its top is.
  virtual kj::Promise<kj::Maybe<kj::Own<Access>>> localTree(ConnectionScope& scope,
                                                            schema::FileStore::Client store) = 0;

  // Resolves on the calling loop when the mutation that was being applied at this moment, if there was one, is: those
  // that begin later have seen what was true before this call.
  virtual kj::Promise<void> whenApplied() = 0;

  // What the files below this path, for which some share has a quota, hold as it was last measured; 0: it was not.
  virtual uint64_t storedBelow(const std::string& path) const {
    (void)path;
    return 0;
  }

  // Deletes soon what dropped uploads have left of grants that have ended: nobody can resume them. `hasEnded` is asked
  // on another thread. On any loop; does not wait.
  using HasEnded = std::function<bool(std::string_view grantId)>;
  virtual void forgetLeftovers(HasEnded hasEnded) { (void)hasEnded; }

  virtual FolderFigures figures() const = 0;
};

}  // namespace capstan::server::files
