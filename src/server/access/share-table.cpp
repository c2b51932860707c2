#include <capstan/server/access/share-table.h>

#include <algorithm>

#include <capstan/base/clock.h>
#include <capstan/base/digest.h>

namespace capstan::server {

namespace {

constexpr int64_t MINUTE = 60ll * 1'000'000'000;

uint64_t keyOf(const std::string& hash) {
  uint64_t key = 0;
  for (size_t i = 0; i < sizeof(key); ++i) key = key << 8 | static_cast<unsigned char>(hash[i]);
  return key;
}

}  // namespace

const ShareTable::Slot* ShareTable::find(std::string_view id) const {
  auto found = slots.find(id);
  return found == slots.end() ? nullptr : &found->second;
}

ShareTable::Slot* ShareTable::find(std::string_view id) {
  auto found = slots.find(id);
  return found == slots.end() ? nullptr : &found->second;
}

std::shared_ptr<Grant> ShareTable::withToken(const std::string& hash) const {
  std::shared_ptr<Grant> matched;
  // Whoever tries tokens does not choose their hashes: what a search by these tells is of no use.
  auto [begin, end] = byHash.equal_range(keyOf(hash));
  for (auto each = begin; each != end; ++each) {
    if (equalInConstantTime(hash, each->second->file.tokenHash)) matched = each->second->grant;
  }
  return matched;
}

std::shared_ptr<Grant> ShareTable::insert(const std::string& id, ShareFile file, std::shared_ptr<const Grant> parent,
                                          FileStamp stamp) {
  auto grant = std::make_shared<Grant>(id, std::move(parent), file.terms, file.made);
  if (file.revoked != 0 || grant->parent->isRevoked()) grant->revoke();
  auto& slot = slots[id];
  slot = Slot{grant, std::move(file), stamp};
  slot.lastUsed = slot.file.lastUsed;
  byHash.emplace(keyOf(slot.file.tokenHash), &slot);
  return grant;
}

void ShareTable::forget(std::string_view id) {
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

Grants::Ended ShareTable::endTree(const Grant& top) {
  Grants::Ended ended;
  for (auto& [id, slot] : slots) {
    if (!slot.grant->isFrom(top)) continue;
    if (!slot.grant->ended()) ++ended.live;
    slot.grant->revoke();
    ended.grants.push_back(slot.grant);
  }
  return ended;
}

const Grant* ShareTable::usedUpOf(const Grant& grant) const {
  for (const Grant* each = &grant; !each->isOwner(); each = each->parent.get()) {
    if (each->terms.uses == 0) continue;
    auto slot = find(each->id);
    if (slot != nullptr && slot->file.used >= each->terms.uses) return each;
  }
  return nullptr;
}

int64_t ShareTable::endOf(const Slot& slot) const {
  int64_t end = slot.grant->expires;
  if (!slot.grant->endedAt(wallClock())) return 0;
  for (const Grant* each = slot.grant.get(); !each->isOwner(); each = each->parent.get()) {
    auto known = find(each->id);
    int64_t revoked = known == nullptr ? 0 : known->file.revoked;
    if (revoked != 0 && (end == 0 || revoked < end)) end = revoked;
  }
  return end;
}

Grants::Info ShareTable::infoOf(const Slot& slot) const {
  return {slot.grant, slot.file.used + slot.unwrittenUses, slot.lastUsed / MINUTE * MINUTE,
          usedUpOf(*slot.grant) != nullptr};
}

std::vector<Grants::Info> ShareTable::list(const Grant& top) const {
  std::vector<Grants::Info> infos;
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
    infos.push_back(infoOf(*slot));
    push(slot->grant->id);
  }
  return infos;
}

}  // namespace capstan::server
