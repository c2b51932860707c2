#include <capstan/server/files/noticing.h>

#include <fcntl.h>

#include <algorithm>

#include <capstan/base/path.h>
#include <capstan/storage/names.h>
#include <capstan/storage/version.h>

namespace capstan::server::files {

namespace {

using storage::Committer;
using storage::Follow;
using storage::Names;

constexpr size_t MAX_OWN = 65'536;
// A new folder with more in it is told as a whole.
constexpr size_t MAX_EXPANDED = 2'000;
constexpr uint64_t POLL_INTERVAL = 4'000'000'000;

bool isGone(const Error& error) { return error.code == ErrorCode::NOT_FOUND || error.code == ErrorCode::NOT_DIRECTORY; }

ChangeKind kindOf(Committer::Applied::Kind kind) {
  switch (kind) {
    case Committer::Applied::Kind::CREATED: return ChangeKind::CREATED;
    case Committer::Applied::Kind::CHANGED: return ChangeKind::CHANGED;
    case Committer::Applied::Kind::REMOVED: return ChangeKind::REMOVED;
    case Committer::Applied::Kind::MOVED: return ChangeKind::MOVED;
  }
  return ChangeKind::SUBTREE;
}

}  // namespace

Noticing::Noticing(std::string folder, const storage::Root& root, storage::Committer& committer, uint64_t keepTime,
                   ChangeJournal::Options remembered)
    : journal(remembered), folder(std::move(folder)), root(root), keepTime(int64_t(keepTime)), committer(&committer) {
  committer.onApplied([this](const Committer::Applied& change) { applied(change); });
}

Noticing::~Noticing() noexcept(false) { stop(); }

Noticing::Interest::Interest(Noticing& noticingParam) : noticing(&noticingParam) {
  std::lock_guard lock(noticing->keeping);
  ++noticing->interests;
}

Noticing::Interest::~Interest() {
  if (noticing == nullptr) return;
  std::lock_guard lock(noticing->keeping);
  noticing->lastInterest = std::chrono::steady_clock::now();
  if (--noticing->interests == 0) noticing->wakeKeeper.notify_all();
}

Status Noticing::catchUp() {
  std::unique_lock lock(starting);
  if (stopped) return Error{ErrorCode::SHUTTING_DOWN, "the server is shutting down; try again later", {}};
  Status started = watcher == nullptr ? startWatcher() : okStatus();
  if (!started.ok()) return started;
  auto held = watcher;
  lock.unlock();
  held->flush();
  return okStatus();
}

Status Noticing::startWatcher() {
  TreeWatcher::Options options;
  options.folder = folder;
  options.leaveOut = [](std::string_view path) { return path == STATE_FOLDER; };
  options.pollInterval = POLL_INTERVAL;
  {
    std::lock_guard own(mutex);
    watches = true;
  }
  auto started = TreeWatcher::start(options, [this](TreeChanges changes) { noticed(std::move(changes)); });
  if (!started.ok()) return started.error();
  watcher = std::move(*started);
  // Cursors from before do not know what happened while there was no watcher.
  if (std::exchange(stoppedBefore, false)) journal.add({Change{}});
  if (!keeper.joinable()) keeper = std::thread([this] { keepUntilIdle(); });
  std::lock_guard kept(keeping);
  lastInterest = std::chrono::steady_clock::now();
  keepsWatcher = true;
  wakeKeeper.notify_all();
  return okStatus();
}

bool Noticing::isIdle() const {
  return keepsWatcher && interests == 0 && std::chrono::steady_clock::now() - lastInterest >= keepTime;
}

void Noticing::keepUntilIdle() {
  std::unique_lock lock(keeping);
  while (!ending) {
    if (!keepsWatcher || interests > 0) {
      wakeKeeper.wait(lock);
    } else if (!isIdle()) {
      wakeKeeper.wait_until(lock, lastInterest + keepTime);
    } else {
      lock.unlock();
      endIdleWatcher();
      lock.lock();
    }
  }
}

void Noticing::endIdleWatcher() {
  std::shared_ptr<TreeWatcher> last;
  std::lock_guard lock(starting);
  {
    std::lock_guard kept(keeping);
    if (!isIdle()) return;
    keepsWatcher = false;
  }
  stoppedBefore = true;
  std::swap(last, watcher);
  std::lock_guard remembered(mutex);
  watches = false;
  own.clear();
  ownOrder.clear();
}

void Noticing::stop() {
  std::shared_ptr<TreeWatcher> last;
  {
    std::lock_guard lock(starting);
    stopped = true;
    std::swap(last, watcher);
    std::lock_guard kept(keeping);
    ending = true;
    wakeKeeper.notify_all();
  }
  if (keeper.joinable()) keeper.join();
  last = nullptr;
  std::lock_guard lock(asking);
  committer = nullptr;
}

Noticing::Means Noticing::means() const {
  std::unique_lock lock(starting, std::try_to_lock);
  if (!lock || watcher == nullptr) return {};
  bool partly = watcher->isPartial();
  bool polls = partly || watcher->method() == WatchMethod::POLLING;
  return {watcher->method(), partly, polls ? POLL_INTERVAL : 0};
}

void Noticing::applied(const Committer::Applied& change) {
  using Kind = Committer::Applied::Kind;
  std::vector<Change> changes{{kindOf(change.kind), change.path, change.from}};
  if (change.subtree) changes.push_back({ChangeKind::SUBTREE, change.path, {}});
  bool moved = change.kind == Kind::MOVED;
  Own mine;
  mine.version = change.version;
  mine.gone = change.kind == Kind::REMOVED;
  mine.moved = moved;
  mine.whole = moved || change.subtree;
  std::unique_lock lock(mutex);
  if (watches && (moved || change.kind == Kind::CREATED)) {
    lock.unlock();
    auto status = root.stat(change.path);
    if (status.ok() && S_ISDIR(status->st_mode)) mine.inode = status->st_ino;
    lock.lock();
  }
  if (watches) {
    auto before = own.find(change.path);
    // A folder that we made, and have changed since.
    bool isSame = change.kind == Kind::CHANGED && before != own.end() && !before->second.gone;
    if (isSame) mine.inode = before->second.inode;
    remember(change.path, std::move(mine));
    if (moved) {
      Own source;
      source.gone = true;
      remember(change.from, std::move(source));
    }
  }
  journal.add(std::move(changes));
}

void Noticing::remember(const std::string& path, Own mine) {
  mine.number = ++ownCount;
  ownOrder.emplace_back(mine.number, path);
  own[path] = std::move(mine);
  while (ownOrder.size() > MAX_OWN) {
    auto found = own.find(ownOrder.front().second);
    if (found != own.end() && found->second.number == ownOrder.front().first) own.erase(found);
    ownOrder.pop_front();
  }
}

// On the watcher's thread.
void Noticing::noticed(TreeChanges changes) {
  // Our own change may be on the disk, and not told yet.
  {
    std::lock_guard lock(asking);
    if (committer == nullptr) return;
    committer->waitForApply();
  }
  std::vector<Change> result;
  if (changes.overflow) {
    result.push_back({ChangeKind::UNSET, {}, {}});
    // What was missed may have been somebody else's, at the same paths.
    std::lock_guard lock(mutex);
    own.clear();
    ownOrder.clear();
  }
  for (auto& change : changes.changes) {
    if (!isReserved(change.path)) look(change, result);
  }
  journal.add(std::move(result));
}

bool Noticing::isOwnRemoval(std::string_view path) const {
  std::string removed;
  {
    std::lock_guard lock(mutex);
    uint64_t lastPlaced = 0;  // something with all that is below it, here or above
    uint64_t number = 0;
    for (std::string_view above = path; !above.empty(); above = parentOf(above)) {
      auto found = own.find(std::string(above));
      if (found == own.end()) continue;
      if (found->second.whole) lastPlaced = std::max(lastPlaced, found->second.number);
      if (!found->second.gone || found->second.number < number) continue;
      number = found->second.number;
      removed = above;
    }
    if (number == 0 || lastPlaced > number) return false;
  }
  if (removed == path) return true;
  // A folder above that is there again is not the one that we removed.
  auto status = root.stat(removed, Follow::NEVER);
  return !status.ok() && isGone(status.error());
}

void Noticing::forgetRemovals(std::string_view path, uint64_t until) {
  for (; !path.empty(); path = parentOf(path)) {
    auto found = own.find(std::string(path));
    if (found != own.end() && found->second.gone && found->second.number <= until) own.erase(found);
  }
}

void Noticing::look(const TreeChange& change, std::vector<Change>& result) {
  uint64_t until;
  {
    std::lock_guard lock(mutex);
    until = ownCount;
  }
  auto status = root.stat(change.path, Follow::NEVER);
  if (status.ok()) return lookAt(change, *status, until, result);
  if (!isGone(status.error())) {
    // It may be there, with all that is below it.
    if (change.subtree) return tellSubtree(change.path, result);
    result.push_back({ChangeKind::CHANGED, change.path, {}});
    return;
  }
  if (isOwnRemoval(change.path)) return;
  result.push_back({ChangeKind::REMOVED, change.path, {}});
  // What comes to this place from now on is not what we put there.
  std::lock_guard lock(mutex);
  auto found = own.find(change.path);
  if (found != own.end() && found->second.number <= until) own.erase(found);
}

void Noticing::lookAt(const TreeChange& change, const struct stat& status, uint64_t until,
                      std::vector<Change>& result) {
  bool isFolder = S_ISDIR(status.st_mode);
  bool isKnown = false, isSame = false, isMoved = false, isThatFolder = false;
  {
    std::lock_guard lock(mutex);
    forgetRemovals(change.path, until);
    auto found = own.find(change.path);
    isKnown = found != own.end() && !found->second.gone;
    isSame = isKnown && found->second.version == storage::versionOf(status);
    // A folder of ours has another version as soon as there is something in it.
    isThatFolder = isKnown && isFolder && found->second.inode == status.st_ino;
    isMoved = isThatFolder && found->second.moved;
    // Its appearing is seen once: what appears here later may have been given the same inode.
    if (isThatFolder && change.appeared) found->second.inode = 0;
  }
  if (isMoved && change.appeared) return;
  if (!isSame && !(isThatFolder && change.appeared)) {
    bool isAnother = isKnown && isFolder && change.appeared;
    if (isAnother) result.push_back({ChangeKind::REMOVED, change.path, {}});
    bool isNew = change.appeared && (!isKnown || isAnother);
    result.push_back({isNew ? ChangeKind::CREATED : ChangeKind::CHANGED, change.path, {}});
  }
  if (!change.subtree || !isFolder) return;
  std::vector<Change> below;
  size_t budget = MAX_EXPANDED;
  if (expand(change.path, below, budget)) {
    std::move(below.begin(), below.end(), std::back_inserter(result));
  } else {
    tellSubtree(change.path, result);
  }
}

void Noticing::tellSubtree(const std::string& path, std::vector<Change>& result) {
  result.push_back({ChangeKind::SUBTREE, path, {}});
  // Nobody looks whether what we had removed below is there again.
  std::lock_guard lock(mutex);
  std::erase_if(own, [&](const auto& item) { return item.second.gone && isWithin(item.first, path); });
}

// What is in a new folder. What comes to be in it from now on is noticed by itself. The path is a real one: a symlink
// on it has come since, and what it leads to is nothing new, and maybe not for those to know who hear of this.
bool Noticing::expand(const std::string& path, std::vector<Change>& result, size_t& budget) {
  auto hidden = [](const Error& error) { return isGone(error) || error.code == ErrorCode::DENIED; };
  auto fd = root.open(path, O_RDONLY | O_DIRECTORY, Follow::NEVER);
  if (!fd.ok()) return hidden(fd.error());
  auto names = Names::read(*fd, path);
  if (!names.ok()) return hidden(names.error());
  std::vector<std::string> folders;
  for (size_t i = 0; i < names->size(); ++i) {
    if (budget == 0 || --budget == 0) return false;
    std::string inner = joinPath(path, (*names)[i]);
    if (isReserved(inner)) continue;
    auto status = root.stat(inner, Follow::NEVER);
    if (!status.ok() && !hidden(status.error())) return false;
    if (!status.ok()) continue;
    look({inner, false, true}, result);
    if (S_ISDIR(status->st_mode)) folders.push_back(std::move(inner));
  }
  for (auto& inner : folders) {
    if (!expand(inner, result, budget)) return false;
  }
  return true;
}

}  // namespace capstan::server::files
