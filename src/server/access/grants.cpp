#include <capstan/server/access/grants.h>

#include <algorithm>
#include <ctime>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>

#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/base/log.h>
#include <capstan/base/text.h>
#include <capstan/server/access/share-crowd.h>
#include <capstan/server/access/share-folder.h>

namespace capstan::server {

namespace {

constexpr size_t ID_LENGTH = 10;
constexpr int64_t MINUTE = 60ll * 1'000'000'000;

int64_t wallClock() {
  timespec time{};
  clock_gettime(CLOCK_REALTIME, &time);
  return toNanoseconds(time);
}

std::string newId() {
  constexpr char LETTERS[] = "abcdefghijklmnopqrstuvwxyz234567";
  std::string id;
  for (char byte : randomBytes(ID_LENGTH)) id += LETTERS[static_cast<unsigned char>(byte) % 32];
  return id;
}

Error usedUpError(const Grant& grant) {
  std::string name = grant.terms.label.empty() ? grant.id : "\"" + escapeForTerminal(grant.terms.label) + "\"";
  return {ErrorCode::EXPIRED,
          "the share " + name + " was used " + std::to_string(grant.terms.uses) +
              " times, as often as it may be; ask whoever gave it to you for a new one",
          {}};
}

// Two mutexes, `disk` before `memory`: what has to be decided at once waits for no disk. ShareFolder's lock keeps the
// other servers of the folder away while `disk` is held.
class GrantsImpl final : public Grants {
 public:
  GrantsImpl(std::unique_ptr<ShareFolder> folder, uint32_t sharesLimit, std::string ownerHash)
      : folder(std::move(folder)), sharesLimit(sharesLimit), ownerHash(std::move(ownerHash)) {}

  ~GrantsImpl() noexcept(false) { tidy(); }

  const std::shared_ptr<Grant>& owner() const override { return theOwner; }

  std::shared_ptr<Grant> find(std::string_view id) const override {
    if (id == theOwner->id) return theOwner;
    std::lock_guard lock(memory);
    auto found = slots.find(id);
    return found == slots.end() ? nullptr : found->second.grant;
  }

  std::shared_ptr<Grant> match(std::string_view token) const override {
    std::string hash = digestOf(DigestAlgorithm::SHA256, token);
    bool isOwners = equalInConstantTime(hash, ownerHash);
    std::shared_ptr<Grant> matched;
    std::lock_guard lock(memory);
    // Whoever tries tokens does not choose their hashes: what a search by these tells is of no use.
    auto [begin, end] = byHash.equal_range(keyOf(hash));
    for (auto each = begin; each != end; ++each) {
      if (equalInConstantTime(hash, each->second->file.tokenHash)) matched = each->second->grant;
    }
    return isOwners ? theOwner : matched;
  }

  bool mustCount(const Grant& grant) const override {
    for (const Grant* each = &grant; each != nullptr; each = each->parent.get()) {
      if (each->terms.uses != 0) return true;
    }
    return false;
  }

  std::optional<Error> refusal(const Grant& grant) const override {
    if (auto ended = grant.ended()) return ended;
    std::lock_guard lock(memory);
    const Grant* usedUp = usedUpOf(grant);
    return usedUp == nullptr ? std::nullopt : std::optional(usedUpError(*usedUp));
  }

  Status use(const Grant& grant) override {
    if (grant.isOwner()) return okStatus();
    if (auto refused = refusal(grant)) return *refused;
    return mustCount(grant) ? useOne(grant) : noteUse(grant);
  }

  Result<Made> make(const std::shared_ptr<Grant>& parent, ShareTerms terms) override {
    std::lock_guard turn(disk);
    auto locked = folder->lock();
    if (!locked.ok()) return locked.error();
    readChanges(Folder::IS_LOCKED);
    Made made;
    made.token = randomBytes(TOKEN_BYTES);
    ShareFile file;
    file.tokenHash = digestOf(DigestAlgorithm::SHA256, made.token);
    file.parent = parent->id;
    file.terms = std::move(terms);
    file.terms.rights.own = false;
    file.made = wallClock();
    auto crowd = crowdFor(*parent);
    if (!crowd.ok()) return crowd.error();
    for (auto& old : *crowd) remove(old);
    std::string id;
    {
      std::lock_guard lock(memory);
      do id = newId();
      while (slots.contains(id));
    }
    Status stored = folder->write(id, file);
    if (!stored.ok()) return stored.error();
    std::lock_guard lock(memory);
    made.grant = insert(id, std::move(file), parent, folder->stampOf(id));
    // It may have been revoked meanwhile, which waits for no disk.
    if (auto ended = parent->ended()) {
      made.grant->revoke();
      return *ended;
    }
    return made;
  }

