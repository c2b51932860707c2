// The served folder, entered once as a descriptor, and the only way from a path to a descriptor: nothing outside the
// folder is ever reached, whoever moves symlinks about meanwhile. openat2(RESOLVE_BENEATH) where the kernel has it,
// else, and wherever a symlink is on the way, component by component.
#pragma once

#include <sys/stat.h>

#include <memory>
#include <string>
#include <vector>

#include <kj/io.h>

#include <capstan/base/error.h>

namespace capstan::server::files {

enum class Follow { NO, YES };  // of a symlink as last name

// Immutable after construction; thread-safe. Paths are validated here (invalidPath), and the server's own folder is
// notFound, also through a symlink. All methods block, except tryOpenNow.
class Root {
 public:
  static Result<std::unique_ptr<Root>> open(const std::string& folder);
  virtual ~Root() noexcept(false) = default;

  // The root itself. Owned by this object.
  virtual int fd() const = 0;
  // The server's own folder (STATE_FOLDER under the root), made if missing, mode 0700. Owned by this object.
  virtual int stateFd() const = 0;

  // Opens what is at the path with open(2)'s `flags` (O_CLOEXEC is added; never O_CREAT). Follow::NO with O_PATH opens a
  // symlink itself. A file that would block when opened (a pipe) does not: O_NONBLOCK is added.
  virtual Result<kj::AutoCloseFd> open(std::string_view path, int flags, Follow follow) const = 0;

  // The same for O_PATH and O_RDONLY without waiting for the disk (RESOLVE_CACHED): null if it might wait, or if a symlink
  // is on the way; then call open() on the pool. For event loops.
  virtual kj::Maybe<Result<kj::AutoCloseFd>> tryOpenNow(std::string_view path, int flags) const = 0;

  // The folder that holds the path's last name, and that name; for calls that end in "at". "" is invalidPath.
  // makeMissing: makes missing folders on the way (mode 0777 less umask); the topmost folder in which one was made is then to be
  // flushed as well: `toFlush` holds descriptors of the parents of all folders made.
  struct Place {
    kj::AutoCloseFd folder;
    std::string name;
    std::vector<kj::AutoCloseFd> toFlush;
  };
  virtual Result<Place> locate(std::string_view path, bool makeMissing = false) const = 0;

  // fstatat without following the last name.
  virtual Result<struct stat> stat(std::string_view path, Follow follow = Follow::NO) const = 0;
};

}  // namespace capstan::server::files
