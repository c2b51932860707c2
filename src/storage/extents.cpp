#include <capstan/storage/extents.h>

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace capstan::storage {

namespace {

// Pieces of data and small holes looked at in one go, so that a file made of nothing else does not keep a thread.
constexpr unsigned MAX_PIECES = 1024;

// The next data or hole at or after the position; `end` if there is none; the position itself if nobody can tell.
uint64_t seek(int fd, uint64_t position, uint64_t end, int what) {
  off_t found = lseek(fd, off_t(position), what);
  if (found >= 0) return std::min(uint64_t(found), end);
  return errno == ENXIO ? end : position;
}

}  // namespace

Extent extentAt(int fd, uint64_t position, uint64_t end) {
  Extent extent;
  uint64_t data = seek(fd, position, end, SEEK_DATA);
  if (data - position >= MIN_HOLE_BYTES || data == end) {
    extent.hole = data - position;
    position = data;
  }
  extent.dataEnd = std::max(data, position);
  for (unsigned i = 0; i < MAX_PIECES && extent.dataEnd < end; ++i) {
    uint64_t hole = seek(fd, extent.dataEnd, end, SEEK_HOLE);
    if (hole == extent.dataEnd) {  // cannot tell
      extent.dataEnd = end;
      break;
    }
    uint64_t next = seek(fd, hole, end, SEEK_DATA);
    extent.dataEnd = hole;
    if (hole == end || next - hole >= MIN_HOLE_BYTES || next == end) break;
    extent.dataEnd = next;
  }
  return extent;
}

}  // namespace capstan::storage
