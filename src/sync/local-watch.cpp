#include <capstan/sync/local-watch.h>

#include <capstan/base/path.h>

namespace capstan::sync {

namespace {

// With more than so many paths a look at everything takes no longer.
constexpr size_t MOST_REPORTS = 50'000;

}  // namespace

void addReport(ByPath<bool>& paths, const std::string& path, bool subtree) {
  auto [place, isNew] = paths.emplace(path, subtree);
  if (!isNew) place->second = place->second || subtree;
}

void LocalReports::tell(TreeChanges changes) {
  std::vector<Fulfiller> toWake;
  {
    std::lock_guard lock(mutex);
    for (const TreeChange& change : changes.changes) {
      // What this program itself does in its own folder.
      if (isReserved(change.path)) continue;
      addReport(pending.paths, change.path, change.subtree);
    }
    if (changes.overflow || pending.paths.size() > MOST_REPORTS) {
      pending.overflow = true;
      pending.paths.clear();
    }
    if (pending.overflow || !pending.paths.empty()) toWake.swap(waiting);
  }
  for (auto& fulfiller : toWake) fulfiller->fulfill();
}

LocalReports::Taken LocalReports::take() {
  std::lock_guard lock(mutex);
  Taken taken;
  std::swap(taken, pending);
  return taken;
}

kj::Promise<void> LocalReports::onReport() {
  std::lock_guard lock(mutex);
  if (pending.overflow || !pending.paths.empty()) return kj::READY_NOW;
  auto paf = kj::newPromiseAndCrossThreadFulfiller<void>();
  // Of those whose promise was dropped there may be many by now.
  std::erase_if(waiting, [](const Fulfiller& fulfiller) { return !fulfiller->isWaiting(); });
  waiting.push_back(kj::mv(paf.fulfiller));
  return kj::mv(paf.promise);
}

}  // namespace capstan::sync
