#include <capstan/server/compute/spool.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include <kj/debug.h>

#include <capstan/base/close-later.h>
#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/base/text.h>

namespace capstan::server::compute {
namespace {

// Charged ahead, so that small appends do not contend for the account.
constexpr uint64_t CHARGE_STEP = 1 << 20;

std::atomic<uint32_t> openFiles{0};

// Connections need descriptors too.
Status mayOpenMore() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY) return okStatus();
  if (SpoolFile::openNow() < limit.rlim_cur / 2) return okStatus();
  return Error{ErrorCode::LIMIT,
               "the server has " + std::to_string(limit.rlim_cur / 2) +
                   " files of computed values open, as many as it may; give up values that are no longer needed",
               {}};
}

// Names come from the server's own code, so another one is a bug.
const char* checkedName(const std::string& name) {
  KJ_REQUIRE(!name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
                 name.find('\0') == std::string::npos,
             "not a name in a spool folder");
  return name.c_str();
}

kj::AutoCloseFd makeUnlinked(int folder) {
  std::string name = "unnamed-" + toHex(randomBytes(16));
  kj::AutoCloseFd fd(openat(folder, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (fd.get() >= 0 && unlinkat(folder, name.c_str(), 0) < 0) {
    int number = errno;
    fd = nullptr;
    errno = number;
  }
  return fd;
}

}  // namespace

bool SpoolAccount::charge(uint64_t bytes) {
  uint64_t before = used.load(std::memory_order_relaxed);
  do {
    if (before > limit || bytes > limit - before) return false;
  } while (!used.compare_exchange_weak(before, before + bytes, std::memory_order_relaxed));
  return true;
}

Error SpoolAccount::exceeded() const {
  return {
      ErrorCode::QUOTA,
      "this would take more than the " + formatSize(limit) +
          " that computed values and temporary files may have; give up values or forget jobs that are no longer needed",
      {}};
}

Status SpoolCharge::cover(uint64_t bytes) {
  if (!account || bytes <= charged) return okStatus();
  uint64_t need = bytes - charged, step = std::max(need, CHARGE_STEP);
  if (!account->charge(step)) {
    step = need;
    if (!account->charge(step)) return account->exceeded();
  }
  charged += step;
  return okStatus();
}

void SpoolCharge::settle(uint64_t bytes) {
  if (!account || charged <= bytes) return;
  account->release(charged - bytes);
  charged = bytes;
}

SpoolFile::SpoolFile(kj::AutoCloseFd fd, std::shared_ptr<SpoolAccount> account)
    : fd(kj::mv(fd)), charge(std::move(account)) {
  openFiles.fetch_add(1, std::memory_order_relaxed);
}

SpoolFile::~SpoolFile() {
  openFiles.fetch_sub(1, std::memory_order_relaxed);
  if (bytes >= SLOW_TO_CLOSE_BYTES) closeLater(kj::mv(fd));
}

uint32_t SpoolFile::openNow() { return openFiles.load(std::memory_order_relaxed); }

Status SpoolFile::append(std::string_view data) {
  uint64_t after = bytes + data.size();
  Status covered = charge.cover(after);
  if (!covered) return covered;
  if (!writeAt(fd, data.data(), data.size(), bytes)) return errorFromErrno(errno, "cannot store what is computed");
  bytes = after;
  return okStatus();
}

Result<size_t> SpoolFile::readAt(uint64_t offset, char* to, size_t size) const {
  if (offset >= bytes) return size_t(0);
  ssize_t n = capstan::readAt(fd, to, size_t(std::min<uint64_t>(size, bytes - offset)), offset);
  if (n < 0) return errorFromErrno(errno, "cannot read what was computed");
  return size_t(n);
}

Status SpoolFile::flush() {
  if (fsync(fd) < 0) return errorFromErrno(errno, "cannot flush what was computed");
  return okStatus();
}

Result<std::unique_ptr<Spool>> Spool::open(const std::string& folder, bool useTmpfile) {
  kj::AutoCloseFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) return errorFromErrno(errno, "cannot open the folder for computed values", folder);
  return std::unique_ptr<Spool>(new Spool(kj::mv(fd), useTmpfile));
}

Result<std::unique_ptr<SpoolFile>> Spool::newFile(std::shared_ptr<SpoolAccount> account) const {
  Status may = mayOpenMore();
  if (!may) return may.error();
  kj::AutoCloseFd fd;
  bool unsupported = !useTmpfile;
  if (useTmpfile) {
    // With O_EXCL nobody can give it a name later.
    fd = kj::AutoCloseFd(openat(folder, ".", O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
    unsupported = fd.get() < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL);
  }
  if (unsupported) fd = makeUnlinked(folder);
  if (fd.get() < 0) return errorFromErrno(errno, "cannot make a temporary file for what is computed");
  return std::make_unique<SpoolFile>(kj::mv(fd), std::move(account));
}

Result<std::unique_ptr<SpoolFile>> Spool::newFile(const std::string& name,
                                                  std::shared_ptr<SpoolAccount> account) const {
  kj::AutoCloseFd fd(openat(folder, checkedName(name), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (fd.get() < 0) return errorFromErrno(errno, "cannot make a file for what is computed");
  return std::make_unique<SpoolFile>(kj::mv(fd), std::move(account));
}

Result<std::unique_ptr<SpoolFile>> Spool::openFile(const std::string& name) const {
  Status may = mayOpenMore();
  if (!may) return may.error();
  // O_NONBLOCK: a pipe in its place must not hold us up.
  kj::AutoCloseFd fd(openat(folder, checkedName(name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat status;
  if (fd.get() < 0 || fstat(fd, &status) < 0) return errorFromErrno(errno, "cannot open what was computed");
  if (!S_ISREG(status.st_mode)) {
    return Error{ErrorCode::CORRUPT, "what was computed is no longer there: something else is in its place", {}};
  }
  auto file = std::make_unique<SpoolFile>(kj::mv(fd), nullptr);
  file->bytes = uint64_t(status.st_size);
  return file;
}

Status Spool::removeFile(const std::string& name) const {
  if (unlinkat(folder, checkedName(name), 0) < 0 && errno != ENOENT)
    return errorFromErrno(errno, "cannot remove a value");
  return okStatus();
}

Status Spool::flushFolder() const {
  if (fsync(folder) < 0) return errorFromErrno(errno, "cannot flush the folder for computed values");
  return okStatus();
}

Result<std::vector<std::string>> Spool::names() const {
  int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* listing = fd < 0 ? nullptr : fdopendir(fd);
  if (!listing) {
    int number = errno;
    if (fd >= 0) close(fd);
    return errorFromErrno(number, "cannot list the folder for computed values");
  }
  KJ_DEFER(closedir(listing));
  std::vector<std::string> result;
  while (true) {
    errno = 0;
    const dirent* entry = readdir(listing);
    if (!entry) break;
    std::string_view name = entry->d_name;
    if (name != "." && name != "..") result.emplace_back(name);
  }
  if (errno != 0) return errorFromErrno(errno, "cannot list the folder for computed values");
  return result;
}

}  // namespace capstan::server::compute
