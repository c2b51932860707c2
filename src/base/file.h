// Small helpers around descriptors and the file system calls that glibc has no wrapper for. They block.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <string_view>

#include <kj/io.h>

#include <capstan/base/error.h>

namespace capstan {

// Reads up to `size` bytes at `offset`, fewer only at the end of the file; restarts on EINTR. -1 and errno on failure.
ssize_t readAt(int fd, void* buffer, size_t size, uint64_t offset);
// Writes all of it; false and errno on failure.
bool writeAt(int fd, const void* buffer, size_t size, uint64_t offset);
// What the page cache can serve without blocking (preadv2 with RWF_NOWAIT): bytes read, maybe fewer than asked; 0 at
// the end of the file; -1 with EAGAIN if it would block, or EOPNOTSUPP where the file system cannot tell (FUSE).
ssize_t readCachedAt(int fd, void* buffer, size_t size, uint64_t offset);

// A whole small file, or what comes through a pipe that somebody writes to at once (else timedOut). `limit` bounds its
// size (tooLarge).
Result<std::string> readFile(const std::string& path, size_t limit = 1 << 20);
// Writes a file atomically (temporary name beside it, fsync, rename, fsync of the folder), with this mode.
Status writeFileAtomically(const std::string& path, std::string_view content, unsigned mode);

// mkdir -p with mode 0700 for what it makes.
Status makeDirectories(const std::string& path, unsigned mode = 0700);

int renameat2(int fromDir, const char* from, int toDir, const char* to, unsigned flags);

// Nanoseconds since the epoch; the nearest that there is for times before 1678 and after 2262.
inline int64_t toNanoseconds(const timespec& time) {
  int64_t result;
  if (__builtin_mul_overflow(int64_t(time.tv_sec), int64_t(1'000'000'000), &result) ||
      __builtin_add_overflow(result, int64_t(time.tv_nsec), &result)) {
    return time.tv_sec < 0 ? INT64_MIN : INT64_MAX;
  }
  return result;
}
timespec toTimespec(int64_t nanoseconds);

}  // namespace capstan
