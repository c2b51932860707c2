#include <capstan/storage/staging.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_map>

#include <capstan/base/clock.h>
#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/base/log.h>
#include <capstan/base/text.h>
#include <capstan/storage/delete-tree.h>
#include <capstan/storage/staged-file.h>

namespace capstan::storage {

namespace {

// A commit that came to no end may have left a mode that does not let even this server write.
int openResumable(int folder, const std::string& name, int flags) {
  flags |= O_RDWR | O_CLOEXEC | O_NOFOLLOW;
  int fd = openat(folder, name.c_str(), flags, 0600);
  if (fd >= 0 || errno != EACCES || fchmodat(folder, name.c_str(), 0600, 0) < 0) return fd;
  return openat(folder, name.c_str(), flags, 0600);
}

constexpr std::string_view RESUME_FOLDER = "resume";
constexpr std::string_view LOCK_FILE = "lock";
constexpr std::chrono::hours SWEEP_INTERVAL(1);

// The kernel lets only one thread at a time change a folder: threads make files in folders of their own, and go on to
// another one after so many, so that what is done with the first ones (they are renamed) does not meet what is made.
constexpr size_t LANES = 4;
constexpr unsigned FILES_IN_LANE = 512;
constexpr std::string_view LANE_PREFIX = "lane-";

// A folder in this server's folder, removed when nothing staged is in it any more.
struct Lane {
  int own;  // not owned
  std::string name;
  kj::AutoCloseFd fd;
  unsigned files = 0;  // made in it so far

  ~Lane() { unlinkat(own, name.c_str(), AT_REMOVEDIR); }
};

Result<kj::AutoCloseFd> openFolder(int parent, const std::string& name, bool make) {
  if (make && mkdirat(parent, name.c_str(), 0700) < 0 && errno != EEXIST) {
    return errorFromErrno(errno, "cannot make the staging folder", name);
  }
  kj::AutoCloseFd fd(openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (fd.get() < 0) return errorFromErrno(errno, "cannot open the staging folder", name);
  return kj::mv(fd);
}

std::vector<std::string> namesIn(int folder) {
  std::vector<std::string> names;
  int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);  // with an offset of its own
  DIR* dir = copy < 0 ? nullptr : fdopendir(copy);
  if (dir == nullptr) return names;
  while (dirent* entry = readdir(dir)) {
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  closedir(dir);
  return names;
}

// umask(2) can only be read by changing it, which other threads would notice.
mode_t readUmask() {
  auto status = readFile("/proc/self/status", 1 << 16);
  unsigned mask = 022;
  if (status.ok()) {
    size_t at = status->find("\nUmask:");
    if (at != std::string::npos) sscanf(status->c_str() + at, "\nUmask: %o", &mask);
  }
  return mask & 0777;
}

}  // namespace

struct Staging::Impl {
  // constant after construction
  kj::AutoCloseFd all;     // staging/
  kj::AutoCloseFd own;     // staging/<instance>/
  kj::AutoCloseFd lock;    // held as long as this server lives
  kj::AutoCloseFd resume;  // staging/resume/
  std::string instance;
  uint64_t resumeTime = 0;
  mode_t umask = 022;

  std::atomic<uint64_t> counter{0};
  std::atomic<bool> stop{false};

  // protected by mutex
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::string> toDelete;
  bool deleting = false;

  // protected by laneMutex
  std::mutex laneMutex;
  std::array<std::shared_ptr<Lane>, LANES> lanes;

  Holds holds;

  // protected by resumeMutex, which is taken before the other two
  std::mutex resumeMutex;
  std::unordered_map<std::string, std::weak_ptr<StagedFile>> resumables;

  std::thread janitor;

  std::string newName() { return std::to_string(counter.fetch_add(1, std::memory_order_relaxed)); }

  // Deletes what is queued, and sweeps now and then.
  void tidy(Staging& staging) {
    auto nextSweep = std::chrono::steady_clock::now() + SWEEP_INTERVAL;
    std::unique_lock guard(mutex);
    while (!stop) {
      if (!toDelete.empty()) {
        std::string name = std::move(toDelete.front());
        toDelete.pop_front();
        deleting = true;
        guard.unlock();
        if (!deleteTree(
                own, name, [this]() { return newName(); }, stop) &&
            !stop) {
          log::warning("something could not be deleted from staging: ", strerror(errno));
        }
        guard.lock();
        deleting = false;
        changed.notify_all();
      } else if (std::chrono::steady_clock::now() >= nextSweep) {
        guard.unlock();
        staging.sweep();
        nextSweep = std::chrono::steady_clock::now() + SWEEP_INTERVAL;
        guard.lock();
      } else {
        changed.wait_until(guard, nextSweep);
      }
    }
  }

