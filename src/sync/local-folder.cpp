#include <capstan/sync/local-folder.h>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <capstan/storage/version.h>

namespace capstan::sync {

namespace {

int openBeneath(int root, const char* path, int flags) {
  // openat2 refuses, where openat ignores, flags that mean nothing for O_PATH.
  if (flags & O_PATH) flags &= O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC;
  open_how how{};
  how.flags = uint64_t(unsigned(flags));
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
  return int(syscall(SYS_openat2, root, path, &how, sizeof(how)));
}

// Without openat2, and for paths that are too long for one call.
kj::AutoCloseFd openByNames(int root, std::string_view path, int flags) {
  kj::AutoCloseFd folder;
  int at = root;
  while (true) {
    size_t slash = path.find('/');
    std::string name(path.substr(0, slash));
    if (name.empty() || name == "." || name == "..") {
      errno = EXDEV;  // as openat2 has it
      return {};
    }
    bool isLast = slash == std::string_view::npos;
    int how = isLast ? flags | O_NOFOLLOW : O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    kj::AutoCloseFd next(openat(at, name.c_str(), how));
    if (next.get() < 0 || isLast) return next;
    folder = kj::mv(next);
    at = folder.get();
    path.remove_prefix(slash + 1);
  }
}

}  // namespace

Result<kj::AutoCloseFd> openLocalFolder(const std::string& folder) {
  kj::AutoCloseFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) return errorFromErrno(errno, "cannot look into the local folder", folder);
  return kj::mv(fd);
}

kj::AutoCloseFd openBelow(int root, std::string_view path, int flags) {
  flags |= O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  if (path.empty()) return kj::AutoCloseFd(openat(root, ".", flags));
  std::string name(path);
  int fd = openBeneath(root, name.c_str(), flags | O_NOFOLLOW);
  if (fd >= 0) return kj::AutoCloseFd(fd);
  if (errno != ENOSYS && errno != EPERM && errno != ENAMETOOLONG) return {};
  return openByNames(root, path, flags);
}

bool saysAbsent(int number) { return number == ENOENT || number == ENOTDIR || number == ELOOP; }

int statBelow(int root, std::string_view path, struct stat& status) {
  if (path.empty()) return fstat(root, &status) == 0 ? 0 : errno;
  kj::AutoCloseFd folder;
  int at = root;
  if (auto parent = parentOf(path); !parent.empty()) {
    folder = openBelow(root, parent, O_PATH | O_DIRECTORY);
    if (folder.get() < 0) return errno;
    at = folder.get();
  }
  std::string name(baseNameOf(path));
  return fstatat(at, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
}

std::string rootIdOf(const struct stat& status) {
  uint64_t words[2] = {status.st_dev, status.st_ino};
  return std::string(reinterpret_cast<const char*>(words), sizeof(words));
}

Node nodeFrom(const struct stat& status, bool settled, std::string target) {
  Entry entry = storage::entryFrom(status);
  Node node;
  node.type = entry.type;
  node.size = entry.size;
  node.mtime = entry.mtime;
  node.mode = entry.mode;
  node.target = std::move(target);
  node.stamp = std::move(entry.version);
  node.identity = entry.identity;
  node.settled = settled;
  return node;
}

std::optional<std::string> targetBelow(int root, std::string_view path, int& error) {
  kj::AutoCloseFd fd = openBelow(root, parentOf(path), O_PATH | O_DIRECTORY);
  char target[PATH_MAX];
  ssize_t size = -1;
  if (fd.get() >= 0) size = readlinkat(fd, std::string(baseNameOf(path)).c_str(), target, sizeof(target));
  if (size < 0) {
    error = errno;
    return std::nullopt;
  }
  return std::string(target, size_t(size));
}

Result<std::optional<Node>> nodeBelow(int root, const std::string& path) {
  struct stat status;
  int error = statBelow(root, path, status);
  bool settled = error == 0 && storage::isSettled(status);
  std::string target;
  if (error == 0 && S_ISLNK(status.st_mode)) {
    auto read = targetBelow(root, path, error);
    // EINVAL: it is no symlink any more.
    if (!read && error == EINVAL) return errorAt(ErrorCode::CHANGED, path, "", " changes while it is looked at");
    if (read) target = std::move(*read);
  }
  if (error == 0) return std::optional<Node>(nodeFrom(status, settled, std::move(target)));
  if (saysAbsent(error)) return std::optional<Node>();
  return errorFromErrno(error, "cannot look at", path);
}

}  // namespace capstan::sync
