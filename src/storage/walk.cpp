#include <capstan/storage/walk.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include <capstan/base/path.h>

namespace capstan::storage {

namespace {

constexpr unsigned MAX_LINKS = 40;  // as the kernel has it
// Names opened in one walk. Only symlinks made to keep a server busy need more than a few thousand.
constexpr unsigned MAX_STEPS = 20'000;

class Walker {
 public:
  Walker(const Ground& ground, std::string_view path, bool followLast, std::vector<kj::AutoCloseFd>* made)
      : ground(ground), path(path), followLast(followLast), made(made) {
    push(path, false);
  }

  Result<Walked> run() {
    while (!pending.empty()) {
      Part part = std::move(pending.back());
      pending.pop_back();
      if (++steps > MAX_STEPS) return tooLong();
      if (part.name.empty() || part.name == ".") continue;
      if (part.name == "..") {
        if (names.empty()) return leadsOut();
        names.pop_back();
        stale = true;
        continue;
      }
      if (auto status = refresh(); !status.ok()) return status.error();
      auto step = take(part);
      if (!step.ok()) return step.error();
      if (*step == Step::ARRIVED) return std::move(result);
    }
    return arriveAtFolder();
  }

 private:
  struct Part {
    std::string name;
    bool fromLink;
  };
  enum class Step { ON, ARRIVED };

  const Ground& ground;
  const std::string_view path;
  const bool followLast;
  std::vector<kj::AutoCloseFd>* const made;

  std::vector<Part> pending;       // names still to walk, the next one last
  std::vector<std::string> names;  // of the folders from the root to `current`, none of them a symlink
  kj::AutoCloseFd current;         // closed: the root
  bool stale = false;              // `names` went up, `current` has still to follow
  unsigned links = 0;
  unsigned steps = 0;
  Walked result;

  Error failed(int number) const { return errorFromErrno(number, "cannot open", path); }
  Error leadsOut() const {
    return errorAt(ErrorCode::INVALID_PATH, path, "",
                   ground.isServed ? " leads out of the served folder through a symlink"
                                   : " leads out of the folder that you were given through a symlink");
  }
  Error tooLong() const { return errorAt(ErrorCode::INVALID_PATH, path, "the symlinks in ", " lead on for too long"); }

  std::string joined() const {
    std::string folder;
    for (auto& name : names) folder = joinPath(folder, name);
    return folder;
  }

  int currentFd() const { return current.get() >= 0 ? current.get() : ground.root; }

  void push(std::string_view names, bool fromLink) {
    auto parts = splitPath(names);
    for (auto part = parts.rbegin(); part != parts.rend(); ++part) pending.push_back({std::string(*part), fromLink});
  }

  // Goes to the folder that `names` says, from the root: what ".." in a moved folder names could lie outside.
  Status refresh() {
    if (!stale) return okStatus();
    stale = false;
    current = nullptr;
    for (auto& name : names) {
      if (++steps > MAX_STEPS) return tooLong();
      kj::AutoCloseFd next(openat(currentFd(), name.c_str(), O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC));
      if (next.get() < 0) return failed(errno);
      current = kj::mv(next);
    }
    return okStatus();
  }

  Result<Step> take(Part& part) {
    if (ground.isServed && names.empty() && part.name == STATE_FOLDER) return failed(ENOENT);
    auto opened = openName(part);
    if (!opened.ok()) return opened.error();
    struct stat status;
    if (fstat(opened->get(), &status) < 0) return failed(errno);
    if (idOf(status) == ground.stateFolder) return failed(ENOENT);
    bool last = pending.empty();
    if (S_ISLNK(status.st_mode) && (!last || followLast)) return expand(opened->get());
    if (last) {
      result = {kj::mv(current), std::move(part.name), std::move(*opened), status, {}};
      result.canonical = joinPath(joined(), result.name);
      if (result.folder.get() < 0) return arriveBelowRoot();
      return Step::ARRIVED;
    }
    if (!S_ISDIR(status.st_mode)) return failed(ENOTDIR);
    current = std::move(*opened);
    names.push_back(std::move(part.name));
    return Step::ON;
  }

  Result<kj::AutoCloseFd> openName(const Part& part) {
    constexpr int FLAGS = O_PATH | O_NOFOLLOW | O_CLOEXEC;
    kj::AutoCloseFd fd(openat(currentFd(), part.name.c_str(), FLAGS));
    if (fd.get() < 0 && errno == ENOENT && made != nullptr && !part.fromLink) {
      if (mkdirat(currentFd(), part.name.c_str(), 0777) == 0) {
        kj::AutoCloseFd parent(openat(currentFd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (parent.get() < 0) return failed(errno);
        made->push_back(kj::mv(parent));
      } else if (errno != EEXIST) {
        return errorFromErrno(errno, "cannot make a folder on the way to", path);
      }
      fd = kj::AutoCloseFd(openat(currentFd(), part.name.c_str(), FLAGS));
    }
    if (fd.get() < 0) return failed(errno);
    return kj::mv(fd);
  }

  Result<Step> expand(int link) {
    if (++links > MAX_LINKS) return failed(ELOOP);
    char target[MAX_PATH_BYTES + 1];
    ssize_t size = readlinkat(link, "", target, sizeof(target));
    if (size < 0) return failed(errno);
    if (size == 0) return failed(ENOENT);
    if (target[0] == '/') return leadsOut();
    push(std::string_view(target, size_t(size)), true);
    return Step::ON;
  }

  Result<Step> arriveBelowRoot() {
    result.folder = kj::AutoCloseFd(fcntl(ground.root, F_DUPFD_CLOEXEC, 0));
    if (result.folder.get() < 0) return failed(errno);
    return Step::ARRIVED;
  }

  Result<Walked> arriveAtFolder() {
    if (auto status = refresh(); !status.ok()) return status.error();
    result.name = ".";
    result.canonical = joined();
    for (auto* fd : {&result.folder, &result.target}) {
      *fd = kj::AutoCloseFd(openat(currentFd(), ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
      if (fd->get() < 0) return failed(errno);
    }
    if (fstat(result.target.get(), &result.status) < 0) return failed(errno);
    return std::move(result);
  }
};

}  // namespace

Result<Walked> walk(const Ground& ground, std::string_view path, bool followLast, std::vector<kj::AutoCloseFd>* made) {
  return Walker(ground, path, followLast, made).run();
}

Result<kj::AutoCloseFd> walkPlain(const Ground& ground, std::string_view path) {
  constexpr int FLAGS = O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC;
  kj::AutoCloseFd current(openat(ground.root, ".", FLAGS));
  for (std::string_view name : splitPath(path)) {
    if (current.get() < 0) break;
    current = kj::AutoCloseFd(openat(current, std::string(name).c_str(), FLAGS));
    struct stat status;
    bool isState = current.get() >= 0 && fstat(current, &status) == 0 && idOf(status) == ground.stateFolder;
    if (isState) return errorFromErrno(ENOENT, "cannot open", path);
  }
  if (current.get() < 0) return errorFromErrno(errno, "cannot open", path);
  return kj::mv(current);
}

}  // namespace capstan::storage
