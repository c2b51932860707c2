#include <capstan/base/file.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include <capstan/base/digest.h>
#include <capstan/base/text.h>

namespace capstan {

ssize_t readAt(int fd, void* buffer, size_t size, uint64_t offset) {
  size_t done = 0;
  while (done < size) {
    ssize_t n = pread(fd, static_cast<char*>(buffer) + done, size - done, off_t(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -1;
    if (n == 0) break;
    done += size_t(n);
  }
  return ssize_t(done);
}

bool writeAt(int fd, const void* buffer, size_t size, uint64_t offset) {
  size_t done = 0;
  while (done < size) {
    ssize_t n = pwrite(fd, static_cast<const char*>(buffer) + done, size - done, off_t(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      if (n == 0) errno = EIO;
      return false;
    }
    done += size_t(n);
  }
  return true;
}

ssize_t readCachedAt(int fd, void* buffer, size_t size, uint64_t offset) {
  iovec part{buffer, size};
  return preadv2(fd, &part, 1, off_t(offset), RWF_NOWAIT);
}

// Within a second: whoever hands over a secret by a pipe has it at hand.
static bool becomesReadable(int fd) {
  pollfd waiting{fd, POLLIN, 0};
  return poll(&waiting, 1, 1000) > 0;
}

Result<std::string> readFile(const std::string& path, size_t limit) {
  // A pipe that nobody writes to must hold up nobody.
  kj::AutoCloseFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) return errorFromErrno(errno, "cannot read", path);
  struct stat status;
  if (fstat(fd, &status) < 0) return errorFromErrno(errno, "cannot read", path);
  bool isPipe = S_ISFIFO(status.st_mode);
  std::string content;
  char buffer[16384];
  while (true) {
    if (isPipe && !becomesReadable(fd)) {
      return errorAt(ErrorCode::TIMED_OUT, path, "cannot read ", ": it is a pipe that nobody writes to");
    }
    ssize_t n = isPipe ? read(fd, buffer, sizeof(buffer)) : readAt(fd, buffer, sizeof(buffer), content.size());
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n < 0) return errorFromErrno(errno, "cannot read", path);
    if (n == 0) return content;
    content.append(buffer, size_t(n));
    if (content.size() > limit) return errorAt(ErrorCode::TOO_LARGE, path, "", " is larger than such a file should be");
  }
}

Status writeFileAtomically(const std::string& path, std::string_view content, unsigned mode) {
  std::string temporary = path + ".new-" + toHex(randomBytes(6));
  auto failed = [&]() {
    Error error = errorFromErrno(errno, "cannot write", path);
    unlink(temporary.c_str());
    return error;
  };
  {
    kj::AutoCloseFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
    if (fd.get() < 0) return failed();
    if (!writeAt(fd, content.data(), content.size(), 0) || fchmod(fd, mode) < 0 || fsync(fd) < 0) return failed();
  }
  if (rename(temporary.c_str(), path.c_str()) < 0) return failed();
  size_t slash = path.rfind('/');
  std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  kj::AutoCloseFd parent(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (parent.get() < 0 || fsync(parent) < 0) return errorFromErrno(errno, "cannot flush", folder);
  return okStatus();
}

Status makeDirectories(const std::string& path, unsigned mode) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    std::string part = path.substr(0, slash);
    if (!part.empty() && mkdir(part.c_str(), mode) < 0 && errno != EEXIST) {
      return errorFromErrno(errno, "cannot make the folder", part);
    }
    if (slash == std::string::npos) break;
  }
  struct stat status;
  if (::stat(path.c_str(), &status) < 0) return errorFromErrno(errno, "cannot make the folder", path);
  if (!S_ISDIR(status.st_mode)) return errorFromErrno(ENOTDIR, "cannot make the folder", path);
  return okStatus();
}

int renameat2(int fromDir, const char* from, int toDir, const char* to, unsigned flags) {
  return int(syscall(SYS_renameat2, fromDir, from, toDir, to, flags));
}

timespec toTimespec(int64_t nanoseconds) {
  constexpr int64_t BILLION = 1'000'000'000;
  int64_t seconds = nanoseconds / BILLION, fraction = nanoseconds % BILLION;
  if (fraction < 0) {
    fraction += BILLION;
    --seconds;
  }
  return {time_t(seconds), long(fraction)};
}

}  // namespace capstan
