#include <capstan/storage/root.h>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include <capstan/base/path.h>
#include <capstan/storage/resolver.h>

namespace capstan::storage {

namespace {

class FolderRoot final : public Root {
 public:
  FolderRoot(kj::AutoCloseFd rootFd, kj::AutoCloseFd stateFd, FileId rootId, FileId stateId, bool byNames)
      : root(kj::mv(rootFd)), state(kj::mv(stateFd)), known{root.get(), rootId, stateId} {
    known.findOut(byNames);
  }

  int fd() const override { return root.get(); }
  int stateFd() const override { return state.get(); }
  bool isState(const struct stat& status) const override { return idOf(status) == known.state; }
  bool reserves(std::string_view path) const override { return isReserved(path); }

  Result<kj::AutoCloseFd> open(std::string_view path, int flags, Follow follow) const override {
    return Resolver(known).open(path, flags, follow);
  }
  kj::Maybe<Result<kj::AutoCloseFd>> tryOpenNow(std::string_view path, int flags) const override {
    return Resolver(known).tryOpenNow(path, flags);
  }
  Result<Place> locate(std::string_view path, bool makeMissing) const override {
    return Resolver(known).locate(path, makeMissing);
  }
  Result<struct stat> stat(std::string_view path, Follow follow) const override {
    return Resolver(known).stat(path, follow);
  }
  Result<std::string> canonical(std::string_view path) const override { return Resolver(known).canonical(path); }

  const ServedRoot& served() const override { return known; }
  const std::string& pathInServed() const override { return nowhere; }

 private:
  // constant after construction
  kj::AutoCloseFd root;
  kj::AutoCloseFd state;
  ServedRoot known;
  const std::string nowhere;  // empty
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