  std::vector<Info> list(const Grant& top) const override {
    std::vector<Info> all;
    std::lock_guard lock(memory);
    std::map<std::string_view, std::vector<const Slot*>> children;
    for (auto& [id, slot] : slots) children[slot.grant->parent->id].push_back(&slot);
    for (auto& [id, made] : children) {
      std::sort(made.begin(), made.end(), [](const Slot* a, const Slot* b) {
        return std::tie(a->grant->made, a->grant->id) < std::tie(b->grant->made, b->grant->id);
      });
    }
    std::vector<const Slot*> next;  // the first one is the last
    auto push = [&](const std::string& id) {
      auto found = children.find(id);
      if (found != children.end()) next.insert(next.end(), found->second.rbegin(), found->second.rend());
    };
    push(top.id);
    while (!next.empty()) {
      const Slot* slot = next.back();
      next.pop_back();
      all.push_back(infoOf(*slot));
      push(slot->grant->id);
    }
    return all;
  }

  Info infoOf(const Grant& grant) const override {
    std::lock_guard lock(memory);
    auto found = slots.find(grant.id);
    return found == slots.end() ? Info{grant.isOwner() ? theOwner : nullptr} : infoOf(found->second);
  }

  Result<Ended> end(const Grant& top, const std::string& id) override {
    std::lock_guard lock(memory);
    if (id == theOwner->id && top.isOwner()) {
      return Error{ErrorCode::INVALID_ARGUMENT, "the owner's grant cannot be revoked", {}};
    }
    auto found = slots.find(id);
    if (found == slots.end() || !found->second.grant->isFrom(top)) {
      return Error{ErrorCode::NOT_FOUND, "there is no share " + escapeForTerminal(id), {}};
    }
    if (found->second.file.revoked == 0) unstored.insert(id);
    return endTree(*found->second.grant);
  }

  Status storeEnd(const std::string& id) override {
    std::lock_guard turn(disk);
    return writeEnd(id);
  }

  std::vector<std::shared_ptr<Grant>> refresh() override {
    std::lock_guard turn(disk);
    for (auto& id : endsToStore()) writeEnd(id);
    if (folder->hasChanged()) readChanges(Folder::IS_OPEN);
    return std::exchange(unreported, {});
  }

  void tidy() override {
    std::lock_guard turn(disk);
    std::vector<std::string> unwritten, old;
    int64_t now = wallClock();
    {
      std::lock_guard lock(memory);
      for (auto& [id, slot] : slots) {
        if (slot.unwrittenUses > 0) unwritten.push_back(id);
        if (endOf(slot) != 0 && now - endOf(slot) > int64_t(ENDED_SHARE_TIME)) old.push_back(id);
      }
    }
    if (unwritten.empty() && old.empty()) return;
    auto locked = folder->lock();
    if (!locked.ok()) return log::warning("shares are not tidied up: ", locked.error().message.c_str());
    for (auto& id : unwritten) writeUses(id);
    for (auto& id : old) remove(id);
    folder->sweep();
  }

  // Once, before anything else. Blocks.
  Status load() {
    std::lock_guard turn(disk);
    auto locked = folder->lock();
    if (!locked.ok()) return locked.error();
    folder->sweep();
    readChanges(Folder::IS_LOCKED);
    return okStatus();
  }

 private:
  struct Slot {
    std::shared_ptr<Grant> grant;
    ShareFile file;              // as it is on the disk, as far as is known
    FileStamp stamp;             // of the file that was read
    uint64_t unwrittenUses = 0;  // logins that the file does not know of
    int64_t lastUsed = 0;
    bool isLost = false;  // its file is gone, by which it ended
  };

