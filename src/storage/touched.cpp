#include <capstan/storage/touched.h>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace capstan::storage {

Touched::Touched(Disk& disk, int anyFd, bool trusted) : disk(disk), anyFd(anyFd), trusted(trusted) {
  struct stat status;
  if (fstat(anyFd, &status) == 0) device = status.st_dev;
}

size_t Touched::add(kj::AutoCloseFd fd, bool wholeFileSystem) {
  struct stat status {};
  fstat(fd, &status);
  if (trusted && waiting.size() >= MAX_HELD && status.st_dev == device) {
    if (!rest) {
      rest = errors.size();
      errors.push_back(0);
    }
    return *rest;
  }
  Key key{status.st_dev, wholeFileSystem ? 0 : status.st_ino, wholeFileSystem};
  auto [found, isNew] = numbers.try_emplace(key, errors.size());
  if (isNew) {
    errors.push_back(0);
    waiting.push_back({kj::mv(fd), wholeFileSystem, status.st_dev == device, found->second});
  }
  return found->second;
}

void Touched::flush() {
  auto coverable = [](const Waiting& item) { return item.sameFileSystem; };
  size_t together = size_t(std::count_if(waiting.begin(), waiting.end(), coverable));
  // When it fails, single flushes tell whose fault it was.
  bool covered = trusted && together >= SYNCFS_THRESHOLD && disk.syncfs(anyFd) == 0;
  for (auto& item : waiting) {
    if (covered && item.sameFileSystem) continue;
    int result = item.wholeFileSystem ? disk.syncfs(item.fd) : disk.fsync(item.fd);
    // Some file systems cannot flush a folder, and say so: then there is nothing to flush.
    if (result < 0 && errno != EINVAL) errors[item.number] = errno;
  }
  if (rest && !covered) errors[*rest] = EIO;
  rest.reset();
  waiting.clear();
  numbers.clear();
}

}  // namespace capstan::storage
