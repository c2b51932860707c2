// The system calls whose order durability rests on (flushes and renames), behind one seam, and counted. Tests put a
// recording or failing Disk in its place; everything else that the server does with files goes to the kernel directly.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>

namespace capstan::storage {

// Thread-safe. Each call answers as the system call of its name does: 0, or -1 and errno.
class Disk {
 public:
  virtual ~Disk() noexcept(false) = default;

  virtual int fsync(int fd);
  virtual int syncfs(int fd);
  virtual int renameat2(int fromFolder, const char* from, int toFolder, const char* to, unsigned flags);

  // Flushes made through this object so far.
  uint64_t flushes() const { return flushCount.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> flushCount{0};
};

// Whether syncfs() on this file system is known to write everything and to report what could not be written.
bool syncfsIsTrusted(int fd);

}  // namespace capstan::storage
