// Where a sparse file has data, and where it has holes worth skipping.
#pragma once

#include <sys/stat.h>

#include <cstdint>

namespace capstan::storage {

inline constexpr uint64_t MIN_HOLE_BYTES = 64 << 10;  // a smaller hole is read like data

// Whether the file has fewer blocks than its size needs: only then holes are worth looking for.
inline bool mayHaveHoles(const struct stat& status) {
  return uint64_t(status.st_blocks) * 512 < uint64_t(status.st_size);
}

// From a position on: `hole` bytes that are zero (0, or at least MIN_HOLE_BYTES), then data up to `dataEnd`.
struct Extent {
  uint64_t hole = 0;
  uint64_t dataEnd = 0;
};

// Of [position, end). Where the file system cannot tell, all is data. May wait for the disk.
Extent extentAt(int fd, uint64_t position, uint64_t end);

}  // namespace capstan::storage
