#include <capstan/storage/replace.h>

#include <fcntl.h>
#include <linux/fs.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>

#include <kj/io.h>

#include <capstan/base/log.h>
#include <capstan/base/text.h>

namespace capstan::storage {

namespace {

constexpr int MAX_PUT_BACK_TRIES = 10'000;

bool isUnsupported(int number) { return number == EINVAL || number == ENOSYS || number == EOPNOTSUPP; }

// A program that has the file open for writing could change it after we have looked. The kernel tells by refusing a
// read lease; it is held for no longer than the question takes, and its signal is one that nobody minds.
bool isOpenForWriting(int folder, const std::string& name) {
  kj::AutoCloseFd fd(openat(folder, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (fd.get() < 0) return false;
  fcntl(fd, F_SETSIG, SIGURG);
  if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0) return errno == EAGAIN;
  fcntl(fd, F_SETLEASE, F_UNLCK);
  return false;
}

// Keeps an inode number from being used again while we compare by it.
struct Pinned {
  kj::AutoCloseFd fd;
  struct stat status {};

  Pinned(int folder, const std::string& name) : fd(openat(folder, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)) {
    if (fd.get() >= 0) fstat(fd, &status);
  }
};

// After an exchange that should not have been: `ours` stands in the place of what is at `from` now. Exchanges until
// what comes out is what was last put there, so that in the end the newest that others wrote is in place.
void putBack(const Move& move, Pinned ours) {
  Pinned lastPut = kj::mv(ours);
  for (int i = 0; i < MAX_PUT_BACK_TRIES; ++i) {
    Pinned held(move.fromFolder, move.from);
    if (move.disk.renameat2(move.fromFolder, move.from.c_str(), move.toFolder, move.to.c_str(), RENAME_EXCHANGE) < 0) {
      if (errno != ENOENT) break;
      // They have removed what we had put there.
      Status status = moveToAbsent(move);
      if (status.ok()) return;
      if (status.error().code != ErrorCode::EXISTS) break;
      continue;
    }
    Pinned out(move.fromFolder, move.from);
    if (isSameFile(out.status, lastPut.status)) return;
    lastPut = kj::mv(held);
  }
  log::error("what another program wrote to ", escapeForTerminal(move.path).c_str(), " could not be put back");
}

Error conflictAt(const Move& move) {
  return errorAt(ErrorCode::CONFLICT, move.path, "",
                 " was changed by another program in the same moment; look at it again and repeat");
}

Error failed(const Move& move) { return errorFromErrno(errno, "cannot store", move.path); }

}  // namespace

bool isUnchanged(int folder, const std::string& name, const struct stat& expected) {
  struct stat found;
  if (S_ISREG(expected.st_mode) && isOpenForWriting(folder, name)) return false;
  return fstatat(folder, name.c_str(), &found, AT_SYMLINK_NOFOLLOW) == 0 && identityOf(found) == identityOf(expected);
}

Status moveOver(const Move& move) {
  if (move.disk.renameat2(move.fromFolder, move.from.c_str(), move.toFolder, move.to.c_str(), 0) < 0) {
    return failed(move);
  }
  return okStatus();
}

Status moveToAbsent(const Move& move) {
  const char *from = move.from.c_str(), *to = move.to.c_str();
  if (move.disk.renameat2(move.fromFolder, from, move.toFolder, to, RENAME_NOREPLACE) == 0) return okStatus();
  if (!isUnsupported(errno)) return failed(move);
  int unsupported = errno;
  if (linkat(move.fromFolder, from, move.toFolder, to, 0) == 0) {
    unlinkat(move.fromFolder, from, 0);
    return okStatus();
  }
  if (errno == EEXIST) return failed(move);
  // A folder, or a file system without links: the narrowest check there is.
  struct stat status;
  if (fstatat(move.toFolder, to, &status, AT_SYMLINK_NOFOLLOW) == 0) {
    errno = EEXIST;
    return failed(move);
  }
  // A folder into itself is EINVAL as well, and stays so.
  errno = unsupported;
  return moveOver(move);
}

Result<Left> moveOverExpected(const Move& move, const struct stat& expected) {
  const char *from = move.from.c_str(), *to = move.to.c_str();
  Pinned ours(move.fromFolder, move.from);
  if (move.disk.renameat2(move.fromFolder, from, move.toFolder, to, RENAME_EXCHANGE) < 0) {
    if (!isUnsupported(errno)) return failed(move);
    if (!isUnchanged(move.toFolder, move.to, expected)) return conflictAt(move);
    Status moved = moveOver(move);
    if (!moved.ok()) return moved.error();
    return Left::NOTHING;
  }
  if (isUnchanged(move.fromFolder, move.from, expected)) return Left::DISPLACED;
  putBack(move, kj::mv(ours));
  return conflictAt(move);
}

Result<Left> moveAs(const Move& move, const Expectation& expectation, const std::optional<struct stat>& found) {
  if (expectation.kind == Expectation::Kind::VERSION && found) return moveOverExpected(move, *found);
  Status moved = expectation.kind == Expectation::Kind::ABSENT ? moveToAbsent(move) : moveOver(move);
  if (!moved.ok()) return moved.error();
  return Left::NOTHING;
}

Result<std::optional<struct stat>> lookAt(int folder, const std::string& name, const std::string& path) {
  struct stat status;
  if (fstatat(folder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0) return std::optional<struct stat>(status);
  if (errno == ENOENT) return std::optional<struct stat>();
  return errorFromErrno(errno, "cannot look at", path);
}

Result<Entry> entryAt(int folder, const std::string& name, const std::string& path) {
  struct stat status;
  if (fstatat(folder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) {
    return errorFromErrno(errno, "cannot look at", path);
  }
  Entry entry = entryFrom(status);
  entry.path = path;
  if (S_ISLNK(status.st_mode)) {
    char target[PATH_MAX];
    ssize_t length = readlinkat(folder, name.c_str(), target, sizeof(target));
    if (length > 0) entry.target.assign(target, size_t(length));
  }
  return entry;
}

}  // namespace capstan::storage
