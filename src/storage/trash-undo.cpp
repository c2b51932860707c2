// Taking back what a run did: mutations like all others, each of which looks whether what is there is what the run
// left.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>

#include <capstan/base/path.h>
#include <capstan/base/saturating.h>
#include <capstan/base/text.h>
#include <capstan/storage/beneath.h>
#include <capstan/storage/displace.h>
#include <capstan/storage/mutations.h>
#include <capstan/storage/trash-impl.h>
#include <capstan/storage/usage.h>

namespace capstan::storage {

namespace {

using Kind = RunRecord::Kind;
constexpr int OPEN_FOLDER = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

Error changedSince(const std::string& path) {
  return errorAt(ErrorCode::CONFLICT, path, "", " was changed since, and is left as it is");
}

// Puts something that is in the trash to a place in the tree.
struct Restoring {
  int folder;
  std::string name;
  std::string path;
  std::string origin;  // of `name`, below the folder of the trash
  Expectation expectation;
  bool makeParents = false;

  Result<Entry> apply(Round& round) const {
    auto to = round.root.locate(path, makeParents);
    if (!to.ok()) return to.error();
    tellMade(round, *to, path);
    auto found = lookAt(to->folder, to->name, path);
    if (!found.ok()) return found.error();
    Status held = checkExpectation(expectation, *found, path);
    if (!held.ok()) return held.error();
    if (*found && S_ISDIR((*found)->st_mode)) return changedSince(path);
    Move move{round.disk, folder, name, to->folder, to->name, path};
    auto placed = place(round, move, expectation, *found, origin);
    if (!placed.ok()) return placed.error();
    auto entry = entryAt(to->folder, to->name, path);
    bool isFolder = entry.ok() && entry->type == EntryType::DIRECTORY;
    using Change = Committer::Applied::Kind;
    Version version = entry.ok() ? entry->version : Version();
    round.applied({*found ? Change::CHANGED : Change::CREATED, path, {}, std::move(version), isFolder});
    if (!entry.ok()) return entry;
    if (isFolder) {
      tellCreated(round, path, {}, EntryType::DIRECTORY, true);
    } else {
      tellPlaced(round, *placed, path, *entry);
    }
    round.touch(kj::mv(to->folder));
    round.touch(kj::AutoCloseFd(dup(folder)));
    return entry;
  }
};

// How much there is of something that is to come back.
class Returning {
 public:
  // The folder must outlive it.
  Returning(int folder, std::string name) : folder(folder), name(std::move(name)) {}

  bool measure(size_t& budget) {
    if (known) return true;
    if (!walk) walk = std::make_unique<ContentWalk>(folder, name);
    if (!walk->step(budget)) return false;
    known = walk->bytes();
    walk = nullptr;
    return true;
  }
  // Of a folder that was not measured, without what is in it.
  int64_t bytes() const {
    struct stat status;
    if (known) return saturatingSigned(*known);
    return fstatat(folder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : saturatingSigned(chargeOf(status));
  }

 private:
  const int folder;
  const std::string name;
  std::unique_ptr<ContentWalk> walk;
  std::optional<uint64_t> known;
};

// What the steps of one undo share, on the committer's thread.
struct UndoState {
  OpenRun run;
  std::string name;                     // of the run's folder
  std::string by;                       // id of the run that undoes
  std::map<std::string, Version> left;  // by steps before
  bool marked = false;

  Version expected(const RunRecord& record) const {
    auto found = left.find(record.path);
    return found == left.end() ? record.after : found->second;
  }

  // A folder was renamed, with all that is below it.
  void move(const std::string& from, const std::string& to) {
    std::map<std::string, Version> moved;
    for (auto& [path, version] : left) {
      moved[isWithin(path, from) ? to + path.substr(from.size()) : path] = version;
    }
    left = std::move(moved);
  }

  // From the first step that has worked the run is one that was undone.
  void mark(Round& round) {
    if (std::exchange(marked, true)) return;
    RunRecord undone;
    undone.kind = Kind::UNDONE;
    undone.time = nowNanoseconds();
    undone.path = by;
    std::string bytes = encode(undone);
    if (write(run.journal, bytes.data(), bytes.size()) == ssize_t(bytes.size())) {
      round.touch(kj::AutoCloseFd(dup(run.journal)));
    }
  }
};

class UndoStep final : public Mutation {
 public:
  UndoStep(std::shared_ptr<UndoState> stateParam, const RunRecord& record)
      : state(std::move(stateParam)), record(record), returning(state->run.files, std::to_string(record.number)) {}

  bool measure(size_t& budget) override { return !isDisplacement(record) || returning.measure(budget); }

