// Pages of a folder's entries, as FileStore.list answers them. A cursor holds all that is needed to go on (the last
// path answered), so that it works anywhere and does not expire; sorted names are remembered a while, so that going on
// is quick.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <kj/common.h>

#include <capstan/base/entry.h>
#include <capstan/base/error.h>
#include <capstan/server/files/storage.h>
#include <capstan/storage/names.h>
#include <capstan/storage/root.h>

namespace capstan::server::files {

class Cache;

struct ListRequest {
  std::string path;
  bool recursive = false;
  std::string cursor;       // empty: from the beginning
  uint32_t maxEntries = 0;  // 0, or more than MAX_LIST_ENTRIES: that
};

struct ListPage {
  std::vector<Entry> entries;
  // Folders below the listed one that could not be read, by the path in each: they were listed themselves, on this page
  // or before it, and of what is in them nothing (more) is.
  std::vector<Error> unread;
  std::string cursor;
  bool atEnd = false;
};

// Where a listing stands. On the wire: a format byte, 8 bytes that tell this listing from others, the last path
// answered (relative to the folder that is listed).
struct ListCursor {
  std::string listing;
  std::string last;

  std::string encode() const;
  // invalidArgument if it is none that encode() made.
  static Result<ListCursor> decode(std::string_view bytes);
};

// Thread-safe. Root and cache must outlive it.
class Listings {
 public:
  // How much memory may be spent on names of listings that may go on; the oldest are forgotten first.
  static constexpr size_t DEFAULT_MEMORY = 32 << 20;

  Listings(const Root& root, const Cache& cache, size_t memoryLimit = DEFAULT_MEMORY);
  KJ_DISALLOW_COPY(Listings);

  // Of a tree that not everybody may see: what is remembered for a cursor is not found by those with another `space`.
  // Blocks: for the pool.
  Result<ListPage> page(const Root& tree, std::string_view space, const ListRequest& request);
  // Of the whole folder.
  Result<ListPage> page(const ListRequest& request) { return page(root, {}, request); }

  // Names in memory now, in bytes.
  size_t memory() const;

 private:
  // The folders that a listing had open when its last page ended, the listed one first.
  using Snapshots = std::vector<std::shared_ptr<const Names>>;
  struct Remembered {
    std::string listing;
    Snapshots folders;
    size_t bytes;
  };

  const Root& root;
  const Cache& cache;
  const size_t memoryLimit;

  // protected by mutex
  mutable std::mutex mutex;
  std::list<Remembered> remembered;  // the next to be forgotten first; few, so they are searched one by one
  size_t rememberedBytes = 0;

  Snapshots recall(const std::string& listing) const;
  void remember(const std::string& listing, Snapshots folders);
  void forget(const std::string& listing);
};

}  // namespace capstan::server::files
