// The thread behind every tree watcher: waits for its source, gathers for a moment what comes together, tells it; and
// what all sources need to get at folders.
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>

#include <kj/debug.h>

#include <capstan/base/log.h>
#include <capstan/base/path.h>
#include <capstan/base/watch-source.h>

namespace capstan {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int OPEN_FOLDER = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

class WatchThread final : public TreeWatcher {
 public:
  WatchThread(std::unique_ptr<WatchSource> source, const Options& options, Sink sink)
      : source(std::move(source)),
        usedMethod(this->source->method()),
        gather(options.gather),
        interval(options.pollInterval),
        sink(std::move(sink)),
        wakeUp(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    KJ_REQUIRE(wakeUp.get() >= 0, "no eventfd");
    thread = std::thread([this] { work(); });
  }

  ~WatchThread() noexcept(false) override {
    {
      std::lock_guard lock(mutex);
      ending = true;
    }
    wake();
    thread.join();
  }

  void flush(bool poll) override {
    std::unique_lock lock(mutex);
    uint64_t number = ++asked;
    if (poll) pollAsked = true;
    wake();
    answered.wait(lock, [&] { return done >= number || ending; });
  }

  WatchMethod method() const override { return usedMethod; }
  bool isPartial() const override { return source->isPartial(); }

 private:
  void wake() const {
    uint64_t one = 1;
    // It can only fail because it is awake already.
    ssize_t written = write(wakeUp, &one, sizeof(one));
    (void)written;
  }

  // Until there is something to do, or the time has come. True: the source has something.
  bool wait(bool forSource, std::optional<Clock::time_point> until) const {
    pollfd fds[2] = {{wakeUp.get(), POLLIN, 0}, {source->descriptor(), POLLIN, 0}};
    timespec left{};
    if (until) {
      auto time = std::max(std::chrono::nanoseconds(0), std::chrono::nanoseconds(*until - Clock::now()));
      left = {time_t(time.count() / 1'000'000'000), long(time.count() % 1'000'000'000)};
    }
    int ready = ppoll(fds, forSource && fds[1].fd >= 0 ? 2 : 1, until ? &left : nullptr, nullptr);
    uint64_t count;
    if (ready > 0 && fds[0].revents != 0 && read(wakeUp, &count, sizeof(count)) < 0) return false;
    return ready > 0 && fds[1].revents != 0;
  }

  struct Asked {
    uint64_t number;
    bool poll, ending, waiting;
  };
  Asked whatIsAsked() {
    std::lock_guard lock(mutex);
    Asked result{asked, pollAsked, ending, asked > done};
    pollAsked = false;
    return result;
  }

  void work() {
    auto nextPoll = Clock::now() + interval;
    while (true) {
      std::optional<Clock::time_point> until;
      if (source->polls()) until = nextPoll;
      bool something = wait(true, until);
      Asked now = whatIsAsked();
      if (something && !now.waiting && !now.ending) {
        // What comes in this moment is told together, and the kernel merges what is the same.
        wait(false, Clock::now() + gather);
        bool poll = now.poll;
        now = whatIsAsked();
        now.poll = now.poll || poll;
      }
      if (now.ending) break;
      if (source->polls() && (now.poll || Clock::now() >= nextPoll)) {
        source->poll(gathered);
        nextPoll = Clock::now() + interval;
      }
      while (!source->drain(gathered)) tell();
      tell();
      std::lock_guard lock(mutex);
      done = now.number;
      answered.notify_all();
    }
    std::lock_guard lock(mutex);
    answered.notify_all();
  }

  void tell() {
    if (gathered.empty()) return;
    KJ_IF_MAYBE (exception, kj::runCatchingExceptions([&]() { sink(gathered.take()); })) {
      log::error("changes of a folder could not be passed on: ", exception->getDescription());
      gathered.overflow();  // told with what comes next
    }
  }

  // used by the thread only
  const std::unique_ptr<WatchSource> source;
  // constant after construction
  const WatchMethod usedMethod;
  const std::chrono::nanoseconds gather;
  const std::chrono::nanoseconds interval;
  const Sink sink;
  const kj::AutoCloseFd wakeUp;
  Gathered gathered;  // used by the thread only
  // protected by mutex
  std::mutex mutex;
  std::condition_variable answered;
  uint64_t asked = 0;
  uint64_t done = 0;
  bool pollAsked = false;
  bool ending = false;

  std::thread thread;
};

kj::AutoCloseFd openByNames(int top, const std::string& path) {
  kj::AutoCloseFd current(openat(top, ".", OPEN_FOLDER));
  for (std::string_view name : splitPath(path)) {
    if (current.get() < 0) break;
    current = kj::AutoCloseFd(openat(current, std::string(name).c_str(), OPEN_FOLDER));
  }
  return current;
}

bool isFolder(int parent, const dirent& entry) {
  if (entry.d_type != DT_UNKNOWN) return entry.d_type == DT_DIR;
  struct stat status;
  return fstatat(parent, entry.d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
}

}  // namespace

void Gathered::add(TreeChange change) {
  auto [found, isNew] = positions.try_emplace(change.path, changes.changes.size());
  if (isNew) {
    changes.changes.push_back(std::move(change));
  } else {
    auto& known = changes.changes[found->second];
    known.subtree = known.subtree || change.subtree;
    known.appeared = known.appeared || change.appeared;
  }
}

TreeChanges Gathered::take() {
  TreeChanges result;
  std::swap(result, changes);
  positions.clear();
  return result;
}

std::unique_ptr<TreeWatcher> startWatchThread(std::unique_ptr<WatchSource> source, const TreeWatcher::Options& options,
                                              TreeWatcher::Sink sink) {
  return std::make_unique<WatchThread>(std::move(source), options, std::move(sink));
}

Result<kj::AutoCloseFd> openWatchedFolder(const std::string& folder) {
  kj::AutoCloseFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) return errorFromErrno(errno, "cannot watch", folder);
  return kj::mv(fd);
}

kj::AutoCloseFd openFolderBelow(int top, const std::string& path) {
  if (path.empty()) return kj::AutoCloseFd(openat(top, ".", OPEN_FOLDER));
  open_how how{};
  how.flags = OPEN_FOLDER;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  kj::AutoCloseFd fd(int(syscall(SYS_openat2, top, path.c_str(), &how, sizeof(how))));
  if (fd.get() < 0 && (errno == ENOSYS || errno == EPERM)) return openByNames(top, path);
  return fd;
}

bool readSubfolders(int folder, std::vector<std::string>& names) {
  int fd = openat(folder, ".", OPEN_FOLDER);
  DIR* dir = fd < 0 ? nullptr : fdopendir(fd);
  if (dir == nullptr) return false;
  KJ_DEFER(closedir(dir));
  while (true) {
    errno = 0;
    dirent* entry = readdir(dir);
    if (entry == nullptr) return errno == 0;
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    if (isFolder(folder, *entry)) names.push_back(entry->d_name);
  }
}

}  // namespace capstan
