// The content of hot small and middle-sized files in memory, whole files only, shared by all event loops. It never
// holds more than its limit, counting what the allocator really gives out, and never answers what a file no longer is:
// entries are found by inode and version together.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include <kj/common.h>

#include <capstan/base/entry.h>
#include <capstan/server/files/served-folder.h>
#include <capstan/server/files/storage.h>
#include <capstan/storage/version.h>

namespace capstan::server::files {

// Thread-safe. What it hands out may outlive it.
class Cache {
 public:
  // A whole file's bytes. Whoever holds it keeps the memory, which counts against the limit until the last holder
  // drops it, evicted or not: so memory stays bounded however slowly readers read.
  struct Content;
  using Held = std::shared_ptr<const Content>;

  // Room for one file's content, which counts from the beginning. Filled by one thread at a time, then given to
  // insert().
  using Room = std::shared_ptr<Content>;

  Cache(size_t limit, CachePolicy policy);
  ~Cache();
  KJ_DISALLOW_COPY(Cache);

  // The content, if it is there in exactly this version. `status` must be fresh: made after the call that wants the
  // content began. An entry of another version is dropped. Counts a hit or a miss, the latter only for files that could
  // be in the cache.
  Held find(const struct stat& status);
  // Whether find() would answer something; counts nothing.
  bool holds(const FileId& file, const Version& version) const;

  // Whether a file of this size can enter: not empty, and at most an eighth of the limit, so that one file never
  // displaces most of the others.
  bool admits(uint64_t size) const { return size > 0 && size <= largest; }

  // Room for the whole content of a file, to be called between the stat that gave `before` and the first byte read.
  // Evicts as many entries as that takes (none that a reader holds, since that would free nothing). Null if the size is
  // not admitted, if too much is held, or if the file changed so lately that another change might not show.
  Room makeRoom(const struct stat& before);

  // Enters what was read into the room. `after` is a stat from after the last byte was read: if it shows another
  // version than `before`, the content may be a mixture and is not entered.
  void insert(Room content, const struct stat& after);

  CacheFigures figures() const;

 private:
  // Outlives the cache while content is held.
  struct Account;
  struct HashOfFile {
    size_t operator()(const FileId& file) const { return std::hash<uint64_t>()(file.inode * 31 + file.device); }
  };
  using Order = std::list<Held>;

  // constant after construction
  const size_t limit;
  const size_t largest;
  const CachePolicy policy;
  const std::shared_ptr<Account> account;

  // protected by mutex
  mutable std::mutex mutex;
  Order order;  // the next to be evicted first
  std::unordered_map<FileId, Order::iterator, HashOfFile> index;
  uint64_t hits = 0, misses = 0, evictions = 0;

  void drop(Order::iterator entry);
  bool evictFor(size_t charge);
};

struct Cache::Content {
  Content(const struct stat& status, std::shared_ptr<Account> account, size_t charge);
  ~Content();
  KJ_DISALLOW_COPY(Content);

  char* data() { return bytes.get(); }
  std::string_view view() const { return {bytes.get(), size}; }

  const FileId file;
  const Version version;
  const size_t size;

 private:
  const std::shared_ptr<Account> account;
  const size_t charge;
  std::unique_ptr<char[]> bytes;
};

}  // namespace capstan::server::files
