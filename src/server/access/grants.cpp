#include <capstan/server/access/grants.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include <capstan/base/clock.h>
#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/base/log.h>
#include <capstan/base/text.h>
#include <capstan/server/access/share-crowd.h>
#include <capstan/server/access/share-folder.h>
#include <capstan/server/access/share-table.h>

namespace capstan::server {

namespace {

constexpr size_t ID_LENGTH = 10;
std::string newId() {
  constexpr char LETTERS[] = "abcdefghijklmnopqrstuvwxyz234567";
  std::string id;
  for (char byte : randomBytes(ID_LENGTH)) id += LETTERS[static_cast<unsigned char>(byte) % 32];
  return id;
}

// To the holder of `held`.
Error usedUpError(const Grant& grant, const Grant& held) {
  return {ErrorCode::EXPIRED,
          nameFor(held, grant) + " was used " + std::to_string(grant.terms.uses) +
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
    auto slot = shares.find(id);
    return slot == nullptr ? nullptr : slot->grant;
  }

  std::shared_ptr<Grant> match(std::string_view token) const override {
    std::string hash = digestOf(DigestAlgorithm::SHA256, token);
    bool isOwners = equalInConstantTime(hash, ownerHash);
    std::lock_guard lock(memory);
    auto matched = shares.withToken(hash);
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
    const Grant* usedUp = shares.usedUpOf(grant);
    return usedUp == nullptr ? std::nullopt : std::optional(usedUpError(*usedUp, grant));
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
      while (shares.contains(id));
    }
    Status stored = folder->write(id, file);
    if (!stored.ok()) return stored.error();
    std::lock_guard lock(memory);
    made.grant = shares.insert(id, std::move(file), parent, folder->stampOf(id));
    // It may have been revoked meanwhile, which waits for no disk.
    if (auto ended = parent->ended()) {
      made.grant->revoke();
      return *ended;
    }
    return made;
  }

  std::vector<Info> list(const Grant& top) const override {
    std::lock_guard lock(memory);
    return shares.list(top);
  }

  Info infoOf(const Grant& grant) const override {
    std::lock_guard lock(memory);
    auto slot = shares.find(grant.id);
    return slot == nullptr ? Info{grant.isOwner() ? theOwner : nullptr} : shares.infoOf(*slot);
  }

  Result<Ended> end(const Grant& top, const std::string& id) override {
    std::lock_guard lock(memory);
    if (id == theOwner->id && top.isOwner()) {
      return Error{ErrorCode::INVALID_ARGUMENT, "the owner's grant cannot be revoked", {}};
    }
    auto slot = shares.find(id);
    if (slot == nullptr || !slot->grant->isFrom(top)) {
      return Error{ErrorCode::NOT_FOUND, "there is no share " + escapeForTerminal(id), {}};
    }
    if (slot->file.revoked == 0) unstored.insert(id);
    return shares.endTree(*slot->grant);
  }

  Status storeEnd(const std::string& id) override {
    std::lock_guard turn(disk);
    return writeEnd(id);
  }

  std::vector<std::shared_ptr<Grant>> refresh() override {
    std::lock_guard turn(disk);
    for (auto& id : endsToStore()) (void)writeEnd(id);  // what fails stays among them
    if (folder->hasChanged()) readChanges(Folder::IS_OPEN);
    return std::exchange(unreported, {});
  }

  void tidy() override {
    std::lock_guard turn(disk);
    std::vector<std::string> unwritten, old;
    int64_t now = wallClock();
    {
      std::lock_guard lock(memory);
      for (auto& [id, slot] : shares.all()) {
        if (slot.unwrittenUses > 0) unwritten.push_back(id);
        int64_t end = shares.endOf(slot);
        if (end != 0 && now - end > int64_t(ENDED_SHARE_TIME)) old.push_back(id);
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
  ShareTable shares;
  std::set<std::string> unstored;  // revoked here, and not said by their files yet

  // ---- with `memory` held

  void endElsewhere(const Grant& top) {
    auto ended = shares.endTree(top);
    if (ended.live > 0) unreported.insert(unreported.end(), ended.grants.begin(), ended.grants.end());
  }

  // ---- with `disk` held; what writes, with the folder locked

  // Why nothing can be made from it, or what has to be forgotten before.
  Result<std::vector<std::string>> crowdFor(const Grant& parent) const {
    if (auto ended = parent.ended()) return *ended;
    std::lock_guard lock(memory);
    std::vector<CountedShare> all;
    for (auto& [id, slot] : shares.all()) {
      int64_t end = shares.endOf(slot);
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
      if (file->used >= each->terms.uses) return usedUpError(*each, grant);
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
    auto slot = shares.find(grant.id);
    if (slot == nullptr) return okStatus();
    ++slot->unwrittenUses;
    slot->lastUsed = wallClock();
    return okStatus();
  }

  Status replace(const std::string& id, ShareFile file) {
    Status stored = folder->write(id, file);
    if (!stored.ok()) return stored;
    std::lock_guard lock(memory);
    auto slot = shares.find(id);
    if (slot == nullptr) return okStatus();
    slot->lastUsed = std::max(slot->lastUsed, file.lastUsed);
    slot->file = std::move(file);
    slot->stamp = folder->stampOf(id);
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
      auto slot = shares.find(id);
      if (slot == nullptr) return;
      uses = slot->unwrittenUses;
      file->lastUsed = std::max(file->lastUsed, slot->lastUsed);
    }
    file->used += uses;
    Status stored = replace(id, std::move(*file));
    if (!stored.ok()) return log::warning("a share's last use is not written: ", stored.error().message.c_str());
    std::lock_guard lock(memory);
    auto slot = shares.find(id);
    if (slot != nullptr) slot->unwrittenUses -= uses;
  }

  // What was made from it ended with it at the latest, and goes by itself: it opens nothing without this one.
  void remove(const std::string& id) {
    Status removed = folder->remove(id);
    if (!removed.ok()) return log::warning("an old share stays: ", removed.error().message.c_str());
    std::lock_guard lock(memory);
    shares.forget(id);
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
      auto slot = shares.find(id);
      if (slot == nullptr) {
        if (file.ok()) made.emplace(id, ReadShare{std::move(*file), stamp});
        continue;
      }
      // Nobody but a server replaces it, and never its terms.
      bool isSame = file.ok() && file->tokenHash == slot->file.tokenHash;
      if (!isSame || file->revoked != 0) endElsewhere(*slot->grant);
      slot->stamp = stamp;
      if (isSame) slot->file = std::move(*file);
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
      for (auto& [id, slot] : shares.all()) {
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
      ShareTable::Slot& slot = *shares.find(id);
      unstored.erase(id);
      // Another server forgot it; else nobody did, and its holder is to hear of it.
      if (slot.grant->ended()) {
        shares.forget(id);
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
    auto slot = shares.find(id);
    return slot != nullptr && slot->stamp == stamp;
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
          shares.insert(each->first, std::move(each->second.file), parent, each->second.stamp);
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
