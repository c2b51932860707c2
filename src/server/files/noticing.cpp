#include <capstan/server/files/noticing.h>

#include <fcntl.h>

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

Noticing::Noticing(std::string folder, const storage::Root& root, storage::Committer& committer, uint64_t keepTime)
    : folder(std::move(folder)), root(root), keepTime(int64_t(keepTime)), committer(&committer) {
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
  std::vector<Change> changes{{kindOf(change.kind), change.path, change.from}};
  if (change.subtree) changes.push_back({ChangeKind::SUBTREE, change.path, {}});
  bool gone = change.kind == Committer::Applied::Kind::REMOVED;
  bool moved = change.kind == Committer::Applied::Kind::MOVED;
  std::lock_guard lock(mutex);
  if (watches) {
    remember(change.path, {change.version, gone, moved});
    if (moved) remember(change.from, {{}, true, false});
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
  if (changes.overflow) result.push_back({ChangeKind::UNSET, {}, {}});
  for (auto& change : changes.changes) {
    if (!isReserved(change.path)) look(change, result);
  }
  journal.add(std::move(result));
}

bool Noticing::isOwnRemoval(std::string_view path) const {
  std::lock_guard lock(mutex);
  for (; !path.empty(); path = parentOf(path)) {
    auto found = own.find(std::string(path));
    if (found != own.end() && found->second.gone) return true;
  }
  return false;
}

void Noticing::look(const TreeChange& change, std::vector<Change>& result) {
  auto status = root.stat(change.path);
  if (!status.ok()) {
    bool gone = isGone(status.error());
    if (gone && isOwnRemoval(change.path)) return;
    result.push_back({gone ? ChangeKind::REMOVED : ChangeKind::CHANGED, change.path, {}});
    return;
  }
  bool isFolder = S_ISDIR(status->st_mode);
  bool isKnown = false, isSame = false, isMoved = false;
  {
    std::lock_guard lock(mutex);
    auto found = own.find(change.path);
    isKnown = found != own.end() && !found->second.gone;
    isSame = isKnown && found->second.version == storage::versionOf(*status);
    isMoved = isKnown && found->second.moved;
  }
  if (isFolder && isMoved && change.appeared) return;
  // A folder of ours has another version as soon as there is something in it.
  bool isOurs = isSame || (isKnown && isFolder && change.appeared);
  if (!isOurs) {
    bool isNew = change.appeared && !isKnown;
    result.push_back({isNew ? ChangeKind::CREATED : ChangeKind::CHANGED, change.path, {}});
  }
  if (!change.subtree || !isFolder) return;
  std::vector<Change> below;
  size_t budget = MAX_EXPANDED;
  expand(change.path, below, budget);
  if (budget == 0) {
    result.push_back({ChangeKind::SUBTREE, change.path, {}});
  } else {
    std::move(below.begin(), below.end(), std::back_inserter(result));
  }
}

// What is in a new folder. What comes to be in it from now on is noticed by itself.
void Noticing::expand(const std::string& path, std::vector<Change>& result, size_t& budget) {
  auto fd = root.open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, Follow::NO);
  if (!fd.ok()) return;
  auto names = Names::read(*fd, path);
  if (!names.ok()) return;
  std::vector<std::string> folders;
  for (size_t i = 0; i < names->size(); ++i) {
    if (budget == 0 || --budget == 0) return;
    std::string inner = joinPath(path, (*names)[i]);
    auto status = root.stat(inner);
    if (!status.ok() || isReserved(inner)) continue;
    look({inner, false, true}, result);
    if (S_ISDIR(status->st_mode)) folders.push_back(std::move(inner));
  }
  for (auto& inner : folders) expand(inner, result, budget);
}

}  // namespace capstan::server::files