  int64_t growth(const Root& root) const override {
    if (record.kind == Kind::CREATED) return -contentAt(root, record.path);
    if (!isDisplacement(record)) return 0;
    return returning.bytes() - contentAt(root, record.path);
  }

  Result<Entry> apply(Round& round) override {
    if (isChangedSince(round)) return changedSince(record.path);
    auto entry = takeBack(round);
    if (entry.ok()) {
      note(*entry);
      state->mark(round);
      return entry;
    }
    Error error = entry.error();
    switch (error.code) {
      case ErrorCode::NOT_FOUND:
      case ErrorCode::EXISTS:
      case ErrorCode::NOT_EMPTY:
      case ErrorCode::NOT_DIRECTORY:
      case ErrorCode::IS_DIRECTORY: error.code = ErrorCode::CONFLICT; break;
      default: break;
    }
    if (error.path.empty()) error.path = record.path;
    return error;
  }

 private:
  Result<Entry> takeBack(Round& round) {
    switch (record.kind) {
      case Kind::CREATED: return removeMade(round);
      case Kind::REPLACED: return putBack(round, {Expectation::Kind::VERSION, state->expected(record)});
      case Kind::REMOVED:
        return record.number != 0 ? putBack(round, {Expectation::Kind::ABSENT, {}}) : makeAgain(round);
      case Kind::MOVED: return moveBack(round);
      case Kind::METADATA: return setBack(round);
      default: return changedSince(record.path);
    }
  }

  // Said here, since what the mutation itself would say is meant for whoever expected something.
  bool isChangedSince(Round& round) const {
    bool leavesNothing = record.kind == Kind::REMOVED;
    if (leavesNothing || record.type == EntryType::DIRECTORY) return false;
    auto found = round.root.stat(record.path);
    return found.ok() && versionOf(*found) != state->expected(record);
  }

  Result<Entry> removeMade(Round& round) {
    if (record.type == EntryType::DIRECTORY) {
      auto found = round.root.stat(record.path);
      if (!found.ok()) return found.error();
      if (!S_ISDIR(found->st_mode)) return changedSince(record.path);
      return makeRemove(record.path, record.number == 1, {})->apply(round);
    }
    return makeRemove(record.path, false, {Expectation::Kind::VERSION, state->expected(record)})->apply(round);
  }

  Result<Entry> putBack(Round& round, Expectation expectation) {
    std::string number = std::to_string(record.number);
    std::string origin = state->name + "/" + DISPLACED_FOLDER + "/" + number;
    return Restoring{state->run.files, number, record.path, origin, std::move(expectation)}.apply(round);
  }

  Result<Entry> makeAgain(Round& round) {
    return makeMakeDirectory(record.path, {record.mode, record.mtime}, false)->apply(round);
  }

  Result<Entry> moveBack(Round& round) {
    RenameOptions options{record.path, record.from, {}, {Expectation::Kind::ABSENT, {}}, false};
    if (record.type == EntryType::DIRECTORY) {
      auto found = round.root.stat(record.path);
      if (!found.ok()) return found.error();
      if (found->st_ino != record.inode) return changedSince(record.path);
    } else {
      options.fromExpectation = {Expectation::Kind::VERSION, state->expected(record)};
    }
    return makeRename(std::move(options))->apply(round);
  }

  Result<Entry> setBack(Round& round) {
    Attributes attributes{record.mode, record.mtime};
    Expectation expectation{Expectation::Kind::VERSION, state->expected(record)};
    if (record.type == EntryType::SYMLINK) attributes.mode.reset();
    if (record.type == EntryType::DIRECTORY) expectation = {};
    return makeSetMetadata(record.path, attributes, std::move(expectation))->apply(round);
  }

  // What later steps find here.
  void note(const Entry& entry) {
    if (record.kind == Kind::MOVED) {
      state->move(record.path, record.from);
      state->left[record.from] = entry.version;
    } else if (record.kind == Kind::CREATED) {
      state->left.erase(record.path);
    } else {
      state->left[record.path] = entry.version;
    }
  }

  const std::shared_ptr<UndoState> state;
  const RunRecord record;
  Returning returning;
};

class Restore final : public Mutation {
 public:
  Restore(kj::AutoCloseFd folderParam, Restoring restoringParam)
      : folder(kj::mv(folderParam)), restoring(std::move(restoringParam)), returning(folder, restoring.name) {}

  bool measure(size_t& budget) override { return returning.measure(budget); }
  int64_t growth(const Root& root) const override { return returning.bytes() - contentAt(root, restoring.path); }
  Result<Entry> apply(Round& round) override { return restoring.apply(round); }

