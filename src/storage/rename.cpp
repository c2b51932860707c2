// rename: one step for whoever looks, also when the expectation on either side has to be proved after the fact.
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <unistd.h>

#include <cerrno>

#include <capstan/base/path.h>
#include <capstan/storage/displace.h>
#include <capstan/storage/mutations.h>
#include <capstan/storage/usage.h>

namespace capstan::storage {

namespace {

bool isEmptyFolder(int parent, const std::string& name) {
  int fd = openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  DIR* dir = fd < 0 ? nullptr : fdopendir(fd);
  if (dir == nullptr) return false;
  size_t entries = 0;
  while (readdir(dir) != nullptr && entries < 3) ++entries;  // "." and ".."
  closedir(dir);
  return entries <= 2;
}

class Rename final : public Mutation {
 public:
  explicit Rename(RenameOptions options) : options(std::move(options)) {}

  int64_t growth(const Root& root) const override {
    if (options.from == options.to) return 0;
    return (options.makeParents ? parentsFor(root, options.to) : 0) - contentAt(root, options.to);
  }

  Result<Entry> apply(Round& round) override {
    if (options.from != options.to && isWithin(options.to, options.from)) return intoItself();
    auto from = round.root.locate(options.from);
    if (!from.ok()) return from.error();
    auto source = lookAt(from->folder, from->name, options.from);
    if (!source.ok()) return source.error();
    Status held = checkExpectation(options.fromExpectation, *source, options.from);
    if (!held.ok()) return held.error();
    if (!*source) return errorAt(ErrorCode::NOT_FOUND, options.from, "there is no file or folder ");

    auto to = round.root.locate(options.to, options.makeParents);
    if (!to.ok()) return to.error();
    tellMade(round, *to, options.to);
    auto target = lookAt(to->folder, to->name, options.to);
    if (!target.ok()) return target.error();
    held = checkExpectation(options.toExpectation, *target, options.to);
    if (!held.ok()) return held.error();

    if (options.from != options.to) {
      if (*target && !isSameFile(**source, **target)) {
        Status allowed = checkKinds(**source, *to, **target);
        if (!allowed.ok()) return allowed.error();
      }
      Status moved = move(round, *from, **source, *to, *target);
      if (!moved.ok()) return moved.error();
    }
    auto entry = entryAt(to->folder, to->name, options.to);
    if (options.from != options.to && !isStillThere(*from, **source)) {
      Version version = entry.ok() ? entry->version : Version();
      tellMoved(round, **source, version);
      round.applied({Committer::Applied::Kind::MOVED, options.to, options.from, std::move(version)});
    }
    round.touch(kj::mv(to->folder));
    round.touch(kj::mv(from->folder));
    return entry;
  }

 private:
  Error intoItself() const {
    return errorAt(ErrorCode::INVALID_ARGUMENT, options.from, "", " cannot be moved into itself");
  }

  Status checkKinds(const struct stat& source, const Root::Place& to, const struct stat& target) const {
    if (S_ISDIR(target.st_mode) && !S_ISDIR(source.st_mode)) {
      return errorAt(ErrorCode::IS_DIRECTORY, options.to, "", " is a folder, and a file cannot take its place");
    }
    if (!S_ISDIR(target.st_mode) && S_ISDIR(source.st_mode)) {
      return errorAt(ErrorCode::NOT_DIRECTORY, options.to, "", " is a file, and a folder cannot take its place");
    }
    if (S_ISDIR(target.st_mode) && !isEmptyFolder(to.folder, to.name)) return notEmpty();
    return okStatus();
  }

  Error notEmpty() const {
    return errorAt(ErrorCode::NOT_EMPTY, options.to, "the folder ", " is not empty, so nothing can take its place");
  }

  Status move(Round& round, Root::Place& from, const struct stat& source, Root::Place& to,
              const std::optional<struct stat>& target) {
    Move move{round.disk, from.folder, from.name, to.folder, to.name, options.to};
    bool checksSource = options.fromExpectation.kind == Expectation::Kind::VERSION;
    if (target && isSameFile(source, *target)) return dropFirstName(from, source, to);
    if (target && round.run != nullptr) return displace(round, move, source, *target);
    if (target && (checksSource || options.toExpectation.kind == Expectation::Kind::VERSION)) {
      return exchange(round, move, source, *target);
    }
    bool anything = options.toExpectation.kind == Expectation::Kind::ANY && !checksSource && round.run == nullptr;
    Status moved = anything ? moveOver(move) : moveToAbsent(move);
    if (!moved.ok()) return explained(moved.error());
    if (!checksSource || isStillThere(to, source)) return okStatus();
    Status back = moveToAbsent({round.disk, to.folder, to.name, from.folder, from.name, options.from});
    // If it cannot go back, something new is at `from`, and what was moved is kept at `to`: nothing is lost.
    (void)back.ok();
    return conflict(options.from);
  }

  // Two names of one file: rename(2) would leave both. Or one name, reached by two paths: then it stays.
  Status dropFirstName(const Root::Place& from, const struct stat& source, const Root::Place& to) const {
    struct stat fromFolder, toFolder;
    if (fstat(from.folder, &fromFolder) < 0 || fstat(to.folder, &toFolder) < 0) {
      return errorFromErrno(errno, "cannot rename", options.from);
    }
    if (S_ISDIR(source.st_mode) || (isSameFile(fromFolder, toFolder) && from.name == to.name)) return okStatus();
    if (unlinkat(from.folder, from.name.c_str(), 0) < 0) return errorFromErrno(errno, "cannot rename", options.from);
    return okStatus();
  }