  // The folder and its lock appear to a sweeping server as one step: `all` is locked meanwhile.
  Status makeOwn() {
    flock(all, LOCK_EX);
    KJ_DEFER(flock(all, LOCK_UN));
    instance = std::to_string(getpid()) + "-" + toHex(randomBytes(8));
    auto folder = openFolder(all, instance, true);
    if (!folder.ok()) return folder.error();
    own = std::move(folder).value();
    lock = kj::AutoCloseFd(openat(own, LOCK_FILE.data(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (lock.get() < 0) return errorFromErrno(errno, "cannot make the staging folder's lock", instance);
    flock(lock, LOCK_EX | LOCK_NB);  // nobody else can have it; a file system without locks has one server only
    return okStatus();
  }

  // A folder for what the calling thread stages.
  Result<std::shared_ptr<Lane>> lane() {
    static std::atomic<unsigned> threads{0};
    static thread_local const unsigned number = threads.fetch_add(1, std::memory_order_relaxed);
    std::lock_guard guard(laneMutex);
    auto& current = lanes[number % LANES];
    if (current == nullptr || ++current->files > FILES_IN_LANE) {
      std::string name = std::string(LANE_PREFIX) + newName();
      auto folder = openFolder(own, name, true);
      if (!folder.ok()) return folder.error();
      current = std::shared_ptr<Lane>(new Lane{own, std::move(name), std::move(folder).value()});
    }
    return current;
  }

  void sweepInstances(Staging& staging) {
    flock(all, LOCK_EX);
    KJ_DEFER(flock(all, LOCK_UN));
    for (const std::string& name : namesIn(all)) {
      if (name == instance || name == RESUME_FOLDER) continue;
      kj::AutoCloseFd theirs(
          openat(all, (name + "/" + LOCK_FILE.data()).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
      if (theirs.get() < 0 && errno != ENOENT && errno != ENOTDIR) continue;
      if (theirs.get() >= 0 && flock(theirs, LOCK_EX | LOCK_NB) < 0) continue;
      staging.throwAway(all, name);
    }
  }

  void sweepResumables() {
    int64_t now = wallClock();
    for (const std::string& name : namesIn(resume)) {
      kj::AutoCloseFd fd(openResumable(resume, name, O_NONBLOCK));
      struct stat status;
      if (fd.get() < 0 || fstat(fd, &status) < 0) continue;
      // Not mtime: a commit that failed may have set that already.
      int64_t age = now - toNanoseconds(status.st_ctim);
      if (age < 0 || uint64_t(age) < resumeTime) continue;
      if (flock(fd, LOCK_EX | LOCK_NB) == 0) unlinkat(resume, name.c_str(), 0);
    }
  }
};

Holds::Hold Staging::hold() { return Holds::Hold(impl->holds); }

Staging::Staging(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}

Result<std::unique_ptr<Staging>> Staging::open(const Root& root, uint64_t resumeTime) {
  auto impl = std::make_unique<Impl>();
  impl->resumeTime = resumeTime;
  impl->umask = readUmask();
  auto all = openFolder(root.stateFd(), "staging", true);
  if (!all.ok()) return all.error();
  impl->all = std::move(all).value();
  auto resume = openFolder(impl->all, std::string(RESUME_FOLDER), true);
  if (!resume.ok()) return resume.error();
  impl->resume = std::move(resume).value();
  Status made = impl->makeOwn();
  if (!made.ok()) return made.error();
  std::unique_ptr<Staging> staging(new Staging(std::move(impl)));
  staging->sweep();
  staging->impl->janitor = std::thread([self = staging.get()] { self->impl->tidy(*self); });
  return staging;
}

Staging::~Staging() noexcept(false) {
  impl->holds.wait();
  {
    std::lock_guard guard(impl->mutex);
    impl->stop = true;
  }
  impl->changed.notify_all();
  if (impl->janitor.joinable()) impl->janitor.join();
  // What is small goes now; what would take long is left to the next server's sweep.
  for (auto& lane : impl->lanes) lane = nullptr;
  for (const std::string& name : namesIn(impl->own)) {
    if (name != LOCK_FILE) unlinkat(impl->own, name.c_str(), 0);
  }
  flock(impl->all, LOCK_EX);
  unlinkat(impl->own, LOCK_FILE.data(), 0);
  unlinkat(impl->all, impl->instance.c_str(), AT_REMOVEDIR);
}

int Staging::fd() const { return impl->own; }
std::string Staging::newName() { return impl->newName(); }
mode_t Staging::newFileMode() const { return 0666 & ~impl->umask; }
mode_t Staging::modeAtCreation(mode_t mode) const { return mode & 0777 & ~impl->umask; }

Result<std::shared_ptr<StagedFile>> Staging::create(mode_t mode) {
  std::string name = newName();
  auto lane = impl->lane();
  if (!lane.ok()) return lane.error();
  int folder = (*lane)->fd;
  kj::AutoCloseFd file(openat(folder, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
  if (file.get() < 0) return errorFromErrno(errno, "cannot stage new content");
  return std::make_shared<StagedFile>(*this, folder, std::move(name), kj::mv(file), StagedFile::Kind::TEMPORARY,
                                      std::move(*lane));
}

std::string Staging::resumeNameOf(std::string_view grantId, std::string_view path, std::string_view key) {
  Hasher hasher(DigestAlgorithm::SHA256);
  for (std::string_view part : {grantId, path, key}) {
    hasher.update(std::to_string(part.size()) + ":");
    hasher.update(part);
  }
  return std::string(grantId) + "-" + toHex(hasher.digest());
}

std::string_view Staging::grantOfResumeName(std::string_view name) {
  size_t end = name.rfind('-');
  return end == std::string_view::npos ? std::string_view() : name.substr(0, end);
}

std::vector<Staging::Resumable> Staging::resumables() {
  std::vector<Resumable> found;
  for (std::string& name : namesIn(impl->resume)) {
    struct stat status;
    if (fstatat(impl->resume, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) continue;
    found.push_back({std::move(name), uint64_t(status.st_blocks) * 512, false});
  }
  std::lock_guard guard(impl->resumeMutex);
  for (Resumable& each : found) {
    auto open = impl->resumables.find(each.name);
    each.isOpen = open != impl->resumables.end() && !open->second.expired();
  }
  return found;
}

void Staging::forget(const std::string& name) {
  std::lock_guard guard(impl->resumeMutex);
  kj::AutoCloseFd fd(openResumable(impl->resume, name, O_NONBLOCK));
  if (fd.get() >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) unlinkat(impl->resume, name.c_str(), 0);
}

Result<std::shared_ptr<StagedFile>> Staging::resume(const std::string& name) {
  const Error busy{
      ErrorCode::OVERLOADED,
      "an upload with this resume key is just being finished, or is open at another server of this folder; "
      "try again later",
      {}};
  while (true) {
    std::shared_ptr<StagedFile> before;
    {
      std::lock_guard guard(impl->resumeMutex);
      auto found = impl->resumables.find(name);
      if (found != impl->resumables.end()) before = found->second.lock();
    }
    if (before != nullptr && !before->giveUp()) return busy;

    std::lock_guard guard(impl->resumeMutex);
    auto found = impl->resumables.find(name);
    if (found != impl->resumables.end() && found->second.lock() != before) continue;  // a third one came in between
    kj::AutoCloseFd file(openResumable(impl->resume, name, O_CREAT));
    if (file.get() < 0) return errorFromErrno(errno, "cannot stage new content");
    if (flock(file, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) return busy;
    struct stat locked, named;
    if (fstat(file, &locked) < 0) return errorFromErrno(errno, "cannot stage new content");
    bool there = fstatat(impl->resume, name.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0;
    if (!there || named.st_ino != locked.st_ino) continue;  // swept between open and lock
    auto staged = std::make_shared<StagedFile>(*this, impl->resume, name, kj::mv(file), StagedFile::Kind::RESUMABLE);
    std::erase_if(impl->resumables, [](const auto& item) { return item.second.expired(); });
    impl->resumables[name] = staged;
    return staged;
  }
}

int Staging::throwAway(int folder, const std::string& name) {
  std::string junk = newName();
  if (renameat(folder, name.c_str(), impl->own, junk.c_str()) < 0) return -1;
  deleteSoon(std::move(junk));
  return 0;
}

void Staging::deleteSoon(std::string name) {
  {
    std::lock_guard guard(impl->mutex);
    impl->toDelete.push_back(std::move(name));
  }
  impl->changed.notify_all();
}

void Staging::sweep() {
  impl->sweepInstances(*this);
  impl->sweepResumables();
}

void Staging::finishDeleting() {
  std::unique_lock guard(impl->mutex);
  impl->changed.wait(guard, [this] { return impl->toDelete.empty() && !impl->deleting; });
}

}  // namespace capstan::storage
