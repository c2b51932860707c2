// Which permission bits somebody may set. Only the owner of a folder gives things away that run as whom they belong to.
#pragma once

#include <sys/stat.h>

namespace capstan::storage {

inline constexpr mode_t SET_ID_BITS = 06000;

struct ModeMask {
  mode_t files = 07777, folders = 07777;

  mode_t of(mode_t mode, bool isFolder) const { return mode & (isFolder ? folders : files); }
  // The owner's is the default.
  static constexpr ModeMask ofOthers() { return {0777, 01777}; }
};

}  // namespace capstan::storage