  // As moveOverExpected(), for a target of which any version will do.
  Result<Left> exchangeAny(const Move& move, const struct stat& source) const {
    if (move.disk.renameat2(move.fromFolder, move.from.c_str(), move.toFolder, move.to.c_str(), RENAME_EXCHANGE) == 0) {
      return Left::DISPLACED;
    }
    if (errno == ENOENT) return conflict(options.to);
    if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP) {
      return errorFromErrno(errno, "cannot rename", options.from);
    }
    if (!isStillThere(move.fromFolder, move.from, source)) return conflict(options.from);
    Status moved = moveOver(move);
    if (!moved.ok()) return moved.error();
    return Left::NOTHING;
  }

  // What was displaced stands at `from` for a moment, instead of being lost if it is not what was expected.
  Status exchange(Round& round, const Move& move, const struct stat& source, const struct stat& target,
                  const Run::Slot* slot = nullptr) {
    bool checksTarget = options.toExpectation.kind == Expectation::Kind::VERSION;
    auto moved = checksTarget ? moveOverExpected(move, target) : exchangeAny(move, source);
    if (!moved.ok()) return explained(moved.error());
    bool exchanged = *moved == Left::DISPLACED;
    if (options.fromExpectation.kind == Expectation::Kind::VERSION && !isStillThere(move.toFolder, move.to, source)) {
      if (exchanged) {
        round.disk.renameat2(move.fromFolder, move.from.c_str(), move.toFolder, move.to.c_str(), RENAME_EXCHANGE);
      }
      return conflict(options.from);
    }
    if (!exchanged) return okStatus();
    if (S_ISDIR(target.st_mode)) {
      if (unlinkat(move.fromFolder, move.from.c_str(), AT_REMOVEDIR) == 0) return okStatus();
      round.disk.renameat2(move.fromFolder, move.from.c_str(), move.toFolder, move.to.c_str(), RENAME_EXCHANGE);
      return notEmpty();
    }
    if (slot != nullptr) {
      Status kept = moveToAbsent({round.disk, move.fromFolder, move.from, slot->folder, slot->name, options.to});
      if (!kept.ok()) {
        round.disk.renameat2(move.fromFolder, move.from.c_str(), move.toFolder, move.to.c_str(), RENAME_EXCHANGE);
      }
      return kept;
    }
    if (round.staging.throwAway(move.fromFolder, move.from) < 0) unlinkat(move.fromFolder, move.from.c_str(), 0);
    return okStatus();
  }

  // As part of a run: what stood at the target goes to the trash, by way of `from`. On record before, so that a crash
  // in between leaves nothing there.
  Status displace(Round& round, const Move& move, const struct stat& source, const struct stat& target) {
    if (S_ISDIR(target.st_mode)) {
      Status moved = exchange(round, move, source, target);
      if (moved.ok()) tellRemoved(round, options.to, 0, target);
      return moved;
    }
    auto slot = reserve(round, options.to, options.from, target);
    if (!slot.ok()) return slot.error();
    Status moved = round.run->exchanges() ? exchange(round, move, source, target, &*slot)
                                          : replaceLinked(move, *slot, source, target);
    if (moved.ok()) {
      tellRemoved(round, options.to, slot->number, target);
    } else {
      round.run->giveUp(*slot);
    }
    return moved;
  }

  // Where nothing can be exchanged: a second name keeps what the first is taken from.
  Status replaceLinked(const Move& move, const Run::Slot& slot, const struct stat& source, const struct stat& target) {
    if (linkat(move.toFolder, move.to.c_str(), slot.folder, slot.name.c_str(), 0) < 0) {
      return errorFromErrno(errno, "cannot rename", options.from);
    }
    Status moved = okStatus();
    if (!isUnchanged(slot.folder, slot.name, target)) {
      moved = conflict(options.to);
    } else if (!isStillThere(move.fromFolder, move.from, source)) {
      moved = conflict(options.from);
    } else {
      moved = moveOver(move);
    }
    if (!moved.ok()) unlinkat(slot.folder, slot.name.c_str(), 0);
    return moved;
  }

  void tellMoved(Round& round, const struct stat& source, const Version& version) const {
    if (round.run == nullptr) return;
    Entry entry = entryFrom(source);
    RunRecord record;
    record.kind = RunRecord::Kind::MOVED;
    record.path = options.to;
    record.from = options.from;
    record.type = entry.type;
    if (entry.type != EntryType::DIRECTORY) record.after = version;
    record.inode = source.st_ino;
    round.run->record(std::move(record));
  }

  bool isStillThere(const Root::Place& place, const struct stat& expected) const {
    return isStillThere(place.folder, place.name, expected);
  }
  bool isStillThere(int folder, const std::string& name, const struct stat& expected) const {
    struct stat found;
    return fstatat(folder, name.c_str(), &found, AT_SYMLINK_NOFOLLOW) == 0 && identityOf(found) == identityOf(expected);
  }

  Error conflict(const std::string& path) const {
    return errorAt(ErrorCode::CONFLICT, path, "", " was changed by another program in the same moment");
  }

  // The kernel's word for a folder that would come to lie in itself, by way of a symlink.
  Error explained(Error error) const { return error.code == ErrorCode::INVALID_ARGUMENT ? intoItself() : error; }

  const RenameOptions options;
};

}  // namespace

std::unique_ptr<Mutation> makeRename(RenameOptions options) { return std::make_unique<Rename>(std::move(options)); }

}  // namespace capstan::storage