  enum class Folder { IS_LOCKED, IS_OPEN };

  struct ReadShare {
    ShareFile file;
    FileStamp stamp;
  };

  const std::unique_ptr<ShareFolder> folder;
  const uint32_t sharesLimit;
  const std::string ownerHash;
  const std::shared_ptr<Grant> theOwner = Grant::newOwner();
  std::mutex disk;

  // protected by `disk`
  std::map<std::string, FileStamp> unusable;  // files that hold no share
  std::set<std::string> orphans;              // those that were complained about
  // Noticed to be revoked by another server, and not told by refresh() yet.
  std::vector<std::shared_ptr<Grant>> unreported;

  mutable std::mutex memory;
  // protected by `memory`
  std::map<std::string, Slot, std::less<>> slots;         // by id
  std::unordered_multimap<uint64_t, const Slot*> byHash;  // by a part of the token's hash
  std::set<std::string> unstored;                         // revoked here, and not said by their files yet

  static uint64_t keyOf(const std::string& hash) {
    uint64_t key = 0;
    for (size_t i = 0; i < sizeof(key); ++i) key = key << 8 | static_cast<unsigned char>(hash[i]);
    return key;
  }

  // ---- with `memory` held

  std::shared_ptr<Grant> insert(const std::string& id, ShareFile file, std::shared_ptr<const Grant> parent,
                                FileStamp stamp) {
    auto grant = std::make_shared<Grant>(id, std::move(parent), file.terms, file.made);
    if (file.revoked != 0 || grant->parent->isRevoked()) grant->revoke();
    auto& slot = slots[id];
    slot = Slot{grant, std::move(file), stamp};
    slot.lastUsed = slot.file.lastUsed;
    byHash.emplace(keyOf(slot.file.tokenHash), &slot);
    return grant;
  }

  void forget(const std::string& id) {
    auto found = slots.find(id);
    if (found == slots.end()) return;
    auto [begin, end] = byHash.equal_range(keyOf(found->second.file.tokenHash));
    for (auto each = begin; each != end; ++each) {
      if (each->second != &found->second) continue;
      byHash.erase(each);
      break;
    }
    slots.erase(found);
  }

  // Marks the grant and all that were made from it.
  Ended endTree(const Grant& top) {
    Ended ended;
    for (auto& [id, slot] : slots) {
      if (!slot.grant->isFrom(top)) continue;
      if (!slot.grant->ended()) ++ended.live;
      slot.grant->revoke();
      ended.grants.push_back(slot.grant);
    }
    return ended;
  }

  void endElsewhere(const Grant& top) {
    auto ended = endTree(top);
    if (ended.live > 0) unreported.insert(unreported.end(), ended.grants.begin(), ended.grants.end());
  }

  // The grant, or the one that it was made from, whose uses are used up as far as is known; null: none.
  const Grant* usedUpOf(const Grant& grant) const {
    for (const Grant* each = &grant; !each->isOwner(); each = each->parent.get()) {
      if (each->terms.uses == 0) continue;
      auto found = slots.find(each->id);
      if (found != slots.end() && found->second.file.used >= each->terms.uses) return each;
    }
    return nullptr;
  }

  Info infoOf(const Slot& slot) const {
    return {slot.grant, slot.file.used + slot.unwrittenUses, slot.lastUsed / MINUTE * MINUTE,
            usedUpOf(*slot.grant) != nullptr};
  }

  // When it ended, by itself or with what it was made from; 0: it has not.
  int64_t endOf(const Slot& slot) const {
    int64_t end = slot.grant->expires;
    if (!slot.grant->endedAt(wallClock())) return 0;
    for (const Grant* each = slot.grant.get(); !each->isOwner(); each = each->parent.get()) {
      auto found = slots.find(each->id);
      int64_t revoked = found == slots.end() ? 0 : found->second.file.revoked;
      if (revoked != 0 && (end == 0 || revoked < end)) end = revoked;
    }
    return end;
  }

  // ---- with `disk` held; what writes, with the folder locked

