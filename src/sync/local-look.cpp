#include <capstan/sync/local-look.h>

#include <atomic>
#include <condition_variable>
#include <mutex>

#include <kj/debug.h>

#include <capstan/base/log.h>
#include <capstan/sync/local-folder.h>

namespace capstan::sync {

namespace {

// Lets a job that uses what belongs to the loop's side be waited for when its promise is dropped.
class Gate {
 public:
  // False: nobody waits for the job any more, and what it would use may be gone.
  bool enter() {
    std::lock_guard lock(mutex);
    running = !closed;
    return running;
  }
  void leave() {
    std::lock_guard lock(mutex);
    running = false;
    left.notify_all();
  }
  void close() {
    cancelled = true;
    std::unique_lock lock(mutex);
    closed = true;
    left.wait(lock, [this]() { return !running; });
  }

  std::atomic<bool> cancelled = false;

 private:
  std::mutex mutex;
  std::condition_variable left;
  bool running = false, closed = false;  // protected by mutex
};

Error cancelledError() { return {ErrorCode::CANCELLED, "the look at the local folder was cancelled", {}}; }

}  // namespace

// Used by one job at a time, or by the loop when there is none.
struct LocalLooker::Shared {
  const std::shared_ptr<LocalReports> reports = std::make_shared<LocalReports>();
  std::mutex mutex;  // of the watcher, for status while a job starts it
  std::unique_ptr<TreeWatcher> watcher;
  std::string watchedRoot;
  bool cannotWatch = false;

  // The watcher is there before anything is looked at, so that nothing is missed in between.
  void watch(const LocalOptions& options, const std::string& root) {
    if (!options.watch || cannotWatch) return;
    if (watcher && watchedRoot == root) return watcher->flush();
    std::unique_ptr<TreeWatcher> old;
    {
      std::lock_guard lock(mutex);
      old = std::move(watcher);
    }
    old = nullptr;
    TreeWatcher::Options how;
    how.folder = options.folder;
    how.pollInterval = options.pollInterval;
    // Ignored folders are watched: the rules may be others tomorrow.
    how.leaveOut = [](std::string_view path) { return path == STATE_FOLDER; };
    auto started = TreeWatcher::start(std::move(how),
                                      [reports = reports](TreeChanges changes) { reports->tell(std::move(changes)); });
    if (!started.ok()) {
      log::warning("changes in ", options.folder, " are noticed by looking only: ", started.error().message);
      cannotWatch = true;
      return;
    }
    std::lock_guard lock(mutex);
    watcher = std::move(*started);
    watchedRoot = root;
    restarted = true;
  }

  bool restarted = false;
};

struct LocalLooker::Begun {
  kj::AutoCloseFd root;
  std::string rootId;
  bool canTell = false;  // what changed since the last look
  ByPath<bool> paths;    // that were reported
};

LocalLooker::LocalLooker(BlockingPool& pool, LocalOptions options)
    : pool(pool), options(std::move(options)), shared(std::make_shared<Shared>()) {}

LocalLooker::~LocalLooker() noexcept(false) {}

std::string LocalLooker::watching() const {
  std::lock_guard lock(shared->mutex);
  return shared->watcher ? std::string(nameOf(shared->watcher->method())) : "none";
}

kj::Promise<void> LocalLooker::onChange() {
  if (!options.watch) return kj::NEVER_DONE;
  return shared->reports->onReport();
}

kj::Promise<Result<Replica::Look>> LocalLooker::look(const State& state, const IgnoreRules& ignore,
                                                     Replica::LookOptions how) {
  auto job = [shared = shared, options = options]() -> Result<std::shared_ptr<Begun>> {
    auto begun = std::make_shared<Begun>();
    auto root = openLocalFolder(options.folder);
    if (!root.ok()) return root.error();
    struct stat status;
    if (fstat(*root, &status) < 0) return errorFromErrno(errno, "cannot look at", options.folder);
    begun->root = kj::mv(*root);
    begun->rootId = rootIdOf(status);
    shared->watch(options, begun->rootId);
    begun->canTell = shared->watcher && !shared->restarted && !shared->watcher->isPartial() &&
                     shared->watcher->method() != WatchMethod::POLLING;
    shared->restarted = false;
    return begun;
  };
  return pool.run(std::move(job))
      .then([this, &state, &ignore,
             how = std::move(how)](Result<std::shared_ptr<Begun>> begun) mutable -> kj::Promise<Result<Replica::Look>> {
        // `this` outlives the promise, as replica.h demands.
        if (begun.ok()) return scan(std::move(*begun), state, ignore, std::move(how));
        needsWhole = true;
        return Result<Replica::Look>(begun.error());
      });
}

bool LocalLooker::takesWhole(const Begun& begun, const Replica::LookOptions& how) const {
  return needsWhole || how.whole || how.checkContent || !begun.canTell;
}

kj::Promise<Result<Replica::Look>> LocalLooker::scan(std::shared_ptr<Begun> begun, const State& state,
                                                     const IgnoreRules& ignore, Replica::LookOptions how) {
  auto taken = shared->reports->take();
  begun->paths = std::move(taken.paths);
  for (auto& [path, subtree] : unfinished) addReport(begun->paths, path, subtree);
  for (auto& path : how.again) addReport(begun->paths, path, true);
  if (taken.overflow) needsWhole = true;
  bool whole = takesWhole(*begun, how);
  std::vector<Report> reports;
  if (!whole) {
    // Not on the pool: the state belongs to this thread.
    auto& mine = const_cast<State&>(state);
    for (auto& [path, subtree] : begun->paths) reports.push_back({{path, subtree}, mine.find(path)});
  }
  // Until this look has ended well, whatever was reported counts as not looked at.
  needsWhole = true;
  auto gate = std::make_shared<Gate>();
  auto job = [gate, begun, reports = std::move(reports), whole, &state, &ignore,
              checkContent = how.checkContent]() -> Result<Scanned> {
    if (!gate->enter()) return cancelledError();
    KJ_DEFER(gate->leave());
    ScanOptions scan;
    scan.walk.root = begun->root;
    scan.walk.ignore = &ignore;
    scan.walk.cancelled = &gate->cancelled;
    scan.state = &state;
    scan.checkContent = checkContent;
    return whole ? scanAll(scan) : scanReported(scan, reports);
  };
  return pool.run(std::move(job))
      .then([this, begun](Result<Scanned> scanned) { return finish(*begun, std::move(scanned)); })
      .attach(kj::defer([gate]() { gate->close(); }));
}

Result<Replica::Look> LocalLooker::finish(const Begun& begun, Result<Scanned> scanned) {
  if (!scanned.ok()) return scanned.error();
  needsWhole = false;
  unfinished.clear();
  for (const auto& [path, node] : scanned->look.changes) addReport(unfinished, path, false);
  for (const TreeChange& change : scanned->again) addReport(unfinished, change.path, change.subtree);
  scanned->look.root = lastRoot = begun.rootId;
  return std::move(scanned->look);
}

}  // namespace capstan::sync
