#include <capstan/server/access/share-crowd.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace capstan::server {

namespace {

struct Crowd {
  uint64_t live = 0, ended = 0;
};

Error tooMany(const Grant& grant, uint64_t live) {
  return {ErrorCode::LIMIT,
          "there are " + std::to_string(live) + " shares, as many as may be made" +
              (grant.isOwner() ? "" : " from one") + "; revoke some that are not needed any more",
          {}};
}

// Adds to `gone` what ended first under the grant, until no more than `most` are left.
void forgetUnder(const Grant& grant, const std::vector<CountedShare>& all, uint64_t most,
                 std::unordered_set<const Grant*>& gone) {
  uint64_t left = 0;
  std::vector<CountedShare> ended;
  for (auto& each : all) {
    if (each.grant == &grant || !each.grant->isFrom(grant) || gone.contains(each.grant)) continue;
    ++left;
    if (each.end != 0) ended.push_back(each);
  }
  std::sort(ended.begin(), ended.end(), [](auto& a, auto& b) {
    return std::tie(a.end, a.grant->made, a.grant->id) < std::tie(b.end, b.grant->made, b.grant->id);
  });
  for (auto& first : ended) {
    if (left <= most) return;
    // All that was made from it has ended with it, or before.
    for (auto& each : ended) {
      if (each.grant->isFrom(*first.grant) && gone.insert(each.grant).second) --left;
    }
  }
}

}  // namespace

Result<std::vector<std::string>> makeRoomUnder(const Grant& parent, const std::vector<CountedShare>& all,
                                               uint32_t limit) {
  std::unordered_map<const Grant*, Crowd> crowds;
  for (const Grant* each = &parent; each != nullptr; each = each->parent.get()) crowds[each] = {};
  for (auto& share : all) {
    for (const Grant* each = share.grant->parent.get(); each != nullptr; each = each->parent.get()) {
      auto found = crowds.find(each);
      if (found != crowds.end()) ++(share.end == 0 ? found->second.live : found->second.ended);
    }
  }
  std::unordered_set<const Grant*> gone;
  uint64_t most = 2 * uint64_t(limit) - 1;  // with the new one it is one more
  for (const Grant* each = &parent; each != nullptr; each = each->parent.get()) {
    auto& crowd = crowds[each];
    if (crowd.live >= limit) return tooMany(*each, crowd.live);
    if (crowd.live + crowd.ended > most) forgetUnder(*each, all, most, gone);
  }
  std::vector<const Grant*> sorted(gone.begin(), gone.end());
  auto depthOf = [](const Grant* grant) {
    size_t depth = 0;
    for (; grant != nullptr; grant = grant->parent.get()) ++depth;
    return depth;
  };
  std::sort(sorted.begin(), sorted.end(), [&](auto* a, auto* b) { return depthOf(a) > depthOf(b); });
  std::vector<std::string> ids;
  for (auto* grant : sorted) ids.push_back(grant->id);
  return ids;
}

}  // namespace capstan::server