  // Why nothing can be made from it, or what has to be forgotten before.
  Result<std::vector<std::string>> crowdFor(const Grant& parent) const {
    if (auto ended = parent.ended()) return *ended;
    std::lock_guard lock(memory);
    std::vector<CountedShare> all;
    for (auto& [id, slot] : slots) {
      int64_t end = endOf(slot);
      if (end == 0 && slot.grant->ended()) end = INT64_MAX;  // a moment ago: no file says it yet
      all.push_back({slot.grant.get(), end});
    }
    return makeRoomUnder(parent, all, sharesLimit);
  }

  // Counts durably. The file is read in any case: another server may have counted within one tick of its clock.
  Status useOne(const Grant& grant) {
    std::lock_guard turn(disk);
    auto locked = folder->lock();
    if (!locked.ok()) return locked.error();
    readChanges(Folder::IS_LOCKED);
    if (auto ended = grant.ended()) return *ended;
    std::vector<std::pair<std::string, ShareFile>> counted;
    for (const Grant* each = &grant; !each->isOwner(); each = each->parent.get()) {
      if (each->terms.uses == 0) continue;
      auto file = folder->read(each->id);
      if (!file.ok()) return file.error();
      if (file->used >= each->terms.uses) return usedUpError(*each);
      ++file->used;
      file->lastUsed = wallClock();
      counted.emplace_back(each->id, std::move(*file));
    }
    // What it was made from comes first: a crash in between costs a use, and gives none away.
    for (; !counted.empty(); counted.pop_back()) {
      Status stored = replace(counted.back().first, std::move(counted.back().second));
      if (!stored.ok()) return stored;
    }
    return grant.terms.uses == 0 ? noteUse(grant) : okStatus();
  }

  Status noteUse(const Grant& grant) {
    std::lock_guard lock(memory);
    auto found = slots.find(grant.id);
    if (found == slots.end()) return okStatus();
    ++found->second.unwrittenUses;
    found->second.lastUsed = wallClock();
    return okStatus();
  }

  Status replace(const std::string& id, ShareFile file) {
    Status stored = folder->write(id, file);
    if (!stored.ok()) return stored;
    std::lock_guard lock(memory);
    auto found = slots.find(id);
    if (found == slots.end()) return okStatus();
    found->second.lastUsed = std::max(found->second.lastUsed, file.lastUsed);
    found->second.file = std::move(file);
    found->second.stamp = folder->stampOf(id);
    return okStatus();
  }

  std::vector<std::string> endsToStore() const {
    std::lock_guard lock(memory);
    return {unstored.begin(), unstored.end()};
  }

  Status writeEnd(const std::string& id) {
    auto locked = folder->lock();
    if (!locked.ok()) return locked.error();
    auto file = folder->read(id);
    bool isThere = file.ok() || file.error().code != ErrorCode::NOT_FOUND;
    if (isThere && !file.ok()) return file.error();
    if (isThere && file->revoked == 0) {
      file->revoked = wallClock();
      Status stored = replace(id, std::move(*file));
      if (!stored.ok()) return stored;
    }
    std::lock_guard lock(memory);
    unstored.erase(id);
    return okStatus();
  }

  void writeUses(const std::string& id) {
    auto file = folder->read(id);
    if (!file.ok()) return;
    uint64_t uses = 0;
    {
      std::lock_guard lock(memory);
      auto found = slots.find(id);
      if (found == slots.end()) return;
      uses = found->second.unwrittenUses;
      file->lastUsed = std::max(file->lastUsed, found->second.lastUsed);
    }
    file->used += uses;
    Status stored = replace(id, std::move(*file));
    if (!stored.ok()) return log::warning("a share's last use is not written: ", stored.error().message.c_str());
    std::lock_guard lock(memory);
    auto found = slots.find(id);
    if (found != slots.end()) found->second.unwrittenUses -= uses;
  }

  // What was made from it ended with it at the latest, and goes by itself: it opens nothing without this one.
  void remove(const std::string& id) {
    Status removed = folder->remove(id);
    if (!removed.ok()) return log::warning("an old share stays: ", removed.error().message.c_str());
    std::lock_guard lock(memory);
    forget(id);
  }

