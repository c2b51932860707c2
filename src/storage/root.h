// The served folder, entered once as a descriptor, and the only way from a path to a descriptor: nothing outside the
// folder is ever reached, whoever moves symlinks about meanwhile. A Root can also stand for a folder in it: beneath.h.
#pragma once

#include <sys/stat.h>

#include <memory>
#include <string>
#include <vector>

#include <kj/io.h>

#include <capstan/base/error.h>

namespace capstan::storage {

// Of symlinks. On the way to the last name they are followed, but for NEVER: there one is as if there was nothing. That
// is for paths that were found rather than given: they name what has no link on its way, or what is not there any more.
enum class Follow { NO, YES, NEVER };

struct ServedRoot;  // resolver.h

// Whether the kernel alone answers for what `fd` holds, as far as it remembers it: fstat does not wait, and reads that
// the page cache serves can be told from others. Not so on FUSE and network file systems. For event loops.
bool answersAtOnce(int fd);

// Immutable after construction; thread-safe. Paths are validated here (invalidPath), and the server's own folder is
// notFound, also through a symlink. All methods block, except tryOpenNow.
class Root {
 public:
  enum class Resolve { FASTEST, BY_NAMES };  // BY_NAMES: as on a kernel without openat2; for tests

  // Opens the folder (and makes its STATE_FOLDER if it is missing). What the folder's path leads to counts, symlinks in
  // it are followed.
  static Result<std::unique_ptr<Root>> open(const std::string& folder, Resolve resolve = Resolve::FASTEST);
  virtual ~Root() noexcept(false) = default;

  // The root itself. Owned by this object. Only of the served folder: one beneath it is another one at each use.
  virtual int fd() const = 0;
  // The server's own folder (STATE_FOLDER under the root), made if missing, mode 0700. Owned by this object. Only of
  // the served folder.
  virtual int stateFd() const = 0;

  // Opens what is at the path with open(2)'s `flags` (O_CLOEXEC is added; never O_CREAT). Follow::NO and NEVER with
  // O_PATH open a symlink itself; without O_PATH a symlink, pipe, socket or device is `unsupported`, and is not opened:
  // opening never blocks, and has no effect on a device.
  virtual Result<kj::AutoCloseFd> open(std::string_view path, int flags, Follow follow) const = 0;

  // The same for O_PATH and O_RDONLY without waiting for the disk (RESOLVE_CACHED): null if it might wait, or if a
  // symlink is on the way (also as last name, unless the flags are O_PATH | O_NOFOLLOW); then call open() on the pool.
  // Never answers on file systems that ask somebody else (FUSE, NFS). For event loops.
  virtual kj::Maybe<Result<kj::AutoCloseFd>> tryOpenNow(std::string_view path, int flags) const = 0;

  // The folder that holds the path's last name (opened for reading, so that it can be flushed), and that name, which
  // may be missing or a symlink; for calls that end in "at". "" is invalidPath. makeMissing: makes missing folders on
  // the way (mode 0777 less umask); `toFlush` then holds the parents of all folders made, in the order of making.
  struct Place {
    kj::AutoCloseFd folder;
    std::string name;
    std::vector<kj::AutoCloseFd> toFlush;
  };
  virtual Result<Place> locate(std::string_view path, bool makeMissing = false) const = 0;

  // Whether this is the server's own folder: for listings, which come upon it by themselves.
  virtual bool isState(const struct stat& status) const = 0;
  // Whether the path names it, or something in it.
  virtual bool reserves(std::string_view path) const = 0;

  // fstat of what open(path, O_PATH, follow) opens.
  virtual Result<struct stat> stat(std::string_view path, Follow follow = Follow::NO) const = 0;

  // The path on which what is at `path` (followed) can be found without a symlink, as things are now.
  virtual Result<std::string> canonical(std::string_view path) const = 0;

  // For Roots beneath this one.
  virtual const ServedRoot& served() const = 0;
  virtual const std::string& pathInServed() const = 0;
};

}  // namespace capstan::storage
