// What runs there are, and what they keep: read from their journals, measured, and remembered as long as it does not
// change. Whoever waits for an answer measures a little; what would take longer is the trash's own thread's.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include <capstan/base/file.h>
#include <capstan/base/text.h>
#include <capstan/storage/trash-impl.h>
#include <capstan/storage/usage.h>
#include <capstan/storage/version.h>

namespace capstan::storage {

namespace {

constexpr auto SWEEP_INTERVAL = std::chrono::hours(1);
constexpr auto PAUSE = std::chrono::seconds(5);  // between sweeps that nobody waits for, however many batches end
constexpr const char* BEING_LOOKED_AT = "what the trash keeps is being measured; try again";

void count(RunInfo& info, const RunRecord& record) {
  using Kind = RunRecord::Kind;
  switch (record.kind) {
    case Kind::BEGIN:
      info.label = record.path;
      info.client = record.from;
      info.began = record.time;
      break;
    case Kind::CREATED: ++info.created; break;
    case Kind::REPLACED:
    case Kind::METADATA: ++info.replaced; break;
    case Kind::REMOVED: ++info.removed; break;
    case Kind::MOVED: ++info.moved; break;
    case Kind::UNDONE: info.undoneBy = record.path; break;
    case Kind::INTENT:
    case Kind::VOID:
    case Kind::OPENED:
    case Kind::CLOSED: break;
  }
  if (record.kind != Kind::UNDONE) info.ended = std::max(info.ended, record.time);
}

}  // namespace

Error Trash::beingLookedAt() { return {ErrorCode::OVERLOADED, BEING_LOOKED_AT, {}}; }

bool Trash::isBeingLookedAt(const Error& error) {
  return error.code == ErrorCode::OVERLOADED && error.message == BEING_LOOKED_AT;
}

// Keeps the limits, so that nobody has to wait for it.
void TrashImpl::work() {
  std::unique_lock lock(mutex);
  while (!ending) {
    wakeUp.wait_for(lock, SWEEP_INTERVAL, [this] { return ending || due || !waiting.empty(); });
    if (ending) break;
    due = false;
    auto waited = std::exchange(waiting, {});
    lock.unlock();
    sweep();
    for (auto& each : waited) each();
    lock.lock();
    wakeUp.wait_for(lock, PAUSE, [this] { return ending || !waiting.empty(); });
  }
  auto left = std::exchange(waiting, {});
  lock.unlock();
  for (auto& each : left) each();
}

void TrashImpl::stop() {
  {
    std::lock_guard lock(mutex);
    ending = true;
  }
  wakeUp.notify_all();
}

void TrashImpl::sweepSoon() {
  std::lock_guard lock(mutex);
  due = true;
  wakeUp.notify_all();
}

void TrashImpl::whenLooked(std::function<void()> then) {
  {
    std::lock_guard lock(mutex);
    if (!ending) {
      waiting.push_back(std::move(then));
      wakeUp.notify_all();
      return;
    }
  }
  then();
}

bool TrashImpl::finish(ContentWalk& walk, Looking& looking) const {
  while (!walk.step(looking.budget)) {
    if (!looking.isPatient || ending) return false;
    looking.budget = ContentWalk::SLICE;
  }
  return true;
}

Result<RunInfo> TrashImpl::infoOf(const std::string& name, const RunScope& scope, Looking& looking) {
  struct stat journal, files;
  std::string journalPath = name + "/" + JOURNAL_FILE, filesPath = name + "/" + DISPLACED_FOLDER;
  if (fstatat(trash, journalPath.c_str(), &journal, AT_SYMLINK_NOFOLLOW) < 0 ||
      fstatat(trash, filesPath.c_str(), &files, AT_SYMLINK_NOFOLLOW) < 0) {
    return errorFromErrno(errno, "cannot read the trash");
  }
  auto isWanted = [&](const RunScope& run) {
    return looking.sizes && scope.sees(run) && (looking.ownersToo || !run.holder.empty());
  };
  // A mark may come without anything else being changed.
  Known now{uint64_t(journal.st_size), std::max(toNanoseconds(files.st_ctim), toNanoseconds(journal.st_ctim)), {}};
  {
    std::lock_guard lock(mutex);
    auto found = known.find(name);
    if (found != known.end()) {
      Known& last = found->second;
      bool same = last.journalBytes == now.journalBytes && last.filesChanged == now.filesChanged;
      if (same && (last.isMeasured || !isWanted(last.info.scope))) return last.info;
      now.wasMeasured = last.wasMeasured;
      now.info.bytes = last.info.bytes;
    }
  }
  uint64_t before = ledger.beforeLook(name);
  // Read after it was looked at: what comes in between is looked at again.
  Status read = readInfo(name, now.info);
  if (!read.ok()) return read.error();
  RunInfo& info = now.info;
  if (isWanted(info.scope)) {
    ContentWalk walk(trash, filesPath);
    if (!finish(walk, looking)) {
      // The last figure will do; who has begun to add to the run goes on with that.
      looking.isWhole = looking.isWhole && now.wasMeasured && !looking.isPatient;
      return info;
    }
    now.isMeasured = now.wasMeasured = true;
    info.bytes = walk.onDisk();
    uint64_t all = walk.bytes() + chargeOf(journal) + LEAST_CHARGE;
    if (!info.scope.holder.empty()) ledger.found({name, info.scope.holder, info.began}, all, before);
  }
  std::lock_guard lock(mutex);
  known[name] = now;
  return info;
}

Status TrashImpl::readInfo(const std::string& name, RunInfo& info) const {
  auto run = openRun(name);
  if (!run.ok()) return run.error();
  struct stat journal;
  if (fstat(run->journal, &journal) < 0) return errorFromErrno(errno, "cannot read the trash");
  info.id = *fromHex(name);
  info.scope = scopeOf(run->records);
  info.began = info.ended = toNanoseconds(journal.st_mtim);
  if (!run->records.empty()) info.ended = 0;
  info.canUndo = true;
  for (auto& record : run->records) {
    count(info, record);
    struct stat status;
    if (!isDisplacement(record) || !info.canUndo) continue;
    info.canUndo = fstatat(run->files, std::to_string(record.number).c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
  }
  if (!info.undoneBy.empty() || hasGaps(run->journal)) info.canUndo = false;
  return okStatus();
}

std::vector<RunInfo> TrashImpl::look(const RunScope& scope, Looking& looking) {
  std::vector<RunInfo> infos;
  for (const std::string& name : folders()) {
    if (looking.isPatient && ending) {
      looking.isWhole = false;
      break;
    }
    auto info = infoOf(name, scope, looking);
    if (!info.ok()) continue;  // it has gone meanwhile
    if (scope.sees(info->scope)) infos.push_back(std::move(*info));
  }
  std::sort(infos.begin(), infos.end(),
            [](const RunInfo& a, const RunInfo& b) { return a.began != b.began ? a.began > b.began : a.id > b.id; });
  return infos;
}

Result<std::vector<RunInfo>> TrashImpl::runs(const RunScope& scope) {
  Looking looking;
  auto infos = look(scope, looking);
  if (!looking.isWhole) return beingLookedAt();
  return infos;
}

// So that what earlier server processes have left counts too.
Status TrashImpl::lookOnce() {
  if (looked) return okStatus();
  Looking looking{.ownersToo = false};
  look({}, looking);
  if (!looking.isWhole) return beingLookedAt();
  looked = true;
  return okStatus();
}

}  // namespace capstan::storage
