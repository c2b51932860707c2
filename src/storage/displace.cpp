#include <capstan/storage/displace.h>

#include <fcntl.h>
#include <linux/fs.h>
#include <unistd.h>

#include <cerrno>

#include <capstan/base/log.h>
#include <capstan/base/text.h>

namespace capstan::storage {

namespace {

constexpr int MAX_TRIES = 16;

Error failed(const Move& move) { return errorFromErrno(errno, "cannot store", move.path); }

RunRecord recordOf(RunRecord::Kind kind, const std::string& path, const struct stat& before) {
  Entry entry = entryFrom(before);
  RunRecord record;
  record.kind = kind;
  record.path = path;
  record.type = entry.type;
  record.mode = entry.mode;
  record.mtime = entry.mtime;
  record.inode = before.st_ino;
  return record;
}

// What is to be placed stands in the slot: they change places.
Result<Left> exchange(const Move& move, const Expectation& expectation, const struct stat& found) {
  if (expectation.kind == Expectation::Kind::VERSION) return moveOverExpected(move, found);
  const char *from = move.from.c_str(), *to = move.to.c_str();
  if (move.disk.renameat2(move.fromFolder, from, move.toFolder, to, RENAME_EXCHANGE) == 0) return Left::DISPLACED;
  if (errno != ENOENT) return failed(move);
  Status moved = moveToAbsent(move);  // it has gone meanwhile
  if (!moved.ok()) return moved.error();
  return Left::NOTHING;
}

// Where nothing can be exchanged: a second name keeps what the first is taken from.
Result<Left> replaceLinked(const Move& move, const Run::Slot& slot, const Expectation& expectation,
                           const struct stat& found) {
  if (linkat(move.toFolder, move.to.c_str(), slot.folder, slot.name.c_str(), 0) < 0) return failed(move);
  bool checked = expectation.kind == Expectation::Kind::VERSION;
  Status moved = okStatus();
  if (checked && !isUnchanged(slot.folder, slot.name, found)) {
    moved = errorAt(ErrorCode::CONFLICT, move.path, "", " was changed by another program in the same moment");
  } else {
    moved = moveOver(move);
  }
  if (moved.ok()) return Left::DISPLACED;
  unlinkat(slot.folder, slot.name.c_str(), 0);
  return moved.error();
}

Result<Placed> replaceInto(Round& round, const Move& move, const Expectation& expectation, const struct stat& found,
                           const std::string& origin) {
  struct stat placing;
  if (fstatat(move.fromFolder, move.from.c_str(), &placing, AT_SYMLINK_NOFOLLOW) < 0) return failed(move);
  auto slot = reserve(round, move.path, {}, found, origin, placing.st_ino);
  if (!slot.ok()) return slot.error();
  Placed placed{true, slot->number, found};
  if (!round.run->exchanges()) {
    auto replaced = replaceLinked(move, *slot, expectation, found);
    if (replaced.ok()) return placed;
    round.run->giveUp(*slot);
    return replaced.error();
  }
  Move inward{round.disk, move.fromFolder, move.from, slot->folder, slot->name, move.path};
  Status moved = moveToAbsent(inward);
  if (!moved.ok()) {
    round.run->giveUp(*slot);
    return moved.error();
  }
  auto left = exchange({round.disk, slot->folder, slot->name, move.toFolder, move.to, move.path}, expectation, found);
  if (left.ok() && *left == Left::DISPLACED) return placed;
  round.run->giveUp(*slot);
  if (left.ok()) return Placed{};
  Status back = moveToAbsent({round.disk, slot->folder, slot->name, move.fromFolder, move.from, move.path});
  if (!back.ok())
    log::error("what was to be stored as ", escapeForTerminal(move.path).c_str(), " is left in the trash");
  return left.error();
}

}  // namespace

Result<Run::Slot> reserve(Round& round, const std::string& path, const std::string& from, const struct stat& displaced,
                          const std::string& origin, uint64_t placed) {
  auto slot = round.run->reserve(path, from, displaced, origin, placed);
  if (slot.ok()) return slot;
  return errorAt(slot.error().code, path, "cannot keep ",
                 " in the trash, so it is left as it is (" + slot.error().message + ")");
}

Result<Placed> place(Round& round, const Move& move, const Expectation& expectation,
                     const std::optional<struct stat>& found, const std::string& origin) {
  if (round.run == nullptr) {
    auto moved = moveAs(move, expectation, found);
    if (!moved.ok()) return moved.error();
    if (*moved == Left::DISPLACED) round.staging.throwAway(move.fromFolder, move.from);
    return Placed{found.has_value(), 0, found.value_or(Placed{}.before)};
  }
  auto seen = found;
  for (int i = 0;; ++i) {
    if (seen) return replaceInto(round, move, expectation, *seen, origin);
    Status moved = moveToAbsent(move);
    if (moved.ok()) return Placed{};
    bool comesAgain = moved.error().code == ErrorCode::EXISTS && expectation.kind == Expectation::Kind::ANY;
    if (!comesAgain || i == MAX_TRIES) return moved.error();
    auto look = lookAt(move.toFolder, move.to, move.path);
    if (!look.ok()) return look.error();
    seen = *look;
    if (seen && S_ISDIR(seen->st_mode)) return moved.error();
  }
}

Result<Run::Slot> takeOut(Round& round, const Root::Place& place, const std::string& path, const struct stat& found,
                          bool expected) {
  auto slot = reserve(round, path, {}, found);
  if (!slot.ok()) return slot;
  if (round.disk.renameat2(place.folder, place.name.c_str(), slot->folder, slot->name.c_str(), RENAME_NOREPLACE) < 0) {
    Error error = errorFromErrno(errno, "cannot remove", path);
    round.run->giveUp(*slot);
    return error;
  }
  if (!expected || isUnchanged(slot->folder, slot->name, found)) return slot;
  Status back = moveToAbsent({round.disk, slot->folder, slot->name, place.folder, place.name, path});
  Error error = errorAt(ErrorCode::CONFLICT, path, "", " was changed by another program in the same moment");
  if (back.ok()) {
    round.run->giveUp(*slot);
  } else {
    tellRemoved(round, path, slot->number, found);  // something new is there: what was taken out stays in the trash
    error.message += "; what it was is kept in the trash";
  }
  return error;
}

void tellPlaced(Round& round, const Placed& placed, const std::string& path, const Entry& entry) {
  if (round.run == nullptr) return;
  if (!placed.replaced) return tellCreated(round, path, entry.version, entry.type);
  RunRecord record = recordOf(RunRecord::Kind::REPLACED, path, placed.before);
  record.number = placed.number;
  record.after = entry.version;
  round.run->record(std::move(record));
}

void tellCreated(Round& round, const std::string& path, const Version& version, EntryType type, bool whole) {
  if (round.run == nullptr) return;
  RunRecord record;
  record.kind = RunRecord::Kind::CREATED;
  record.number = whole ? 1 : 0;
  record.path = path;
  record.after = version;
  record.type = type;
  round.run->record(std::move(record));
}

void tellRemoved(Round& round, const std::string& path, uint64_t number, const struct stat& found) {
  if (round.run == nullptr) return;
  RunRecord record = recordOf(RunRecord::Kind::REMOVED, path, found);
  record.number = number;
  round.run->record(std::move(record));
}

}  // namespace capstan::storage
