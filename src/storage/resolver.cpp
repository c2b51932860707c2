#include <capstan/storage/resolver.h>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include <capstan/base/path.h>

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

Result<kj::AutoCloseFd> openWalked(Walked& walked, std::string_view path, int flags) {
  if (auto ok = checkType(walked.status, flags, path); !ok.ok()) return ok.error();
  if (flags & O_PATH) return kj::mv(walked.target);
  // The walk has followed what was to be followed: a symlink here now was put there just now.
  kj::AutoCloseFd fd(openat(walked.folder, walked.name.c_str(), flags | O_NOFOLLOW));
  if (fd.get() < 0) return errorFromErrno(errno, "cannot open", path);
  return kj::mv(fd);
}

// Nothing if this way cannot tell.
kj::Maybe<Result<kj::AutoCloseFd>> failure(int number, std::string_view path) {
  if (isUndecided(number)) return nullptr;
  return Result<kj::AutoCloseFd>(errorFromErrno(number, "cannot open", path));
}

bool seesIn(int folder, const std::string& name, const FileId& what) {
  struct stat status;
  return fstatat(folder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && idOf(status) == what;
}

}  // namespace

void ServedRoot::findOut(bool byNames) {
  foldsCase = seesIn(fd, upperCase(STATE_FOLDER), state);
  beneath = !byNames && !foldsCase && supports(fd, BENEATH);
  now = beneath && answersAtOnce(fd) && supports(fd, BENEATH_NOW);
}

Status Resolver::check(std::string_view path) const {
  if (auto status = validatePath(path); !status.ok()) return status;
  if (isServed && isReserved(path)) return errorFromErrno(ENOENT, "cannot open", path);
  return okStatus();
}

Result<kj::AutoCloseFd> Resolver::open(std::string_view path, int flags, Follow follow) const {
  if (auto status = check(path); !status.ok()) return status.error();
  flags |= ALWAYS;
  if (follow != Follow::YES) flags |= O_NOFOLLOW;
  if (served.beneath) {
    KJ_IF_MAYBE (opened, openWith(BENEATH, path, flags)) return std::move(*opened);
  }
  auto walked = walkTo(path, follow);
  if (!walked.ok()) return walked.error();
  return openWalked(*walked, path, flags);
}

Result<Walked> Resolver::walkTo(std::string_view path, Follow follow) const {
  std::string_view parent = parentOf(path);
  if (follow != Follow::NEVER || parent.empty()) return walk(ground(), path, follow == Follow::YES, nullptr);
  auto folder = walkPlain(ground(), parent);
  if (!folder.ok()) return Error{folder.error().code, folder.error().message, std::string(path)};
  return walk({*folder, served.state, false}, baseNameOf(path), false, nullptr);
}

kj::Maybe<Result<kj::AutoCloseFd>> Resolver::tryOpenNow(std::string_view path, int flags) const {
  if (!served.now) return nullptr;
  if (auto status = check(path); !status.ok()) return Result<kj::AutoCloseFd>(status.error());
  return openWith(BENEATH_NOW, path, flags | ALWAYS);
}

Result<Root::Place> Resolver::locate(std::string_view path, bool makeMissing) const {
  if (auto status = check(path); !status.ok()) return status.error();
  if (path.empty()) {
    return Error{ErrorCode::INVALID_PATH, "the served folder itself cannot be made, replaced, moved or removed", {}};
  }
  Root::Place place{nullptr, std::string(baseNameOf(path)), {}};
  std::string_view parent = parentOf(path);
  auto opened = openFolder(parent, makeMissing ? &place.toFlush : nullptr);
  if (!opened.ok()) return Error{opened.error().code, opened.error().message, std::string(path)};
  place.folder = std::move(*opened);
  // A symlink may have led back to the root, where one name is the server's.
  struct stat status;
  if (fstat(place.folder, &status) < 0) return errorFromErrno(errno, "cannot open", parent);
  bool reserved = idOf(status) == served.id &&
                  (place.name == STATE_FOLDER || (served.foldsCase && seesIn(place.folder, place.name, served.state)));
  if (reserved) return errorFromErrno(ENOENT, "cannot open", path);
  return place;
}

Result<struct stat> Resolver::stat(std::string_view path, Follow follow) const {
  auto opened = open(path, O_PATH, follow);
  if (!opened.ok()) return opened.error();
  struct stat status;
  if (fstat(opened->get(), &status) < 0) return errorFromErrno(errno, "cannot look at", path);
  return status;
}

Result<std::string> Resolver::canonical(std::string_view path) const {
  if (auto status = check(path); !status.ok()) return status.error();
  auto walked = walk(ground(), path, true, nullptr);
  if (!walked.ok()) return walked.error();
  return std::move(walked->canonical);
}

Result<kj::AutoCloseFd> Resolver::openPlain(std::string_view path) const {
  if (auto status = check(path); !status.ok()) return status.error();
  if (served.beneath) {
    KJ_IF_MAYBE (opened, openWith(BENEATH, path, O_PATH | O_DIRECTORY | ALWAYS)) return std::move(*opened);
  }
  return walkPlain(ground(), path);
}

kj::Maybe<Result<kj::AutoCloseFd>> Resolver::tryOpenPlainNow(std::string_view path) const {
  return tryOpenNow(path, O_PATH | O_DIRECTORY);
}

kj::Maybe<Result<kj::AutoCloseFd>> Resolver::openWith(uint64_t resolve, std::string_view path, int flags) const {
  std::string name(path.empty() ? std::string_view(".") : path);
  if (!(flags & (O_PATH | O_DIRECTORY))) {
    kj::AutoCloseFd found(openat2(folder, name.c_str(), O_PATH | O_CLOEXEC | (flags & O_NOFOLLOW), resolve));
    struct stat status;
    if (found.get() < 0 || fstat(found, &status) < 0) return failure(errno, path);
    if (auto ok = checkType(status, flags, path); !ok.ok()) return Result<kj::AutoCloseFd>(ok.error());
  }
  kj::AutoCloseFd fd(openat2(folder, name.c_str(), flags, resolve));
  if (fd.get() < 0) return failure(errno, path);
  return Result<kj::AutoCloseFd>(kj::mv(fd));
}

Result<kj::AutoCloseFd> Resolver::openFolder(std::string_view path, std::vector<kj::AutoCloseFd>* made) const {
  constexpr int FLAGS = O_RDONLY | O_DIRECTORY;
  auto opened = open(path, FLAGS, Follow::YES);
  if (opened.ok() || made == nullptr || opened.error().code != ErrorCode::NOT_FOUND) return opened;
  auto walked = walk(ground(), path, true, made);
  if (!walked.ok()) return walked.error();
  return openWalked(*walked, path, FLAGS | ALWAYS);
}

}  // namespace capstan::storage
