#include <capstan/server/compute/jobs/compute-folder.h>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <system_error>
#include <vector>

#include <capstan/base/file.h>
#include <capstan/base/log.h>
#include <capstan/base/path.h>
#include <capstan/base/text.h>
#include <capstan/server/compute/jobs/job-journal.h>

namespace capstan::server::compute {

namespace {

constexpr unsigned MOST_SERVERS = 64;  // of one host on one folder
constexpr int MOST_TRIES = 100;

std::string hostName() {
  char name[256] = {};
  if (gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0') return "unknown";
  std::string result = name;
  std::replace(result.begin(), result.end(), '/', '_');
  return result == "." || result == ".." ? "unknown" : result;
}

// Nothing if another server has the folder, or if it is not there and not to be made.
Result<std::optional<LockedFolder>> tryLock(const std::string& path, bool make) {
  std::string lockPath = path + "/lock";
  for (int tries = 0; tries < MOST_TRIES; ++tries) {
    if (make) {
      auto made = makeDirectories(path);
      if (!made.ok()) return made.error();
    }
    kj::AutoCloseFd lock(open(lockPath.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | (make ? O_CREAT : 0), 0600));
    if (lock.get() < 0) {
      bool isGone = errno == ENOENT || errno == ENOTDIR;
      if (isGone && make) continue;  // somebody adopted the folder between these two steps
      if (isGone) return std::optional<LockedFolder>();
      return errorFromErrno(errno, "cannot open", lockPath);
    }
    if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
      if (errno == EWOULDBLOCK) return std::optional<LockedFolder>();
      return errorFromErrno(errno, "cannot lock", lockPath);
    }
    struct stat status {};
    if (fstat(lock, &status) < 0) return errorFromErrno(errno, "cannot look at", lockPath);
    // Who adopts a folder removes its lock: then this one is nobody's.
    if (status.st_nlink > 0) return std::optional<LockedFolder>(LockedFolder{path, kj::mv(lock)});
  }
  return errorAt(ErrorCode::IO, lockPath, "cannot lock ", ": it vanishes again and again");
}

Result<std::vector<std::string>> namesIn(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code failure;
  std::filesystem::directory_iterator entry(folder, failure), end;
  for (; !failure && entry != end; entry.increment(failure)) names.push_back(entry->path().filename().string());
  if (failure) return errorFromErrno(failure.value(), "cannot list", folder);
  return names;
}

Status flush(const std::string& folder) {
  kj::AutoCloseFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0 || fsync(fd) < 0) return errorFromErrno(errno, "cannot flush", folder);
  return okStatus();
}

// A second name for the file; the older server's stays until the job is ours. One that a killed adoption left may be of
// an older file.
Status linkInto(const std::string& from, const std::string& to) {
  if (unlink(to.c_str()) < 0 && errno != ENOENT) return errorFromErrno(errno, "cannot replace", to);
  if (link(from.c_str(), to.c_str()) == 0) return okStatus();
  bool canLink = errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS && errno != EMLINK;
  if (!canLink && rename(from.c_str(), to.c_str()) == 0) return okStatus();
  return errorFromErrno(errno, "cannot move", from);
}

// Files first, then the journal in one step: whoever has the journal has all that it speaks of.
Status moveJobs(const std::string& from, const std::string& to) {
  auto closed = JobJournal::makeMovable(from);
  if (!closed.ok()) return closed.error();
  auto names = namesIn(from);
  if (!names.ok()) return names.error();
  if (*closed) {
    for (auto& name : *names) {
      if (!belongsToJobs(name)) continue;
      Status linked = linkInto(from + "/" + name, to + "/" + name);
      if (!linked.ok()) return linked;
    }
    Status flushed = flush(to);
    if (!flushed.ok()) return flushed;
    Status moved = JobJournal::move(from, to);
    if (!moved.ok()) return moved;
    flushed = flush(to);
    if (flushed.ok()) flushed = flush(from);
    if (!flushed.ok()) return flushed;
  }
  for (auto& name : *names) {
    if (belongsToJobs(name)) unlink((from + "/" + name).c_str());
  }
  return okStatus();
}

Status adopt(const std::string& path, const LockedFolder& own) {
  auto locked = tryLock(path, false);
  if (!locked.ok()) return locked.error();
  if (!*locked) return okStatus();
  Status moved = moveJobs(path, own.path);
  if (!moved.ok()) return moved;
  log::info("took over the jobs in ", escapeForTerminal(path).c_str());
  // What is left, such as a damaged journal, keeps the folder.
  unlink((path + "/lock").c_str());
  rmdir(path.c_str());
  return okStatus();
}

}  // namespace

Result<LockedFolder> lockComputeFolder(const std::string& root) {
  std::string parent = root + "/" + std::string(STATE_FOLDER) + "/compute";
  std::string host = hostName();
  for (unsigned number = 1; number <= MOST_SERVERS; ++number) {
    auto locked = tryLock(parent + "/" + host + (number == 1 ? "" : "-" + std::to_string(number)), true);
    if (!locked.ok()) return locked.error();
    if (*locked) return std::move(**locked);
  }
  return errorAt(ErrorCode::LIMIT, root, "too many servers of this host run on ", "; stop some");
}

// Whatever the host in a folder's name: containers change theirs at each start. A folder whose lock is free belongs to
// nobody, here or elsewhere: flock holds between hosts on those network file systems that share folders between hosts
// and have locks (NFS since Linux 2.6.12, CephFS, GlusterFS). Where one has no locks at all, or local ones (a mount
// with nolock or local_lock), only one host may serve the folder.
void adoptComputeFolders(const LockedFolder& own) {
  std::filesystem::path path(own.path);
  auto names = namesIn(path.parent_path().string());
  if (!names.ok()) return log::warning(names.error().message.c_str());
  std::sort(names->begin(), names->end());
  for (auto& name : *names) {
    if (name == path.filename().string()) continue;
    std::string other = (path.parent_path() / name).string();
    Status adopted = adopt(other, own);
    if (adopted.ok()) continue;
    log::warning("cannot take over the jobs in ", escapeForTerminal(other).c_str(),
                 ", where they stay until a server starts that can: ", adopted.error().message.c_str());
  }
}

}  // namespace capstan::server::compute
