#include <capstan/storage/mutations.h>

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include <capstan/base/file.h>
#include <capstan/base/path.h>
#include <capstan/storage/displace.h>
#include <capstan/storage/modes.h>
#include <capstan/storage/usage.h>

namespace capstan::storage {

namespace {

using Kind = Committer::Applied::Kind;

constexpr mode_t PERMISSIONS = 07777;
constexpr size_t MAX_TARGET_BYTES = 4095;

// Of what a descriptor opened with O_PATH stands for; 0, or -1 and errno.
int setMode(int fd, mode_t mode) {
#ifdef SYS_fchmodat2
  if (syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0) return 0;
  if (errno != ENOSYS && errno != EINVAL) return -1;
#endif
  std::string proc = "/proc/self/fd/" + std::to_string(fd);
  return fchmodat(AT_FDCWD, proc.c_str(), mode, 0);
}

int setTime(int fd, int64_t mtime) {
  timespec times[2] = {{0, UTIME_OMIT}, toTimespec(mtime)};
  return utimensat(fd, "", times, AT_EMPTY_PATH);
}

class MakeDirectory final : public Mutation {
 public:
  MakeDirectory(std::string path, Attributes attributes, bool parents)
      : path(std::move(path)), attributes(attributes), parents(parents) {}

  int64_t growth(const Root& root) const override {
    if (contentAt(root, path) > 0) return 0;
    return int64_t(LEAST_CHARGE) + (parents ? parentsFor(root, path) : 0);
  }

