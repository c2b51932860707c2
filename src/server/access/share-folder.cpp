#include <capstan/server/access/share-folder.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <thread>
#include <vector>

#include <capstan/base/clock.h>
#include <capstan/base/file.h>

namespace capstan::server {

namespace {

constexpr const char* FOLDER = "shares";
constexpr const char* LOCK_FILE = "lock";
constexpr std::string_view NEW_SUFFIX = ".new";
constexpr size_t MAX_FILE_BYTES = 64 << 10;
constexpr size_t MAX_ID_LENGTH = 64;
// Two changes within one tick of the file system's clock give the folder the same time; some count whole seconds.
constexpr int64_t LONGEST_TICK = 2'000'000'000;
// For the lock: whoever works holds it for some milliseconds.
constexpr std::chrono::seconds LONGEST_WAIT{2};
constexpr std::chrono::milliseconds BETWEEN_TRIES{2};

bool isId(std::string_view name) {
  auto isLetter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '2' && c <= '7'); };
  return name != LOCK_FILE && name.size() <= MAX_ID_LENGTH && std::all_of(name.begin(), name.end(), isLetter);
}

std::string shown(std::string_view id) { return std::string(FOLDER) + "/" + std::string(id); }

// The names in the folder, read from its beginning.
Result<std::vector<std::string>> namesIn(int folder) {
  int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* stream = fd < 0 ? nullptr : fdopendir(fd);
  if (stream == nullptr) {
    Error error = errorFromErrno(errno, "cannot read the folder", FOLDER);
    if (fd >= 0) close(fd);
    return error;
  }
  KJ_DEFER(closedir(stream));
  std::vector<std::string> names;
  errno = 0;
  while (dirent* entry = readdir(stream)) {
    names.push_back(entry->d_name);
    errno = 0;
  }
  if (errno != 0) return errorFromErrno(errno, "cannot read the folder", FOLDER);
  return names;
}

}  // namespace

Result<std::unique_ptr<ShareFolder>> ShareFolder::open(int state) {
  if (mkdirat(state, FOLDER, 0700) < 0 && errno != EEXIST) {
    return errorFromErrno(errno, "cannot make the folder", FOLDER);
  }
  kj::AutoCloseFd parent(openat(state, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (parent.get() < 0 || fsync(parent) < 0) return errorFromErrno(errno, "cannot flush the folder of", FOLDER);
  kj::AutoCloseFd folder(openat(state, FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (folder.get() < 0) return errorFromErrno(errno, "cannot open", FOLDER);
  kj::AutoCloseFd lockFile(openat(folder, LOCK_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (lockFile.get() < 0) return errorFromErrno(errno, "cannot open", shown(LOCK_FILE));
  return std::make_unique<ShareFolder>(kj::mv(folder), kj::mv(lockFile));
}

ShareFolder::ShareFolder(kj::AutoCloseFd folder, kj::AutoCloseFd lockFile)
    : folder(kj::mv(folder)), lockFile(kj::mv(lockFile)) {}

ShareFolder::Lock::~Lock() {
  if (fd >= 0) flock(fd, LOCK_UN);
}

// Whoever holds it may have been stopped: a server that waits for it has to go on nevertheless.
Result<ShareFolder::Lock> ShareFolder::lock() {
  using Clock = std::chrono::steady_clock;
  auto end = Clock::now() + LONGEST_WAIT;
  if (waitedInVain && Clock::now() - *waitedInVain < LONGEST_WAIT) end = Clock::now();
  while (flock(lockFile, LOCK_EX | LOCK_NB) < 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return errorFromErrno(errno, "cannot lock", shown(LOCK_FILE));
    if (Clock::now() >= end) {
      if (!waitedInVain || Clock::now() - *waitedInVain >= LONGEST_WAIT) waitedInVain = Clock::now();
      return Error{ErrorCode::OVERLOADED,
                   "another server of this folder keeps its shares locked; try again later, or look whether it hangs",
                   {}};
    }
    std::this_thread::sleep_for(BETWEEN_TRIES);
  }
  waitedInVain.reset();
  return Lock(lockFile);
}

bool ShareFolder::isGone(const std::string& id) const {
  struct stat status;
  return fstatat(folder, id.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

int64_t ShareFolder::changed() const {
  struct stat status;
  return fstat(folder, &status) < 0 ? 0 : toNanoseconds(status.st_mtim);
}

bool ShareFolder::hasChanged() const { return seen == 0 || changed() != seen; }

Result<std::map<std::string, FileStamp>> ShareFolder::list() {
  int64_t now = wallClock();
  int64_t before = changed();
  bool isOld = now - before > LONGEST_TICK;
  auto names = namesIn(folder);
  if (!names.ok()) return names.error();
  std::map<std::string, FileStamp> shares;
  for (auto& name : *names) {
    if (isId(name)) shares.emplace(name, stampOf(name));
  }
  seen = isOld ? before : 0;
  return shares;
}

FileStamp ShareFolder::stampOf(const std::string& id) const {
  struct stat status;
  if (fstatat(folder, id.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) return {};
  return {uint64_t(status.st_ino), toNanoseconds(status.st_ctim)};
}

Result<ShareFile> ShareFolder::read(const std::string& id) const {
  kj::AutoCloseFd fd(openat(folder, id.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat status;
  if (fd.get() < 0 && errno == ELOOP) return errorAt(ErrorCode::CORRUPT, shown(id), "", " is no plain file");
  if (fd.get() < 0 || fstat(fd, &status) < 0) return errorFromErrno(errno, "cannot read", shown(id));
  if (!S_ISREG(status.st_mode)) return errorAt(ErrorCode::CORRUPT, shown(id), "", " is no plain file");
  std::string text(MAX_FILE_BYTES + 1, '\0');
  ssize_t size = readAt(fd, text.data(), text.size(), 0);
  if (size < 0) return errorFromErrno(errno, "cannot read", shown(id));
  if (size_t(size) > MAX_FILE_BYTES)
    return errorAt(ErrorCode::CORRUPT, shown(id), "", " is larger than a share's file");
  text.resize(size_t(size));
  return parseShareFile(text);
}

Status ShareFolder::write(const std::string& id, const ShareFile& share) {
  std::string text = format(share), temporary = id + std::string(NEW_SUFFIX);
  auto failed = [&]() {
    Error error = errorFromErrno(errno, "cannot write", shown(id));
    unlinkat(folder, temporary.c_str(), 0);
    return error;
  };
  {
    unlinkat(folder, temporary.c_str(), 0);
    kj::AutoCloseFd fd(openat(folder, temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (fd.get() < 0) return failed();
    if (!writeAt(fd, text.data(), text.size(), 0) || fsync(fd) < 0) return failed();
  }
  if (renameat(folder, temporary.c_str(), folder, id.c_str()) < 0) return failed();
  if (fsync(folder) < 0) return errorFromErrno(errno, "cannot flush", FOLDER);
  return okStatus();
}

Status ShareFolder::remove(const std::string& id) {
  if (unlinkat(folder, id.c_str(), 0) < 0 && errno != ENOENT) return errorFromErrno(errno, "cannot remove", shown(id));
  if (fsync(folder) < 0) return errorFromErrno(errno, "cannot flush", FOLDER);
  return okStatus();
}

void ShareFolder::sweep() {
  auto names = namesIn(folder);
  if (!names.ok()) return;
  for (auto& name : *names) {
    if (name.ends_with(NEW_SUFFIX)) unlinkat(folder, name.c_str(), 0);
  }
}

}  // namespace capstan::server
