#include <capstan/sync/scan-walk.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include <capstan/base/path.h>
#include <capstan/storage/names.h>
#include <capstan/storage/version.h>
#include <capstan/sync/local-folder.h>

namespace capstan::sync {

namespace {

// So many folders on the way down are held open; those further down are opened again on the way up.
constexpr size_t MOST_OPEN = 128;
constexpr int READ_FOLDER = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;

bool isSpecial(mode_t mode) { return !S_ISREG(mode) && !S_ISDIR(mode) && !S_ISLNK(mode); }

}  // namespace

void TreeWalk::below(const std::string& folder) {
  path = folder;
  int error = options.failing ? options.failing(path) : 0;
  kj::AutoCloseFd fd;
  if (error == 0) {
    fd = openBelow(options.root, path, READ_FOLDER);
    error = errno;
  }
  if (fd.get() < 0) return tellUnreadable(error);
  walk(kj::mv(fd), 0);
}

void TreeWalk::tellUnreadable(int error) {
  Seen seen;
  seen.kind = saysAbsent(error) ? Seen::Kind::VANISHED : Seen::Kind::UNREADABLE;
  seen.error = error;
  sink(path, seen);
}

kj::AutoCloseFd TreeWalk::open(int parent, const char* name) {
  if (options.failing) {
    if (int error = options.failing(path)) {
      errno = error;
      return {};
    }
  }
  return kj::AutoCloseFd(openat(parent, name, READ_FOLDER));
}

void TreeWalk::walk(kj::AutoCloseFd folder, size_t depth) {
  auto names = storage::Names::read(folder, path);
  if (!names.ok()) {
    Seen seen;
    seen.kind = Seen::Kind::UNREADABLE;
    seen.error = names.error().code == ErrorCode::DENIED ? EACCES : EIO;
    return sink(path, seen);
  }
  size_t length = path.size();
  Seen seen;
  for (size_t i = 0; i < names->size(); ++i) {
    if (options.cancelled != nullptr && options.cancelled->load(std::memory_order_relaxed)) return;
    std::string_view name = (*names)[i];
    path.resize(length);
    if (length != 0) path += '/';
    path += name;
    Next next = look(folder, name, seen);
    if (next == Next::LEAVE) {
      path.resize(length);
      return tellUnreadable(EACCES);
    }
    if (next == Next::ON) continue;
    // The names are as C strings in memory.
    kj::AutoCloseFd inner = open(folder, name.data());
    if (inner.get() < 0) {
      tellUnreadable(errno);
      continue;
    }
    bool keepsOpen = depth < MOST_OPEN;
    if (!keepsOpen) folder = nullptr;
    walk(kj::mv(inner), depth + 1);
    if (keepsOpen) continue;
    path.resize(length);
    folder = openBelow(options.root, path, READ_FOLDER);
    if (folder.get() < 0) return tellUnreadable(errno);
  }
  path.resize(length);
}

// Tells what is at `path`.
TreeWalk::Next TreeWalk::look(int folder, std::string_view name, Seen& seen) {
  if (path.size() == STATE_FOLDER.size() && path == STATE_FOLDER) return Next::ON;
  seen.kind = Seen::Kind::ENTRY;
  if (fstatat(folder, name.data(), &seen.status, AT_SYMLINK_NOFOLLOW) < 0) {
    // Of a folder that tells its names only, nothing is known.
    if (errno == EACCES) return Next::LEAVE;
    // One that is gone since it was listed is simply not there.
    if (errno != ENOENT) tellUnreadable(errno);
    return Next::ON;
  }
  seen.settled = storage::isSettled(seen.status);
  bool isFolder = S_ISDIR(seen.status.st_mode);
  if (isFolder && options.ignore != nullptr && options.ignore->isIgnored(path, true)) return Next::ON;
  if (isSpecial(seen.status.st_mode) || path.size() > MAX_PATH_BYTES) {
    seen.kind = Seen::Kind::SPECIAL;
    isFolder = false;
  }
  sink(path, seen);
  return isFolder ? Next::ENTER : Next::ON;
}

}  // namespace capstan::sync
