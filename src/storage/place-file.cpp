#include <capstan/storage/place-file.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include <capstan/base/close-later.h>
#include <capstan/base/file.h>
#include <capstan/base/saturating.h>
#include <capstan/storage/displace.h>
#include <capstan/storage/file-copy.h>
#include <capstan/storage/modes.h>
#include <capstan/storage/mutations.h>
#include <capstan/storage/usage.h>

namespace capstan::storage {

namespace {

constexpr mode_t PERMISSIONS = 07777;

class FilePlacement final : public Mutation {
 public:
  FilePlacement(std::shared_ptr<StagedFile> file, PlaceFile options)
      : file(std::move(file)), options(std::move(options)) {}

  bool prepare(Round& round) override {
    // So that the mode is flushed with the content; apply() looks again.
    if (options.attributes.mode || options.expectation.kind == Expectation::Kind::ABSENT) return !options.flushed;
    auto target = round.root.stat(options.path);
    if (target.ok()) keepModeOf(*target);
    return !options.flushed;
  }

  Status flushContent(Round& round) override {
    kj::AutoCloseFd opened;
    int fd = file->fd();
    if (fd < 0) {
      opened = kj::AutoCloseFd(openat(file->folder(), file->name().c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
      fd = opened.get();
    }
    if (fd < 0 || round.disk.fsync(fd) < 0) return errorFromErrno(errno, "cannot store", options.path);
    options.flushed = true;
    return okStatus();
  }

  Result<Entry> apply(Round& round) override {
    options.flushed = true;
    auto place = round.root.locate(options.path, options.makeParents);
    if (!place.ok()) return place.error();
    tellMade(round, *place, options.path);
    auto found = lookAt(place->folder, place->name, options.path);
    if (!found.ok()) return found.error();
    Status allowed = check(*found);
    if (!allowed.ok()) return allowed.error();
    bool changed = *found ? keepModeOf(**found) : forgetKeptMode();
    if (restrictMode(round.modes) || changed) {
      Status flushed = flushContent(round);
      if (!flushed.ok()) return flushed.error();
    }
    return moveInto(round, *place, *found);
  }

  int64_t growth(const Root& root) const override {
    struct stat staged;
    if (fstatat(file->folder(), file->name().c_str(), &staged, AT_SYMLINK_NOFOLLOW) < 0) return 0;
    int64_t parents = options.makeParents ? parentsFor(root, options.path) : 0;
    return saturatingSum(saturatingSigned(chargeOf(staged)), parents) - contentAt(root, options.path);
  }

  void finish(bool) override { file->endCommit(); }

 private:
  Status check(const std::optional<struct stat>& found) const {
    Status held = checkExpectation(options.expectation, found, options.path);
    if (!held.ok()) return held;
    if (found && S_ISDIR(found->st_mode)) {
      return errorAt(ErrorCode::IS_DIRECTORY, options.path, "",
                     " is a folder; remove it first, or choose another name");
    }
    return okStatus();
  }

  // True if the staged file got another mode by it, which is not flushed yet.
  bool keepModeOf(const struct stat& target) {
    if (options.attributes.mode || !S_ISREG(target.st_mode)) return false;
    mode_t kept = target.st_mode & PERMISSIONS & ~SET_ID_BITS;  // which write(2) takes away too
    struct stat staged;
    const char* name = file->name().c_str();
    if (fstatat(file->folder(), name, &staged, AT_SYMLINK_NOFOLLOW) < 0) return false;
    if ((staged.st_mode & PERMISSIONS) == kept) return false;
    // A file that cannot be opened any more could not be flushed.
    if (file->fd() < 0 && (kept & 0400) == 0) return false;
    if (!ownMode) ownMode = staged.st_mode & PERMISSIONS;
    fchmodat(file->folder(), name, kept, 0);
    options.flushed = false;
    return true;
  }

  // As above: what whoever asked may not set. It was staged with what they asked for.
  bool restrictMode(const ModeMask& modes) {
    struct stat staged;
    const char* name = file->name().c_str();
    if (fstatat(file->folder(), name, &staged, AT_SYMLINK_NOFOLLOW) < 0) return false;
    mode_t mode = staged.st_mode & PERMISSIONS, allowed = modes.of(mode, false);
    if (mode == allowed) return false;
    fchmodat(file->folder(), name, allowed, 0);
    options.flushed = false;
    return true;
  }

  // What was there when the round began, and had its mode kept, is gone: what comes is new. True as above.
  bool forgetKeptMode() {
    if (!ownMode) return false;
    fchmodat(file->folder(), file->name().c_str(), *ownMode, 0);
    ownMode.reset();
    options.flushed = false;
    return true;
  }

  Result<Entry> moveInto(Round& round, Root::Place& place, const std::optional<struct stat>& found) {
    // By descriptor: another program may replace the file as soon as it is there.
    kj::AutoCloseFd self(openat(file->folder(), file->name().c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    kj::AutoCloseFd displaced;
    if (round.run == nullptr && found && S_ISREG(found->st_mode) && uint64_t(found->st_size) >= SLOW_TO_CLOSE_BYTES) {
      displaced = kj::AutoCloseFd(openat(place.folder, place.name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    }
    Move move{round.disk, file->folder(), file->name(), place.folder, place.name, options.path};
    auto moved = storage::place(round, move, options.expectation, found);
    if (!moved.ok()) {
      if (moved.error().code == ErrorCode::CONFLICT) restage(round.staging, self);
      return moved.error();
    }
    file->renamedAway();
    // Freeing what it took is not for this thread, on which all commits wait.
    if (displaced.get() >= 0) closeLater(kj::mv(displaced));
    struct stat status;
    bool known = fstat(self, &status) == 0;
    using Kind = Committer::Applied::Kind;
    round.applied({found ? Kind::CHANGED : Kind::CREATED, options.path, {}, known ? versionOf(status) : Version()});
    if (!known) return errorFromErrno(errno, "cannot look at", options.path);
    round.touch(kj::mv(place.folder));
    Entry entry = entryFrom(status);
    entry.path = options.path;
    tellPlaced(round, *moved, options.path, entry);
    return entry;
  }

  // If another program has replaced our file in the moment that it was in place, only the descriptor has the content.
  void restage(Staging& staging, int self) {
    struct stat ours, named;
    if (self < 0 || file->fd() < 0 || fstat(self, &ours) < 0) return;
    if (fstatat(file->folder(), file->name().c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0) {
      if (isSameFile(ours, named)) return;
      staging.throwAway(file->folder(), file->name());
    }
    int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
    kj::AutoCloseFd copy(openat(file->folder(), file->name().c_str(), flags, ours.st_mode & PERMISSIONS));
    if (copy.get() < 0) return;
    fchmod(copy, ours.st_mode & PERMISSIONS);
    FileCopy copying(kj::AutoCloseFd(dup(file->fd())), kj::AutoCloseFd(dup(copy)), options.path);
    while (true) {
      auto done = copying.step();
      if (!done.ok() || *done) break;
    }
    timespec times[2] = {{0, UTIME_OMIT}, ours.st_mtim};
    futimens(copy, times);
    file->replaceFd(kj::mv(copy));
  }

  std::shared_ptr<StagedFile> file;
  PlaceFile options;
  std::optional<mode_t> ownMode;  // what the staged file had before it got that of its target
};

}  // namespace

std::unique_ptr<Mutation> makePlaceFile(std::shared_ptr<StagedFile> file, PlaceFile options) {
  return std::make_unique<FilePlacement>(std::move(file), std::move(options));
}

namespace {

Status setStagedTime(const StagedFile& file, const Attributes& attributes) {
  if (!attributes.mtime) return okStatus();
  timespec times[2] = {{0, UTIME_OMIT}, toTimespec(*attributes.mtime)};
  if (futimens(file.fd(), times) < 0) return errorFromErrno(errno, "cannot set the time of new content");
  return okStatus();
}

}  // namespace

Result<std::shared_ptr<StagedFile>> stageWhole(Staging& staging, const std::string& path, const Attributes& attributes,
                                               std::string_view content, const ContentCheck& check) {
  bool sizeHolds = !check.size || *check.size == content.size();
  bool holds = check.algorithm == DigestAlgorithm::UNSET || digestOf(check.algorithm, content) == check.digest;
  if (!sizeHolds || !holds) {
    return errorAt(ErrorCode::CORRUPT, path, "what arrived for ", " is not what its size and digest announced");
  }
  // Made with its mode, where the umask lets that be: one call less. Setuid and setgid bits come later in any case.
  mode_t mode = attributes.mode.value_or(staging.newFileMode());
  auto file = staging.create(mode & ~SET_ID_BITS);
  if (!file.ok()) return file;
  if (!writeAt((*file)->fd(), content.data(), content.size(), 0)) return errorFromErrno(errno, "cannot store", path);
  Status set = mode == staging.modeAtCreation(mode) ? setStagedTime(**file, attributes)
                                                    : setStagedAttributes(**file, attributes);
  if (!set.ok()) return set.error();
  // A file that its owner may not read could not be opened again to be flushed.
  if ((mode & 0400) != 0) (*file)->closeFd();
  return file;
}

Status setStagedAttributes(const StagedFile& file, const Attributes& attributes) {
  mode_t mode = attributes.mode.value_or(file.owner().newFileMode());
  if (fchmod(file.fd(), mode) < 0) return cannotSetMode(errno, mode, "cannot set the mode of new content");
  return setStagedTime(file, attributes);
}

}  // namespace capstan::storage
