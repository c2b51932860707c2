// From what both sides tell to what the planner thinks about; and which contents must be known for that.
#include <unordered_map>

#include <capstan/sync/compare.h>
#include <capstan/sync/plan.h>

namespace capstan::sync {
namespace {

Difference differenceAt(const std::string& path, const std::optional<Node>* local, const std::optional<Node>* remote,
                        std::optional<Agreed> agreed) {
  Difference difference;
  difference.path = path;
  difference.localChanged = local != nullptr;
  difference.remoteChanged = remote != nullptr;
  if (local != nullptr) {
    difference.local = *local;
  } else if (agreed) {
    difference.local = agreed->local;
  }
  if (remote != nullptr) {
    difference.remote = *remote;
  } else if (agreed) {
    difference.remote = agreed->remote;
  }
  difference.agreed = std::move(agreed);
  return difference;
}

// Its size and time are the agreed ones, but its stamp is not (somebody touched it), or was too young to be trusted:
// its content is probably the agreed one, and a digest can tell.
bool isProbablyAsAgreed(const Difference& difference, Side side) {
  const std::optional<Node>& now = difference.on(side);
  if (!now || !difference.agreed || !difference.changedOn(side)) return false;
  const Node& before = difference.agreed->on(side);
  return now->type == EntryType::FILE && before.type == EntryType::FILE && now->size == before.size && now->size > 0 &&
         now->mtime == before.mtime && !agreedDigest(*difference.agreed).empty();
}

// Both sides have a file of the same size about which nothing was agreed, or both have changed it.
bool mayBeTheSame(const Difference& difference, const PlanOptions& options, bool isDoubtfulMove) {
  const auto& [path, agreed, local, remote, localChanged, remoteChanged] = difference;
  if (!local || !remote || local->type != EntryType::FILE || remote->type != EntryType::FILE) return false;
  if (local->size != remote->size || local->size == 0) return false;
  // What was agreed upon without reading it says nothing where contents are to be compared.
  bool isUnread = agreed && options.checkContent && agreedDigest(*agreed).empty();
  if (agreed && !(localChanged && remoteChanged) && !isUnread) return false;
  // Without an agreement equal times are proof enough, unless they are too young to tell.
  bool isDoubtful = isDoubtfulMove || agreed || !local->settled || !remote->settled;
  return local->mtime != remote->mtime || isDoubtful || options.checkContent;
}

// Of files that are gone from a side, and had a stamp too young to be trusted: by identity.
using Doubtful = std::unordered_map<uint64_t, const Node*>;

Doubtful doubtfulOn(Side side, const std::vector<Difference>& differences) {
  Doubtful doubtful;
  for (const Difference& difference : differences) {
    if (!difference.agreed || difference.on(side) || agreedDigest(*difference.agreed).empty()) continue;
    const Node& before = difference.agreed->on(side);
    bool isFile = before.type == EntryType::FILE && before.size > 0;
    if (isFile && !before.settled && before.identity != 0) doubtful.emplace(before.identity, &before);
  }
  return doubtful;
}

// Whether it is probably one of those, under another name.
bool isDoubtfulMove(const Difference& difference, Side side, const Doubtful& doubtful) {
  const std::optional<Node>& now = difference.on(side);
  if (doubtful.empty() || !now || difference.agreed || now->type != EntryType::FILE) return false;
  auto before = doubtful.find(now->identity);
  return before != doubtful.end() && before->second->size == now->size && before->second->mtime == now->mtime;
}

}  // namespace

std::vector<Difference> differencesOf(const Changes& local, const Changes& remote,
                                      const std::function<std::optional<Agreed>(std::string_view)>& agreedAt) {
  std::vector<Difference> differences;
  differences.reserve(local.size() + remote.size());
  auto l = local.begin();
  auto r = remote.begin();
  while (l != local.end() || r != remote.end()) {
    int order = l == local.end() ? 1 : r == remote.end() ? -1 : comparePaths(l->first, r->first);
    const std::string& path = order <= 0 ? l->first : r->first;
    Difference difference = differenceAt(path, order <= 0 ? &l->second : nullptr, order >= 0 ? &r->second : nullptr,
                                         agreedAt ? agreedAt(path) : std::nullopt);
    if (difference.agreed || difference.local || difference.remote) differences.push_back(std::move(difference));
    if (order <= 0) ++l;
    if (order >= 0) ++r;
  }
  return differences;
}

DigestsWanted digestsWanted(const std::vector<Difference>& differences, const PlanOptions& options) {
  DigestsWanted wanted;
  const Doubtful doubtful[] = {doubtfulOn(Side::LOCAL, differences), doubtfulOn(Side::REMOTE, differences)};
  for (const Difference& difference : differences) {
    auto isDoubtful = [&](Side side) {
      return isDoubtfulMove(difference, side, doubtful[side == Side::LOCAL ? 0 : 1]);
    };
    bool wasMoved = isDoubtful(Side::LOCAL) || isDoubtful(Side::REMOTE);
    bool both = mayBeTheSame(difference, options, wasMoved);
    auto isWanted = [&](Side side) {
      bool isWorthIt = both || isProbablyAsAgreed(difference, side) || isDoubtful(side);
      return isWorthIt && difference.on(side)->digest.empty();
    };
    if (isWanted(Side::LOCAL)) wanted.local.push_back(difference.path);
    if (isWanted(Side::REMOTE)) wanted.remote.push_back(difference.path);
  }
  return wanted;
}

}  // namespace capstan::sync
