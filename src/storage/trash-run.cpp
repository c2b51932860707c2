#include <capstan/storage/trash-run.h>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include <capstan/base/file.h>
#include <capstan/base/log.h>
#include <capstan/base/text.h>
#include <capstan/storage/mutation.h>
#include <capstan/storage/usage.h>

namespace capstan::storage {

namespace {

constexpr int OPEN_FOLDER = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr size_t ROOM_BYTES = 16 << 10;
constexpr int LOCK_TRIES = 100;
constexpr int64_t LEAST_RUN = 3 * LEAST_CHARGE;  // its folder, that of displaced things, and a journal

Error failed(const char* doing) { return errorFromErrno(errno, doing); }

}  // namespace

RunFolder::RunFolder(const Root& root, Staging& staging, int trash, Options optionsParam)
    : root(root),
      staging(staging),
      trash(trash),
      options(std::move(optionsParam)),
      name(toHex(options.id)),
      since(nowNanoseconds()) {}

RunFolder::~RunFolder() noexcept(false) {
  if (isOpened) addMark(RunRecord::Kind::CLOSED);
  Status written = flushBuffer();
  if (!written.ok()) log::error("the trash does not know all that a run did: ", written.error().message.c_str());
  giveRoomBack();
  journal = nullptr;  // with its lock
  if (displaced && options.ended) options.ended();
}

Result<std::shared_ptr<RunFolder>> RunFolder::open(const Root& root, Staging& staging, int trash, Options options) {
  std::shared_ptr<RunFolder> run(new RunFolder(root, staging, trash, std::move(options)));
  Status taken = run->takeUp();
  if (!taken.ok()) return taken.error();
  return run;
}

Status RunFolder::lock() {
  // One that is just being dropped, or looked at by a sweep, lets go soon.
  for (int i = 0; i < LOCK_TRIES; ++i) {
    if (flock(journal, LOCK_EX | LOCK_NB) == 0) return okStatus();
    if (errno != EWOULDBLOCK) return okStatus();  // a file system without locks has one server only
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return Error{ErrorCode::OVERLOADED, "this run is under way at another server of the same folder", {}};
}

Status RunFolder::takeUp() {
  folder = kj::AutoCloseFd(openat(trash, name.c_str(), OPEN_FOLDER));
  if (folder.get() < 0) return errno == ENOENT ? okStatus() : Status(failed("cannot open the trash"));
  // Before anything of it is locked or changed.
  kj::AutoCloseFd there(openat(folder, JOURNAL_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (there.get() >= 0) {
    auto journal = readJournal(there);
    if (!journal.ok()) return journal.error();
    if (isOthers(*journal)) return noSuchRun(name);
  }
  Status made = make();
  if (!made.ok()) return made;
  auto known = readJournal(journal);
  if (!known.ok()) return known.error();
  if (isOthers(*known)) return noSuchRun(name);
  // What a crash tore off would hide all that came after it.
  if (ftruncate(journal, off_t(known->bytes)) < 0) return failed("cannot open a journal of the trash");
  settleIntents(root, staging, trash, files, journal);
  hadGaps = storage::hasGaps(journal);
  known = readJournal(journal);
  if (!known.ok()) return known.error();
  if (isOthers(*known)) return noSuchRun(name);
  for (auto& record : known->records) nextNumber = std::max(nextNumber, record.number + 1);
  if (!known->records.empty()) since = began = known->records.front().time;
  journalBytes = known->bytes;
  return okStatus();
}

bool RunFolder::isOthers(const Journal& known) const {
  return !known.records.empty() && !options.scope.mayAddTo(scopeOf(known.records));
}

Status RunFolder::make() {
  if (journal.get() >= 0) return okStatus();
  for (int i = 0; i < LOCK_TRIES; ++i) {
    auto made = tryToMake();
    if (made.ok() && *made) return okStatus();
    folder = nullptr;
    files = nullptr;
    journal = nullptr;
    if (!made.ok()) return made.error();
  }
  return Error{ErrorCode::OVERLOADED, "the trash is swept again and again; try again later", {}};
}

Result<bool> RunFolder::tryToMake() {
  if (folder.get() < 0) {
    if (mkdirat(trash, name.c_str(), 0700) < 0 && errno != EEXIST) return failed("cannot make a folder in the trash");
    folder = kj::AutoCloseFd(openat(trash, name.c_str(), OPEN_FOLDER));
  }
  if (mkdirat(folder, DISPLACED_FOLDER, 0700) < 0 && errno != EEXIST) {
    return failed("cannot make a folder in the trash");
  }
  files = kj::AutoCloseFd(openat(folder, DISPLACED_FOLDER, OPEN_FOLDER));
  if (files.get() < 0) return failed("cannot make a folder in the trash");
  int flags = O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
  kj::AutoCloseFd opened(openat(folder, JOURNAL_FILE, flags, WHOLE_JOURNAL));
  if (opened.get() < 0) return failed("cannot make a journal in the trash");
  journal = kj::mv(opened);
  Status locked = lock();
  if (!locked.ok()) return locked.error();
  struct stat status, named;
  std::string path = name + "/" + JOURNAL_FILE;
  if (fstat(journal, &status) < 0) return failed("cannot make a journal in the trash");
  bool isNamed = fstatat(trash, path.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 && named.st_ino == status.st_ino;
  if (!isNamed) return false;
  isNew = true;
  if (status.st_size > 0) return true;
  RunRecord begin;
  begin.kind = RunRecord::Kind::BEGIN;
  noteBegin();
  begin.time = began;
  begin.path = options.label;
  begin.from = options.client;
  begin.after = encode(options.scope);
  buffer = encode(begin) + buffer;
  grow(LEAST_RUN);
  return true;
}

Status RunFolder::flushBuffer() {
  if (buffer.empty()) return okStatus();
  Status made = make();
  if (!made.ok()) return made;
  written = true;
  while (!buffer.empty()) {
    ssize_t n = ::write(journal, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed("cannot write to a journal of the trash");
    buffer.erase(0, size_t(n));
    room -= std::min(room, size_t(n));
  }
  return okStatus();
}

Status RunFolder::makeRoom(size_t bytes) {
  size_t needed = buffer.size() + bytes;
  if (room >= needed) return okStatus();
  struct stat status;
  if (fstat(journal, &status) < 0) return failed("cannot write to a journal of the trash");
  for (size_t size : {needed + ROOM_BYTES, needed}) {
    if (fallocate(journal, FALLOC_FL_KEEP_SIZE, status.st_size, off_t(size)) == 0) {
      room = size;
      return okStatus();
    }
    if (errno != ENOSPC && errno != EDQUOT) return okStatus();  // some file systems promise nothing
  }
  return failed("cannot write to a journal of the trash");
}

void RunFolder::giveRoomBack() {
  struct stat status;
  if (room == 0 || fstat(journal, &status) < 0) return;
  if (ftruncate(journal, status.st_size) < 0)
    log::debug("a journal of the trash keeps some room that it does not need");
}

Result<Run::Slot> RunFolder::reserve(const std::string& path, const std::string& from, const struct stat& what,
                                     const std::string& origin, uint64_t placed) {
  noteBegin();
  Arrival arrival = arrivalOf(what, origin);
  Status mayCome = options.admit ? options.admit(arrival, began) : okStatus();
  if (!mayCome.ok()) return mayCome.error();
  RunRecord intent;
  intent.kind = RunRecord::Kind::INTENT;
  intent.path = path;
  intent.from = from;
  intent.after = origin;
  intent.inode = what.st_ino;
  intent.placed = placed;
  admitted = 0;
  auto slot = newSlot(std::move(intent));
  if (slot.ok()) {
    admitted = arrival.bytes;
    displaced = true;
  } else {
    grow(-int64_t(arrival.bytes));
  }
  return slot;
}

Result<Run::Slot> RunFolder::newSlot(RunRecord intent) {
  Status made = make();
  if (!made.ok()) return made.error();
  Slot slot{nextNumber++, files, std::to_string(nextNumber - 1)};
  intent.number = slot.number;
  // What follows it says no more than this.
  Status stored = makeRoom(3 * encode(intent).size() + 256);
  if (stored.ok()) {
    record(std::move(intent));
    stored = flushBuffer();
    if (!stored.ok()) giveUp(slot);
  }
  if (!stored.ok()) return stored.error();
  return slot;
}

Arrival RunFolder::arrivalOf(const struct stat& what, const std::string& origin) const {
  using Kind = Arrival::Kind;
  Arrival arrival{Kind::NEW, chargeOf(what), journalBytes, origin};
  // Nobody who comes by way of the server can set the time of the last change.
  if (toNanoseconds(what.st_ctim) < since) arrival.kind = Kind::OLD;
  if (S_ISDIR(what.st_mode)) arrival.kind = Kind::FOLDER;
  if (!origin.empty()) arrival.kind = Kind::FROM_TRASH;
  return arrival;
}

Status RunFolder::mayGoOn() {
  if (!options.admit) return okStatus();
  noteBegin();
  return options.admit({Arrival::Kind::RECORDS, 0, journalBytes, {}}, began);
}

void RunFolder::noteBegin() {
  if (began == 0) began = nowNanoseconds();
}

void RunFolder::grow(int64_t growth) const {
  if (options.grown && growth != 0) options.grown(growth, began);
}

void RunFolder::giveUp(const Slot& slot) {
  RunRecord nothing;
  nothing.kind = RunRecord::Kind::VOID;
  nothing.number = slot.number;
  record(std::move(nothing));
  grow(-int64_t(std::exchange(admitted, 0)));
}

void RunFolder::addMark(RunRecord::Kind kind) {
  RunRecord mark;
  mark.kind = kind;
  mark.time = nowNanoseconds();
  mark.path = bootId();
  buffer += encode(mark);
}

void RunFolder::record(RunRecord record) {
  if (!std::exchange(isOpened, true)) addMark(RunRecord::Kind::OPENED);
  record.time = nowNanoseconds();
  noteBegin();
  std::string bytes = encode(record);
  buffer += bytes;
  journalBytes += bytes.size();
  grow(int64_t(bytes.size()));
  // At once, so that a kill does not lose it. What could not be written is tried again by write().
  (void)flushBuffer().ok();
}

void RunFolder::setGaps(bool missing) {
  if (fchmod(journal, missing ? JOURNAL_WITH_GAPS : WHOLE_JOURNAL) < 0) {
    log::error("a run cannot be marked as one that cannot be undone");
    return;
  }
  hasGaps = missing;
  written = true;
}

void RunFolder::write(Round& round) {
  Status flushed = flushBuffer();
  if (!flushed.ok()) {
    log::error("the trash does not know all that a run did: ", flushed.error().message.c_str());
  }
  if (journal.get() >= 0 && !hadGaps && flushed.ok() == hasGaps) setGaps(!flushed.ok());
  if (!std::exchange(written, false)) return;
  round.touch(kj::AutoCloseFd(dup(journal)));
  if (displaced) round.touch(kj::AutoCloseFd(dup(files)));
  if (!std::exchange(isNew, false)) return;
  round.touch(kj::AutoCloseFd(dup(files)));
  round.touch(kj::AutoCloseFd(dup(folder)));
  round.touch(kj::AutoCloseFd(dup(trash)));
  round.touch(kj::AutoCloseFd(dup(root.stateFd())));
}

}  // namespace capstan::storage
