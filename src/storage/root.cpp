#include <capstan/storage/root.h>

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include <capstan/base/path.h>
#include <capstan/storage/walk.h>

namespace capstan::storage {

namespace {

constexpr uint64_t BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
// A mount below the root may be of another kind than the root's, one that makes its callers wait.
constexpr uint64_t BENEATH_NOW = BENEATH | RESOLVE_NO_XDEV | RESOLVE_CACHED;
// Descriptors are opened below the root only, and only as what they are.
constexpr int ALWAYS = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

int openat2(int folder, const char* path, int flags, uint64_t resolve) {
  // openat2 refuses, where openat ignores, flags that mean nothing for O_PATH.
  if (flags & O_PATH) flags &= O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC;
  open_how how{};
  how.flags = uint64_t(unsigned(flags));
  how.resolve = resolve;
  return int(syscall(SYS_openat2, folder, path, &how, sizeof(how)));
}

bool supports(int folder, uint64_t resolve) {
  kj::AutoCloseFd fd(openat2(folder, ".", O_PATH | O_CLOEXEC, resolve));
  return fd.get() >= 0 || errno == EAGAIN;
}

std::string upperCase(std::string_view name) {
  std::string result(name);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? char(c - 32) : c; });
  return result;
}

// Ok if what `fd` (O_PATH) holds can be opened in earnest: by reading or writing, or as a folder.
Status checkType(const struct stat& status, int flags, std::string_view path) {
  if (S_ISDIR(status.st_mode)) return okStatus();
  if (flags & O_DIRECTORY) return errorAt(ErrorCode::NOT_DIRECTORY, path, "", " is not a folder");
  if (S_ISREG(status.st_mode) || (flags & O_PATH)) return okStatus();
  bool link = S_ISLNK(status.st_mode);
  return errorAt(ErrorCode::UNSUPPORTED, path, "", link ? " is a symlink" : " is a device, socket or pipe, not a file");
}

// errno values with which openat2 says "not this way" rather than what the answer is: a symlink, a path of exactly
// 4,096 bytes, a mount, a wait.
bool isUndecided(int number) {
  return number == ELOOP || number == ENAMETOOLONG || number == EXDEV || number == EAGAIN;
}

class FolderRoot final : public Root {
 public:
  FolderRoot(kj::AutoCloseFd rootFd, kj::AutoCloseFd stateFd, FileId rootId, FileId stateId, bool byNames)
      : root(kj::mv(rootFd)), state(kj::mv(stateFd)), rootId(rootId), ground{root.get(), stateId} {
    foldsCase = seesStateIn(root, upperCase(STATE_FOLDER));
    beneath = !byNames && !foldsCase && supports(root, BENEATH);
    now = beneath && answersAtOnce(root) && supports(root, BENEATH_NOW);
  }

  int fd() const override { return root.get(); }
  int stateFd() const override { return state.get(); }
  bool isState(const struct stat& status) const override { return idOf(status) == ground.stateFolder; }

  Result<kj::AutoCloseFd> open(std::string_view path, int flags, Follow follow) const override {
    if (auto status = check(path); !status.ok()) return status.error();
    flags |= ALWAYS;
    if (follow == Follow::NO) flags |= O_NOFOLLOW;
    if (beneath) {
      KJ_IF_MAYBE (opened, openWith(BENEATH, path, flags)) return std::move(*opened);
    }
    auto walked = walk(ground, path, follow == Follow::YES, nullptr);
    if (!walked.ok()) return walked.error();
    return openWalked(*walked, path, flags);
  }

  kj::Maybe<Result<kj::AutoCloseFd>> tryOpenNow(std::string_view path, int flags) const override {
    if (!now) return nullptr;
    if (auto status = check(path); !status.ok()) return Result<kj::AutoCloseFd>(status.error());
    return openWith(BENEATH_NOW, path, flags | ALWAYS);
  }

  Result<Place> locate(std::string_view path, bool makeMissing) const override {
    if (auto status = check(path); !status.ok()) return status.error();
    if (path.empty()) {
      return Error{ErrorCode::INVALID_PATH, "the served folder itself cannot be made, replaced, moved or removed", {}};
    }
    Place place{nullptr, std::string(baseNameOf(path)), {}};
    std::string_view parent = parentOf(path);
    auto folder = openFolder(parent, makeMissing ? &place.toFlush : nullptr);
    if (!folder.ok()) return Error{folder.error().code, folder.error().message, std::string(path)};
    place.folder = std::move(*folder);
    // A symlink may have led back to the root, where one name is the server's.
    struct stat status;
    if (fstat(place.folder, &status) < 0) return errorFromErrno(errno, "cannot open", parent);
    bool reserved =
        idOf(status) == rootId && (place.name == STATE_FOLDER || (foldsCase && seesStateIn(place.folder, place.name)));
    if (reserved) return errorFromErrno(ENOENT, "cannot open", path);
    return place;
  }