  Result<Entry> apply(Round& round) override {
    if (path.empty()) return whatIsThere(round, errorAt(ErrorCode::EXISTS, path, "", " is there already"));
    auto place = round.root.locate(path, parents);
    if (!place.ok()) return place.error();
    tellMade(round, *place, path);
    if (mkdirat(place->folder, place->name.c_str(), 0777) < 0) {
      Error error = errorFromErrno(errno, "cannot make the folder", path);
      if (error.code == ErrorCode::EXISTS) return whatIsThere(round, error, &*place);
      return error;
    }
    kj::AutoCloseFd made(openat(place->folder, place->name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (attributes.mode && (made.get() < 0 || fchmod(made, round.modes.of(*attributes.mode, true)) < 0))
      return undo(*place);
    if (attributes.mtime && (made.get() < 0 || setTime(made, *attributes.mtime) < 0)) return undo(*place);
    auto entry = entryAt(place->folder, place->name, path);
    round.applied({Kind::CREATED, path, {}, entry.ok() ? entry->version : Version()});
    tellCreated(round, path, {}, EntryType::DIRECTORY);
    if (made.get() >= 0) round.touch(kj::mv(made));
    round.touch(kj::mv(place->folder));
    return entry;
  }

 private:
  Error undo(const Root::Place& place) const {
    Error error = cannotSetMode(errno, attributes.mode.value_or(0), "cannot set mode and time of the folder", path);
    unlinkat(place.folder, place.name.c_str(), AT_REMOVEDIR);
    return error;
  }

  // With `parents` a folder that is there will do, also one behind a symlink. Somebody else may have made it a moment
  // ago: it is flushed.
  Result<Entry> whatIsThere(Round& round, Error exists, Root::Place* place = nullptr) const {
    if (!parents) return exists;
    auto status = round.root.stat(path, Follow::YES);
    if (!status.ok() || !S_ISDIR(status->st_mode)) return exists;
    if (place != nullptr) round.touch(kj::mv(place->folder));
    Entry entry = entryFrom(*status);
    entry.path = path;
    return entry;
  }

  const std::string path;
  const Attributes attributes;
  const bool parents;
};

class MakeSymlink final : public Mutation {
 public:
  explicit MakeSymlink(SymlinkOptions options) : options(std::move(options)) {}

  int64_t growth(const Root& root) const override {
    int64_t parents = options.makeParents ? parentsFor(root, options.path) : 0;
    return int64_t(LEAST_CHARGE) + parents - contentAt(root, options.path);
  }

  Result<Entry> apply(Round& round) override {
    const std::string& path = options.path;
    if (options.target.empty() || options.target.size() > MAX_TARGET_BYTES ||
        options.target.find('\0') != std::string::npos) {
      return errorAt(ErrorCode::INVALID_ARGUMENT, path, "the target of the symlink ",
                     " has to be 1 to 4,095 bytes without NUL");
    }
    auto place = round.root.locate(path, options.makeParents);
    if (!place.ok()) return place.error();
    tellMade(round, *place, path);
    auto found = lookAt(place->folder, place->name, path);
    if (!found.ok()) return found.error();
    Status held = checkExpectation(options.expectation, *found, path);
    if (!held.ok()) return held.error();
    if (*found && S_ISDIR((*found)->st_mode)) {
      return errorAt(ErrorCode::IS_DIRECTORY, path, "", " is a folder; remove it first, or choose another name");
    }
    return moveInto(round, *place, *found);
  }

 private:
  Result<Entry> moveInto(Round& round, Root::Place& place, const std::optional<struct stat>& found) {
    int folder = round.staging.fd();
    std::string name = round.staging.newName();
    if (symlinkat(options.target.c_str(), folder, name.c_str()) < 0) {
      return errorFromErrno(errno, "cannot make the symlink", options.path);
    }
    timespec times[2] = {{0, UTIME_OMIT}, toTimespec(options.attributes.mtime.value_or(0))};
    Status status = okStatus();
    if (options.attributes.mtime && utimensat(folder, name.c_str(), times, AT_SYMLINK_NOFOLLOW) < 0) {
      status = errorFromErrno(errno, "cannot set the time of the symlink", options.path);
    }
    Placed placed;
    if (status.ok()) {
      Move move{round.disk, folder, name, place.folder, place.name, options.path};
      auto moved = storage::place(round, move, options.expectation, found);
      if (moved.ok()) {
        placed = *moved;
      } else {
        status = moved.error();
      }
    }
    if (!status.ok()) {
      round.staging.deleteSoon(name);
      return status.error();
    }
    auto entry = entryAt(place.folder, place.name, options.path);
    if (entry.ok()) tellPlaced(round, placed, options.path, *entry);
    round.applied({found ? Kind::CHANGED : Kind::CREATED, options.path, {}, entry.ok() ? entry->version : Version()});
    round.touch(kj::mv(place.folder));
    return entry;
  }

  const SymlinkOptions options;
};

class SetMetadata final : public Mutation {
 public:
  SetMetadata(std::string path, Attributes attributes, Expectation expectation)
      : path(std::move(path)), attributes(attributes), expectation(std::move(expectation)) {}

  Result<Entry> apply(Round& round) override {
    if (expectation.kind == Expectation::Kind::ABSENT) {
      return errorAt(ErrorCode::INVALID_ARGUMENT, path, "metadata of ", " cannot be set and expected to be absent");
    }
    auto fd = round.root.open(path, O_PATH | O_NOFOLLOW, Follow::NO);
    if (!fd.ok()) return fd.error();
    struct stat status;
    if (fstat(*fd, &status) < 0) return failed();
    Status held = checkExpectation(expectation, status, path);
    if (!held.ok()) return held.error();
    if (attributes.mode && S_ISLNK(status.st_mode)) {
      return errorAt(ErrorCode::INVALID_ARGUMENT, path, "", " is a symlink, and those have no mode of their own");
    }
    struct stat before = status;
    // Opened before the mode may forbid it.
    kj::Maybe<kj::AutoCloseFd> flushable = openForFlush(round, status);
    if (attributes.mode && setMode(*fd, round.modes.of(*attributes.mode, S_ISDIR(status.st_mode))) < 0) return failed();
    if (attributes.mtime && setTime(*fd, *attributes.mtime) < 0) {
      Error error = failed();
      if (attributes.mode) setMode(*fd, before.st_mode & PERMISSIONS);
      return error;
    }
    if (fstat(*fd, &status) < 0) return failed();
    KJ_IF_MAYBE (file, flushable) {
      round.touch(kj::mv(*file));
    }
    else {
      auto parent = round.root.open(parentOf(path), O_RDONLY | O_DIRECTORY, Follow::YES);
      round.touchFileSystemOf(parent.ok() ? kj::mv(*parent) : kj::AutoCloseFd(dup(round.staging.fd())));
    }
    Entry entry = entryFrom(status);
    entry.path = path;
    round.applied({Kind::CHANGED, path, {}, entry.version});
    tellChanged(round, before, entry);
    return entry;
  }

 private:
  void tellChanged(Round& round, const struct stat& before, const Entry& entry) const {
    if (round.run == nullptr) return;
    Entry old = entryFrom(before);
    RunRecord record;
    record.kind = RunRecord::Kind::METADATA;
    record.path = path;
    record.after = entry.version;
    record.type = old.type;
    record.mode = old.mode;
    record.mtime = old.mtime;
    record.inode = before.st_ino;
    round.run->record(std::move(record));
  }

  Error failed() const { return errorFromErrno(errno, "cannot set mode and time of", path); }

  kj::Maybe<kj::AutoCloseFd> openForFlush(Round& round, const struct stat& status) const {
    if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) return nullptr;
    auto fd = round.root.open(path, O_RDONLY | O_NOFOLLOW, Follow::NO);
    struct stat opened;
    if (!fd.ok() || fstat(*fd, &opened) < 0 || !isSameFile(opened, status)) return nullptr;
    return kj::mv(*fd);
  }

  const std::string path;
  const Attributes attributes;
  const Expectation expectation;
};

}  // namespace

void tellMade(Round& round, Root::Place& place, const std::string& path) {
  // They are the innermost: below a folder that was missing all were.
  std::vector<std::string> made;
  std::string_view folder = parentOf(path);
  for (size_t i = 0; i < place.toFlush.size(); ++i, folder = parentOf(folder)) made.emplace_back(folder);
  for (; !made.empty(); made.pop_back()) {
    round.applied({Kind::CREATED, made.back(), {}, {}});
    tellCreated(round, made.back(), {}, EntryType::DIRECTORY);
  }
  for (auto& fd : place.toFlush) round.touch(kj::mv(fd));
}

std::unique_ptr<Mutation> makeMakeDirectory(std::string path, Attributes attributes, bool parents) {
  return std::make_unique<MakeDirectory>(std::move(path), attributes, parents);
}

std::unique_ptr<Mutation> makeSymlink(SymlinkOptions options) {
  return std::make_unique<MakeSymlink>(std::move(options));
}

std::unique_ptr<Mutation> makeSetMetadata(std::string path, Attributes attributes, Expectation expectation) {
  return std::make_unique<SetMetadata>(std::move(path), attributes, std::move(expectation));
}

}  // namespace capstan::storage
