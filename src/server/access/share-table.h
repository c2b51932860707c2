// The shares that a server knows, in memory: by id, by their tokens' hashes, and as a tree of what was made from what.
// What grants.cpp keeps under one mutex; knows nothing of the disk.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <capstan/server/access/grants.h>
#include <capstan/server/access/share-folder.h>

namespace capstan::server {

// Not thread-safe.
class ShareTable {
 public:
  struct Slot {
    std::shared_ptr<Grant> grant;
    ShareFile file;              // as it is on the disk, as far as is known
    FileStamp stamp;             // of the file that was read
    uint64_t unwrittenUses = 0;  // logins that the file does not know of
    int64_t lastUsed = 0;        // nanoseconds since the epoch
    bool isLost = false;         // its file is gone, by which it ended
  };
  using Slots = std::map<std::string, Slot, std::less<>>;

  ShareTable() = default;
  KJ_DISALLOW_COPY(ShareTable);

  // By id. Slots keep their addresses.
  const Slots& all() const { return slots; }
  bool contains(std::string_view id) const { return slots.contains(id); }
  const Slot* find(std::string_view id) const;
  Slot* find(std::string_view id);
  // The grant whose token has this SHA-256, 32 bytes; null: none. Takes the same time for all of which there is none.
  std::shared_ptr<Grant> withToken(const std::string& hash) const;

  // Precondition: there is none with this id. It has ended if the file says so, or the parent has been revoked.
  std::shared_ptr<Grant> insert(const std::string& id, ShareFile file, std::shared_ptr<const Grant> parent,
                                FileStamp stamp);
  void forget(std::string_view id);
  // Marks the grant and all that were made from it.
  Grants::Ended endTree(const Grant& top);

  // The grant, or the one that it was made from, whose uses are used up as far as is known; null: none.
  const Grant* usedUpOf(const Grant& grant) const;
  // When it ended, by itself or with what it was made from, in nanoseconds since the epoch; 0: it has not.
  int64_t endOf(const Slot& slot) const;

  Grants::Info infoOf(const Slot& slot) const;
  // See Grants::list().
  std::vector<Grants::Info> list(const Grant& top) const;

 private:
  Slots slots;
  std::unordered_multimap<uint64_t, const Slot*> byHash;  // by a part of the token's hash
};

}  // namespace capstan::server