  Result<struct stat> stat(std::string_view path, Follow follow) const override {
    auto opened = open(path, O_PATH, follow);
    if (!opened.ok()) return opened.error();
    struct stat status;
    if (fstat(opened->get(), &status) < 0) return errorFromErrno(errno, "cannot look at", path);
    return status;
  }

 private:
  // constant after construction
  kj::AutoCloseFd root;
  kj::AutoCloseFd state;
  FileId rootId;
  Ground ground;
  // Names that differ in case (or, with Unicode, in worse) may be one: only inodes tell what is the state folder.
  bool foldsCase = false;
  bool beneath = false;  // openat2 decides where it can
  bool now = false;      // tryOpenNow can

  static Status check(std::string_view path) {
    if (auto status = validatePath(path); !status.ok()) return status;
    if (isReserved(path)) return errorFromErrno(ENOENT, "cannot open", path);
    return okStatus();
  }

  bool seesStateIn(int folder, const std::string& name) const {
    struct stat status;
    return fstatat(folder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && idOf(status) == ground.stateFolder;
  }

  // Nothing if this way cannot tell.
  static kj::Maybe<Result<kj::AutoCloseFd>> failure(int number, std::string_view path) {
    if (isUndecided(number)) return nullptr;
    return Result<kj::AutoCloseFd>(errorFromErrno(number, "cannot open", path));
  }

  kj::Maybe<Result<kj::AutoCloseFd>> openWith(uint64_t resolve, std::string_view path, int flags) const {
    std::string name(path.empty() ? std::string_view(".") : path);
    if (!(flags & (O_PATH | O_DIRECTORY))) {
      kj::AutoCloseFd found(openat2(root, name.c_str(), O_PATH | O_CLOEXEC | (flags & O_NOFOLLOW), resolve));
      struct stat status;
      if (found.get() < 0 || fstat(found, &status) < 0) return failure(errno, path);
      if (auto ok = checkType(status, flags, path); !ok.ok()) return Result<kj::AutoCloseFd>(ok.error());
    }
    kj::AutoCloseFd fd(openat2(root, name.c_str(), flags, resolve));
    if (fd.get() < 0) return failure(errno, path);
    return Result<kj::AutoCloseFd>(kj::mv(fd));
  }

  static Result<kj::AutoCloseFd> openWalked(Walked& walked, std::string_view path, int flags) {
    if (auto ok = checkType(walked.status, flags, path); !ok.ok()) return ok.error();
    if (flags & O_PATH) return kj::mv(walked.target);
    // The walk has followed what was to be followed: a symlink here now was put there just now.
    kj::AutoCloseFd fd(openat(walked.folder, walked.name.c_str(), flags | O_NOFOLLOW));
    if (fd.get() < 0) return errorFromErrno(errno, "cannot open", path);
    return kj::mv(fd);
  }

  Result<kj::AutoCloseFd> openFolder(std::string_view path, std::vector<kj::AutoCloseFd>* made) const {
    constexpr int FLAGS = O_RDONLY | O_DIRECTORY;
    auto opened = open(path, FLAGS, Follow::YES);
    if (opened.ok() || made == nullptr || opened.error().code != ErrorCode::NOT_FOUND) return opened;
    auto walked = walk(ground, path, true, made);
    if (!walked.ok()) return walked.error();
    return openWalked(*walked, path, FLAGS | ALWAYS);
  }
};

Result<kj::AutoCloseFd> openState(int root, const std::string& folder) {
  const std::string name(STATE_FOLDER);
  if (mkdirat(root, name.c_str(), 0700) < 0 && errno != EEXIST) {
    return errorFromErrno(errno, "cannot make the server's own folder", joinPath(folder, name));
  }
  kj::AutoCloseFd state(openat(root, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (state.get() < 0) return errorFromErrno(errno, "cannot open the server's own folder", joinPath(folder, name));
  return kj::mv(state);
}

}  // namespace

bool answersAtOnce(int fd) {
  constexpr std::array<uint64_t, 6> LOCAL{EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC,
                                          F2FS_SUPER_MAGIC, TMPFS_MAGIC,     OVERLAYFS_SUPER_MAGIC};
  struct statfs status;
  return fstatfs(fd, &status) == 0 && std::find(LOCAL.begin(), LOCAL.end(), uint64_t(status.f_type)) != LOCAL.end();
}

Result<std::unique_ptr<Root>> Root::open(const std::string& folder, Resolve resolve) {
  kj::AutoCloseFd root(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (root.get() < 0) return errorFromErrno(errno, "cannot serve", folder);
  auto state = openState(root, folder);
  if (!state.ok()) return state.error();
  struct stat rootStatus, stateStatus;
  if (fstat(root, &rootStatus) < 0 || fstat(*state, &stateStatus) < 0) {
    return errorFromErrno(errno, "cannot serve", folder);
  }
  return std::unique_ptr<Root>(std::make_unique<FolderRoot>(kj::mv(root), std::move(*state), idOf(rootStatus),
                                                            idOf(stateStatus), resolve == Resolve::BY_NAMES));
}

}  // namespace capstan::storage
