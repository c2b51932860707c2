#include <capstan/storage/copy-tree.h>

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>

#include <capstan/base/file.h>
#include <capstan/base/path.h>
#include <capstan/base/saturating.h>
#include <capstan/storage/displace.h>
#include <capstan/storage/mutations.h>
#include <capstan/storage/usage.h>

namespace capstan::storage {

namespace {

constexpr mode_t PERMISSIONS = 07777;
constexpr std::chrono::milliseconds SLICE(50);
constexpr off_t FLUSHED_AT_ONCE = 256 << 10;  // larger files are, by whoever copies
constexpr int OPEN_FOLDER = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr int OPEN_FILE = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;

// Component by component, so that neither a symlink nor a long path matters.
kj::AutoCloseFd openBelow(int top, const std::string& path) {
  kj::AutoCloseFd current(openat(top, ".", OPEN_FOLDER));
  for (std::string_view name : splitPath(path)) {
    if (current.get() < 0) break;
    current = kj::AutoCloseFd(openat(current, std::string(name).c_str(), OPEN_FOLDER));
  }
  return current;
}

// False and errno on failure: an error must not look like the end of the folder.
bool readNames(int folder, std::vector<std::string>& names) {
  DIR* dir = fdopendir(openat(folder, ".", OPEN_FOLDER));
  if (dir == nullptr) return false;
  KJ_DEFER(closedir(dir));
  while (true) {
    errno = 0;
    dirent* entry = readdir(dir);
    if (entry == nullptr) return errno == 0;
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
}

void keepTimes(const struct stat& status, timespec (&times)[2]) {
  times[0] = {0, UTIME_OMIT};
  times[1] = status.st_mtim;
}

}  // namespace

TreeCopy::TreeCopy(const Root& root, Staging& staging, Disk& disk, CopyOptions options)
    : root(root),
      staging(staging),
      hold(staging.hold()),
      disk(disk),
      options(std::move(options)),
      stagedName(staging.newName()) {}

TreeCopy::~TreeCopy() {
  if (staged && !placed) staging.deleteSoon(stagedName);
}

Error TreeCopy::failed(const std::string& path) const { return errorFromErrno(errno, "cannot copy", path); }

std::string TreeCopy::shown(const std::string& name) const {
  std::string folder = next == 0 ? std::string() : folders[next - 1].path;
  return joinPath(options.from, joinPath(folder, name));
}

Result<bool> TreeCopy::step() {
  auto deadline = std::chrono::steady_clock::now() + SLICE;
  if (!begun) {
    begun = true;
    Status status = begin();
    if (!status.ok()) return status.error();
  }
  do {
    auto done = advance();
    if (!done.ok() || *done) return done;
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

Status TreeCopy::begin() {
  if (options.from.empty()) {
    return errorAt(ErrorCode::INVALID_ARGUMENT, options.from, "", " cannot be copied into itself");
  }
  auto place = root.locate(options.from);
  if (!place.ok()) return place.error();
  auto found = lookAt(place->folder, place->name, options.from);
  if (!found.ok()) return found.error();
  Status held = checkExpectation(options.fromExpectation, *found, options.from);
  if (!held.ok()) return held;
  if (!*found) return errorAt(ErrorCode::NOT_FOUND, options.from, "there is no file or folder ");
  top = **found;
  if (options.from == options.to || (S_ISDIR(top.st_mode) && isWithin(options.to, options.from))) {
    return errorAt(ErrorCode::INVALID_ARGUMENT, options.from, "", " cannot be copied into itself");
  }
  if (options.noFolders && S_ISDIR(top.st_mode)) {
    return errorAt(ErrorCode::IS_DIRECTORY, options.from, "", " is a folder, and a batch copies only files");
  }
  if (S_ISLNK(top.st_mode)) {
    staged = true;
    content = LEAST_CHARGE;
    return copySymlink(place->folder, place->name, staging.fd(), stagedName, top);
  }
  if (S_ISREG(top.st_mode)) return beginFile(*place);
  if (!S_ISDIR(top.st_mode)) {
    return errorAt(ErrorCode::UNSUPPORTED, options.from, "", " is a device, socket or pipe, and cannot be copied");
  }
  // A target that is there is refused at the end; so much work is better refused at once.
  if (root.stat(options.to).ok()) return errorAt(ErrorCode::EXISTS, options.to, "", " is there already");
  source = kj::AutoCloseFd(openat(place->folder, place->name.c_str(), OPEN_FOLDER));
  if (source.get() < 0 || mkdirat(staging.fd(), stagedName.c_str(), 0700) < 0) return failed(options.from);
  staged = true;
  if (syncfsIsTrusted(staging.fd())) {
    flushFd = kj::AutoCloseFd(openat(staging.fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    together = flushFd.get() >= 0;
  }
  content = LEAST_CHARGE;
  folders.push_back({"", top});
  unfinished = 1;
  return okStatus();
}

Status TreeCopy::beginFile(const Root::Place& place) {
  kj::AutoCloseFd from(openat(place.folder, place.name.c_str(), OPEN_FILE));
  if (from.get() < 0 || fstat(from, &fileStatus) < 0) return failed(options.from);
  if (!isSameFile(fileStatus, top)) return checkSource();
  if (uint64_t(fileStatus.st_size) > options.maxBytes) {
    return errorAt(ErrorCode::CONFLICT, options.from, "",
                   " has changed by now, and is too large to be copied while everybody waits; copy it once more");
  }
  content = chargeOf(fileStatus);
  kj::AutoCloseFd to(openat(staging.fd(), stagedName.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (to.get() < 0) return failed(options.from);
  staged = true;
  source = kj::AutoCloseFd(dup(from));
  file = std::make_unique<FileCopy>(kj::mv(from), kj::mv(to), options.from);
  return okStatus();
}

Status TreeCopy::copySymlink(int fromFolder, const std::string& from, int toFolder, const std::string& to,
                             const struct stat& status) const {
  char target[PATH_MAX + 1];
  ssize_t length = readlinkat(fromFolder, from.c_str(), target, PATH_MAX);
  if (length < 0) return failed(options.from);
  target[length] = '\0';
  timespec times[2];
  keepTimes(status, times);
  if (folders.empty() && options.attributes.mtime) times[1] = toTimespec(*options.attributes.mtime);
  if (symlinkat(target, toFolder, to.c_str()) < 0 || utimensat(toFolder, to.c_str(), times, AT_SYMLINK_NOFOLLOW) < 0) {
    return failed(options.from);
  }
  return okStatus();
}

Result<bool> TreeCopy::advance() {
  if (file != nullptr) {
    auto copied = file->step();
    if (!copied.ok()) return copied.error();
    return *copied ? finishFile() : false;
  }
  if (folders.empty()) return true;  // a symlink
  Status status = !names.empty() ? nextEntry() : next < folders.size() ? nextFolder() : finishFolder();
  if (!status.ok()) return status.error();
  if (unfinished > 0) return false;
  if (together && disk.syncfs(flushFd) < 0) return failed(options.from);
  return true;
}

Result<bool> TreeCopy::finishFile() {
  timespec times[2];
  keepTimes(fileStatus, times);
  mode_t mode = fileStatus.st_mode & PERMISSIONS;
  if (folders.empty()) {
    mode = options.attributes.mode.value_or(mode);
    if (options.attributes.mtime) times[1] = toTimespec(*options.attributes.mtime);
  }
  mode = options.modes.of(mode, false);
  int to = file->to();
  if (fchmod(to, mode) < 0 || futimens(to, times) < 0) return failed(options.from);
  // One that its owner may not read could not be opened again.
  unflushed = options.flushLater && folders.empty() && fileStatus.st_size <= FLUSHED_AT_ONCE && (mode & 0400) != 0;
  if (!together && !unflushed && disk.fsync(to) < 0) return failed(options.from);
  file = nullptr;
  if (!folders.empty()) return false;
  Status same = checkSource();
  source = nullptr;
  if (!same.ok()) return same.error();
  return true;
}

Status TreeCopy::flush() {
  kj::AutoCloseFd fd(openat(staging.fd(), stagedName.c_str(), OPEN_FILE));
  if (fd.get() < 0 || disk.fsync(fd) < 0) return failed(options.from);
  unflushed = false;
  return okStatus();
}

// A file that was to be copied in one version must not have changed meanwhile.
Status TreeCopy::checkSource() const {
  if (options.fromExpectation.kind != Expectation::Kind::VERSION) return okStatus();
  struct stat now;
  if (source.get() >= 0 && fstat(source, &now) == 0 && versionOf(now) == versionOf(top)) return okStatus();
  return errorAt(ErrorCode::CONFLICT, options.from, "", " changed while it was being copied");
}

Status TreeCopy::nextFolder() {
  const Folder& folder = folders[next++];
  fromFolder = openBelow(source, folder.path);
  if (fromFolder.get() < 0) return failed(shown(""));
  kj::AutoCloseFd target(openat(staging.fd(), stagedName.c_str(), OPEN_FOLDER));
  toFolder = openBelow(target, folder.path);
  if (toFolder.get() < 0) return failed(shown(""));
  return readNames(fromFolder, names) ? okStatus() : Status(failed(shown("")));
}

Status TreeCopy::nextEntry() {
  std::string name = std::move(names.back());
  names.pop_back();
  struct stat status;
  if (fstatat(fromFolder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) {
    return errno == ENOENT ? okStatus() : Status(failed(shown(name)));
  }
  content = saturatingSum(content, chargeOf(status));
  if (S_ISLNK(status.st_mode)) return copySymlink(fromFolder, name, toFolder, name, status);
  if (S_ISDIR(status.st_mode)) {
    if (root.isState(status)) return okStatus();
    if (mkdirat(toFolder, name.c_str(), 0700) < 0) return failed(shown(name));
    folders.push_back({joinPath(folders[next - 1].path, name), status});
    ++unfinished;
    return okStatus();
  }
  if (!S_ISREG(status.st_mode)) {
    return errorAt(ErrorCode::UNSUPPORTED, shown(name), "", " is a device, socket or pipe, and cannot be copied");
  }
  kj::AutoCloseFd from(openat(fromFolder, name.c_str(), OPEN_FILE));
  if (from.get() < 0) return errno == ENOENT ? okStatus() : Status(failed(shown(name)));
  if (fstat(from, &fileStatus) < 0) return failed(shown(name));
  kj::AutoCloseFd to(openat(toFolder, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (to.get() < 0) return failed(shown(name));
  file = std::make_unique<FileCopy>(kj::mv(from), kj::mv(to), shown(name));
  return okStatus();
}

// Mode and time of a folder, once everything in it is there. From the last to the first: inner ones before outer ones.
Status TreeCopy::finishFolder() {
  const Folder& folder = folders[--unfinished];
  kj::AutoCloseFd target(openat(staging.fd(), stagedName.c_str(), OPEN_FOLDER));
  kj::AutoCloseFd fd = openBelow(target, folder.path);
  timespec times[2];
  keepTimes(folder.status, times);
  mode_t mode = options.modes.of(folder.status.st_mode & PERMISSIONS, true);
  // Without the right to write into it, the top could not be renamed; CopyPlacement takes it back.
  if (unfinished == 0) mode |= 0700;
  if (fd.get() < 0 || fchmod(fd, mode) < 0 || futimens(fd, times) < 0) return failed(options.from);
  if (!together && disk.fsync(fd) < 0) return failed(options.from);
  return okStatus();
}

class CopyPlacement final : public Mutation {
 public:
  explicit CopyPlacement(std::shared_ptr<TreeCopy> copy) : copy(std::move(copy)) {}

  int64_t growth(const Root& root) const override {
    int64_t parents = copy->options.makeParents ? parentsFor(root, copy->options.to) : 0;
    return saturatingSum(saturatingSigned(copy->contentBytes()), parents) - contentAt(root, copy->options.to);
  }

  Result<Entry> apply(Round& round) override {
    const CopyOptions& options = copy->options;
    auto place = round.root.locate(options.to, options.makeParents);
    if (!place.ok()) return place.error();
    tellMade(round, *place, options.to);
    auto found = lookAt(place->folder, place->name, options.to);
    if (!found.ok()) return found.error();
    Status held = checkExpectation(options.toExpectation, *found, options.to);
    if (!held.ok()) return held.error();
    bool isFolder = S_ISDIR(copy->top.st_mode);
    if (*found && isFolder) return errorAt(ErrorCode::EXISTS, options.to, "", " is there already");
    if (*found && S_ISDIR((*found)->st_mode)) {
      return errorAt(ErrorCode::IS_DIRECTORY, options.to, "", " is a folder, and a file cannot take its place");
    }
    Expectation expectation = isFolder ? Expectation{Expectation::Kind::ABSENT, {}} : options.toExpectation;
    int folder = round.staging.fd();
    Move move{round.disk, folder, copy->stagedName, place->folder, place->name, options.to};
    auto moved = storage::place(round, move, expectation, *found);
    if (!moved.ok()) return moved.error();
    copy->placed = true;
    if (isFolder) restoreMode(round, *place);
    auto entry = entryAt(place->folder, place->name, options.to);
    using Kind = Committer::Applied::Kind;
    round.applied(
        {*found ? Kind::CHANGED : Kind::CREATED, options.to, {}, entry.ok() ? entry->version : Version(), isFolder});
    if (isFolder) {
      tellCreated(round, options.to, {}, EntryType::DIRECTORY, true);
    } else if (entry.ok()) {
      tellPlaced(round, *moved, options.to, *entry);
    }
    round.touch(kj::mv(place->folder));
    return entry;
  }

 private:
  void restoreMode(Round& round, const Root::Place& place) const {
    mode_t mode = copy->options.modes.of(copy->top.st_mode & PERMISSIONS, true);
    if ((mode & 0700) == 0700) return;
    kj::AutoCloseFd fd(openat(place.folder, place.name.c_str(), OPEN_FOLDER));
    if (fd.get() >= 0 && fchmod(fd, mode) == 0) round.touch(kj::mv(fd));
  }

  std::shared_ptr<TreeCopy> copy;
};

namespace {

class CopyFile final : public Mutation {
 public:
  CopyFile(CopyOptions options, std::shared_ptr<TreeCopy> staged, std::shared_ptr<uint64_t> room)
      : options(std::move(options)), staged(std::move(staged)), room(std::move(room)) {}

  int64_t growth(const Root& root) const override {
    int64_t parents = options.makeParents ? parentsFor(root, options.to) : 0;
    return saturatingSum(contentAt(root, options.from), parents) - contentAt(root, options.to);
  }
  bool prepare(Round&) override { return staged != nullptr && staged->isToBeFlushed(); }
  Status flushContent(Round&) override { return staged->flush(); }

  Result<Entry> apply(Round& round) override {
    if (staged != nullptr && isAsExpected(round)) return makePlaceCopy(std::move(staged))->apply(round);
    CopyOptions small = options;
    small.maxBytes = std::min(MAX_COPY_IN_TURN, *room);
    auto copy = std::make_shared<TreeCopy>(round.root, round.staging, round.disk, std::move(small));
    while (true) {
      auto done = copy->step();
      if (!done.ok()) return done.error();
      if (*done) break;
    }
    *room -= std::min(*room, copy->contentBytes());
    return makePlaceCopy(std::move(copy))->apply(round);
  }

 private:
  // Whether what was staged is what is there now.
  bool isAsExpected(Round& round) const {
    auto place = round.root.locate(options.from);
    if (!place.ok()) return false;
    auto found = lookAt(place->folder, place->name, options.from);
    return found.ok() && *found && staged->isOf(**found) &&
           checkExpectation(options.fromExpectation, *found, options.from).ok();
  }

  const CopyOptions options;
  std::shared_ptr<TreeCopy> staged;
  const std::shared_ptr<uint64_t> room;
};

}  // namespace

std::unique_ptr<Mutation> makeCopyFile(CopyOptions options, std::shared_ptr<TreeCopy> staged,
                                       std::shared_ptr<uint64_t> room) {
  return std::make_unique<CopyFile>(std::move(options), std::move(staged), std::move(room));
}

std::unique_ptr<Mutation> makePlaceCopy(std::shared_ptr<TreeCopy> copy) {
  return std::make_unique<CopyPlacement>(std::move(copy));
}

}  // namespace capstan::storage
