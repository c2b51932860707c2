#include <capstan/storage/disk.h>

#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>

#include <capstan/base/file.h>

namespace capstan::storage {

namespace {

constexpr long XFS_MAGIC = 0x58465342;  // not in linux/magic.h
constexpr long TRUSTED[] = {EXT4_SUPER_MAGIC /* ext2 and ext3 too */, XFS_MAGIC, BTRFS_SUPER_MAGIC, F2FS_SUPER_MAGIC};

}  // namespace

int Disk::fsync(int fd) {
  flushCount.fetch_add(1, std::memory_order_relaxed);
  return ::fsync(fd);
}

int Disk::syncfs(int fd) {
  flushCount.fetch_add(1, std::memory_order_relaxed);
  return ::syncfs(fd);
}

int Disk::renameat2(int fromFolder, const char* from, int toFolder, const char* to, unsigned flags) {
  return capstan::renameat2(fromFolder, from, toFolder, to, flags);
}

bool syncfsIsTrusted(int fd) {
  struct statfs status;
  if (fstatfs(fd, &status) < 0) return false;
  return std::find(std::begin(TRUSTED), std::end(TRUSTED), long(status.f_type)) != std::end(TRUSTED);
}

}  // namespace capstan::storage