 private:
  const kj::AutoCloseFd folder;
  const Restoring restoring;
  Returning returning;
};

bool isThere(int folder, const std::string& name) {
  struct stat status;
  return fstatat(folder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
}

bool isChange(const RunRecord& record) { return record.kind >= Kind::CREATED && record.kind <= Kind::METADATA; }

// Makes the record's paths those that are seen from there. A run does nothing outside of its scope; should a journal
// say so all the same, nothing is done by it.
Status seeFrom(const std::string& top, RunRecord& record) {
  bool isMine = isWithin(record.path, top) && (record.kind != Kind::MOVED || isWithin(record.from, top));
  if (!isMine) return Error{ErrorCode::DENIED, "the run has changed what is not yours to change; ask its owner", {}};
  record.path = pathBeneath(record.path, top);
  if (record.kind == Kind::MOVED) record.from = pathBeneath(record.from, top);
  return okStatus();
}

// The folder in which `path` below what `number` is lies, and its name there; none if it is not there.
kj::AutoCloseFd folderOf(int files, uint64_t number, std::string_view path, std::string& name) {
  kj::AutoCloseFd folder(openat(files, ".", OPEN_FOLDER));
  name = std::to_string(number);
  for (std::string_view next : splitPath(path)) {
    kj::AutoCloseFd inner(openat(folder, name.c_str(), OPEN_FOLDER));
    if (inner.get() < 0) return inner;
    folder = kj::mv(inner);
    name = std::string(next);
  }
  if (!isThere(folder, name)) return kj::AutoCloseFd();
  return folder;
}

}  // namespace

Result<std::vector<std::unique_ptr<Mutation>>> TrashImpl::undo(const std::string& run, std::shared_ptr<Run> under,
                                                               const RunScope& scope) {
  auto state = std::make_shared<UndoState>();
  state->name = toHex(run);
  state->by = under->id();
  auto opened = openRun(state->name, scope);
  if (!opened.ok()) return opened.error();
  // As long as the undo lasts, no sweep takes the run away, and nobody adds to it.
  if (flock(opened->journal, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
    return Error{ErrorCode::OVERLOADED, "the run is still under way; end it first", {}};
  }
  state->run = std::move(*opened);
  if (hasGaps(state->run.journal)) {
    return Error{ErrorCode::EXPIRED,
                 "the disk was full during this run, and not all that it did is on record, so it cannot be undone; "
                 "nothing was changed, and what it displaced can be restored one by one",
                 {}};
  }
  auto& records = state->run.records;
  bool undoneBefore = std::any_of(records.begin(), records.end(), [](auto& r) { return r.kind == Kind::UNDONE; });
  std::vector<std::unique_ptr<Mutation>> steps;
  for (auto record = records.rbegin(); record != records.rend(); ++record) {
    if (!isChange(*record)) continue;
    Status mine = seeFrom(scope.top, *record);
    if (!mine.ok()) return mine.error();
    if (isDisplacement(*record) && !isThere(state->run.files, std::to_string(record->number))) {
      if (undoneBefore) continue;  // it was put back then
      return errorAt(ErrorCode::EXPIRED, record->path, "what was displaced at ",
                     " has left the trash, so the run cannot be undone as a whole; nothing was changed");
    }
    steps.push_back(std::make_unique<UndoStep>(state, *record));
  }
  return steps;
}

Result<std::unique_ptr<Mutation>> TrashImpl::restore(const std::string& run, const std::string& path,
                                                     const std::string& to, const RunScope& scope) {
  for (auto& each : {path, to}) {
    Status valid = validatePath(each);
    if (!valid.ok()) return valid.error();
  }
  if (scope.top.empty() && isReserved(to)) return errorAt(ErrorCode::NOT_FOUND, to, "there is no file or folder ");
  auto names = select(run, scope);
  std::string whole = joinPath(scope.top, path);
  if (!names.ok()) return names.error();
  for (const std::string& name : *names) {
    auto opened = openRun(name, scope);
    if (!opened.ok() && !run.empty()) return opened.error();
    if (!opened.ok()) continue;
    auto& records = opened->records;
    for (auto record = records.rbegin(); record != records.rend(); ++record) {
      if (!isDisplacement(*record) || !isWithin(whole, record->path)) continue;
      std::string found;
      kj::AutoCloseFd folder = folderOf(opened->files, record->number, pathBeneath(whole, record->path), found);
      if (folder.get() < 0) continue;
      Restoring restoring{folder.get(), found, to, {}, {Expectation::Kind::ABSENT, {}}, true};
      return std::unique_ptr<Mutation>(std::make_unique<Restore>(kj::mv(folder), std::move(restoring)));
    }
  }
  return errorAt(ErrorCode::NOT_FOUND, path, "the trash has nothing that was at ");
}

}  // namespace capstan::storage
