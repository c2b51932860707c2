// Which permission bits somebody may set. Only the owner of a folder gives things away that run as whom they belong to.
#pragma once

#include <sys/stat.h>

#include <cerrno>
#include <string_view>

#include <capstan/base/error.h>

namespace capstan::storage {

inline constexpr mode_t SET_ID_BITS = 06000;

struct ModeMask {
  mode_t files = 07777, folders = 07777;

  mode_t of(mode_t mode, bool isFolder) const { return mode & (isFolder ? folders : files); }
  // The owner's is the default.
  static constexpr ModeMask ofOthers() { return {0777, 01777}; }
};

// errorFromErrno() for a file or folder of our own that does not take this mode: then it is not its permissions that
// are in the way.
inline Error cannotSetMode(int number, mode_t mode, std::string_view doing, std::string_view path = {}) {
  if (number != EPERM || (mode & SET_ID_BITS) == 0) return errorFromErrno(number, doing, path);
  Error error = errorFromErrno(number, doing, path);
  error.message = error.message.substr(0, error.message.rfind(": ")) +
                  ": its setuid or setgid bit is refused, as a service's unit does (RestrictSUIDSGID=); "
                  "send it without: chmod ug-s";
  return error;
}

}  // namespace capstan::storage