  // ---- what is on the disk, into memory; with `disk` held. Grants that have ended by that become `unreported`.

  void readChanges(Folder state) {
    auto names = folder->list();
    if (!names.ok()) return log::error("shares cannot be read: ", names.error().message.c_str());
    std::map<std::string, ReadShare> made;
    std::set<std::string_view> there;
    for (auto& [id, stamp] : *names) {
      there.insert(id);
      if (isKnown(id, stamp)) continue;
      auto file = folder->read(id);
      if (!file.ok()) {
        if (file.error().code != ErrorCode::CORRUPT) continue;  // it is looked at again
        log::error("the share ", id.c_str(), " opens nothing: ", file.error().message.c_str());
        unusable[id] = stamp;
      }
      std::lock_guard lock(memory);
      auto found = slots.find(id);
      if (found == slots.end()) {
        if (file.ok()) made.emplace(id, ReadShare{std::move(*file), stamp});
        continue;
      }
      // Nobody but a server replaces it, and never its terms.
      bool isSame = file.ok() && file->tokenHash == found->second.file.tokenHash;
      if (!isSame || file->revoked != 0) endElsewhere(*found->second.grant);
      found->second.stamp = stamp;
      if (isSame) found->second.file = std::move(*file);
    }
    insertAll(std::move(made));
    endMissing(there, state);
  }

  // What a listing lacks may be there nevertheless, where files are made and replaced meanwhile, or the file system
  // knows no better: it ends only when nobody writes, and it is not there.
  void endMissing(const std::set<std::string_view>& there, Folder state) {
    std::vector<std::string> missing;
    {
      std::lock_guard lock(memory);
      for (auto& [id, slot] : slots) {
        if (!there.contains(id) && !slot.isLost) missing.push_back(id);
      }
    }
    if (missing.empty()) return;
    std::optional<ShareFolder::Lock> held;
    if (state == Folder::IS_OPEN) {
      auto locked = folder->lock();
      if (!locked.ok()) return folder->distrust();
      held.emplace(std::move(*locked));
    }
    for (auto& id : missing) {
      if (!folder->isGone(id)) {
        folder->distrust();
        continue;
      }
      std::lock_guard lock(memory);
      Slot& slot = slots.at(id);
      unstored.erase(id);
      // Another server forgot it; else nobody did, and its holder is to hear of it.
      if (slot.grant->ended()) {
        forget(id);
        continue;
      }
      slot.isLost = true;
      slot.file.revoked = wallClock();
      endElsewhere(*slot.grant);
    }
  }

  bool isKnown(const std::string& id, const FileStamp& stamp) const {
    auto complained = unusable.find(id);
    if (complained != unusable.end() && complained->second == stamp) return true;
    std::lock_guard lock(memory);
    auto found = slots.find(id);
    return found != slots.end() && found->second.stamp == stamp;
  }

  // Parents come before what was made from them.
  void insertAll(std::map<std::string, ReadShare> made) {
    bool progress = true;
    while (progress && !made.empty()) {
      progress = false;
      for (auto each = made.begin(); each != made.end();) {
        auto parent = find(each->second.file.parent);
        if (parent == nullptr) {
          ++each;
          continue;
        }
        {
          std::lock_guard lock(memory);
          insert(each->first, std::move(each->second.file), parent, each->second.stamp);
        }
        each = made.erase(each);
        progress = true;
      }
    }
    for (auto& [id, read] : made) {
      if (!orphans.insert(id).second) continue;
      log::error("the share ", id.c_str(), " opens nothing: what it was made from does not exist");
    }
  }
};

}  // namespace

Result<std::shared_ptr<Grants>> Grants::open(Options options, std::string ownerHash) {
  auto folder = ShareFolder::open(options.stateFolder);
  if (!folder.ok()) return folder.error();
  auto grants = std::make_shared<GrantsImpl>(std::move(*folder), options.sharesLimit, std::move(ownerHash));
  Status loaded = grants->load();
  if (!loaded.ok()) return loaded.error();
  return std::shared_ptr<Grants>(std::move(grants));
}

}  // namespace capstan::server
