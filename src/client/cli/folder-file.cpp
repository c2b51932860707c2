#include <capstan/client/cli/folder-file.h>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include <kj/io.h>

#include <capstan/base/file.h>

namespace capstan::cli {

namespace {

// A pipe that nobody writes to must hold up nobody.
constexpr int HOW = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

kj::AutoCloseFd openByNames(std::string_view path) {
  kj::AutoCloseFd folder;
  int at = AT_FDCWD;
  while (true) {
    size_t slash = path.find('/');
    std::string name(path.substr(0, slash));
    if (slash == std::string_view::npos) return kj::AutoCloseFd(openat(at, name.c_str(), HOW | O_NOFOLLOW));
    if (!name.empty()) {
      kj::AutoCloseFd next(openat(at, name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (next.get() < 0) return next;
      folder = kj::mv(next);
      at = folder.get();
    }
    path.remove_prefix(slash + 1);
  }
}

kj::AutoCloseFd openBeneath(const std::string& path) {
  open_how how{};
  how.flags = uint64_t(unsigned(HOW));
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  kj::AutoCloseFd fd(int(syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof(how))));
  bool isMissing = fd.get() < 0 && (errno == ENOSYS || errno == EPERM);
  return isMissing ? openByNames(path) : kj::mv(fd);
}

}  // namespace

bool isFolderPath(const std::string& path) {
  if (path.empty() || path.front() == '/' || path.find('\0') != std::string::npos) return false;
  return ("/" + path + "/").find("/../") == std::string::npos;
}

Result<std::string> readFolderFile(const std::string& path, size_t limit) {
  constexpr std::string_view BEYOND = " is not a file of this folder";
  if (!isFolderPath(path)) return errorAt(ErrorCode::INVALID_PATH, path, "", BEYOND);
  kj::AutoCloseFd fd = openBeneath(path);
  if (fd.get() < 0 && (errno == EXDEV || errno == ELOOP)) return errorAt(ErrorCode::INVALID_PATH, path, "", BEYOND);
  struct stat status;
  if (fd.get() < 0 || fstat(fd, &status) < 0) return errorFromErrno(errno, "cannot read", path);
  if (!S_ISREG(status.st_mode)) return errorAt(ErrorCode::INVALID_PATH, path, "", BEYOND);
  std::string content(limit + 1, '\0');
  ssize_t count = readAt(fd, content.data(), content.size(), 0);
  if (count < 0) return errorFromErrno(errno, "cannot read", path);
  if (size_t(count) > limit) return errorAt(ErrorCode::TOO_LARGE, path, "", " is larger than such a file should be");
  content.resize(size_t(count));
  return content;
}

}  // namespace capstan::cli
