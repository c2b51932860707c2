// From what both sides tell to what the planner thinks about; and which contents must be known for that.
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
bool mayBeTheSame(const Difference& difference, const PlanOptions& options) {
  const auto& [path, agreed, local, remote, localChanged, remoteChanged] = difference;
  if (!local || !remote || local->type != EntryType::FILE || remote->type != EntryType::FILE) return false;
  if (local->size != remote->size || local->size == 0) return false;
  if (agreed && !(localChanged && remoteChanged)) return false;
  return local->mtime != remote->mtime || options.checkContent;
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
  for (const Difference& difference : differences) {
    bool both = mayBeTheSame(difference, options);
    auto isWanted = [&](Side side) {
      return (both || isProbablyAsAgreed(difference, side)) && difference.on(side)->digest.empty();
    };
    if (isWanted(Side::LOCAL)) wanted.local.push_back(difference.path);
    if (isWanted(Side::REMOTE)) wanted.remote.push_back(difference.path);
  }
  return wanted;
}

}  // namespace capstan::sync
