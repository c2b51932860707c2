#include <capstan/storage/trash-impl.h>

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <map>
#include <set>

#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/base/log.h>
#include <capstan/base/path.h>
#include <capstan/base/text.h>
#include <capstan/storage/staging.h>
#include <capstan/storage/usage.h>

namespace capstan::storage {

namespace {

constexpr int OPEN_FOLDER = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr size_t RUN_ID_BYTES = 16;
constexpr auto SWEEP_INTERVAL = std::chrono::hours(1);
constexpr auto PAUSE = std::chrono::seconds(5);  // between sweeps, however many batches end

std::vector<std::string> namesIn(int folder) {
  std::vector<std::string> names;
  DIR* dir = fdopendir(openat(folder, ".", OPEN_FOLDER));
  if (dir == nullptr) return names;
  while (dirent* entry = readdir(dir)) {
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  closedir(dir);
  return names;
}

// Bytes of the files in a folder and all folders below it, hard links counted once.
uint64_t bytesIn(kj::AutoCloseFd folder, std::set<uint64_t>& seen, int depth = 0) {
  constexpr int MAX_DEPTH = 100;  // each level holds a descriptor; what is deeper still is not counted
  uint64_t bytes = 0;
  for (const std::string& name : namesIn(folder)) {
    struct stat status;
    if (fstatat(folder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) continue;
    if (S_ISDIR(status.st_mode)) {
      kj::AutoCloseFd inner(openat(folder, name.c_str(), OPEN_FOLDER));
      if (inner.get() >= 0 && depth < MAX_DEPTH) bytes += bytesIn(kj::mv(inner), seen, depth + 1);
    } else if (status.st_nlink == 1 || seen.insert(status.st_ino).second) {
      // Blocks may not be counted before they are written, nor in some file systems at all.
      uint64_t blocks = uint64_t(status.st_blocks) * 512;
      bytes += blocks > 0 ? blocks : std::min<uint64_t>(uint64_t(status.st_size), 4096);
    }
  }
  return bytes;
}

bool canExchange(Staging& staging) {
  std::string a = staging.newName(), b = staging.newName();
  for (auto& name : {a, b}) {
    kj::AutoCloseFd file(openat(staging.fd(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  }
  bool can = renameat2(staging.fd(), a.c_str(), staging.fd(), b.c_str(), RENAME_EXCHANGE) == 0;
  for (auto& name : {a, b}) unlinkat(staging.fd(), name.c_str(), 0);
  return can;
}

// Whose a run is: the owner's (empty), or the share's that the owner has made, with all that were made from it.
std::string_view shareOf(const RunInfo& info) {
  std::string_view holder = info.scope.holder;
  return holder.substr(0, holder.find('/'));
}

// Which one is dropped first when there are too many: the oldest of the share that keeps most, so that nobody pushes
// the owner's out, or another share's; the owner's oldest only when no share's are left. `runs`: the latest first.
size_t leastWorthKeeping(const std::vector<RunInfo>& runs) {
  std::map<std::string_view, uint64_t> bytes;
  for (auto& info : runs) {
    if (info.bytes > 0 && !shareOf(info).empty()) bytes[shareOf(info)] += info.bytes;
  }
  auto less = [](const auto& a, const auto& b) { return a.second < b.second; };
  auto most = std::max_element(bytes.begin(), bytes.end(), less);
  std::string_view share = most == bytes.end() ? std::string_view() : most->first;
  for (size_t i = runs.size(); i-- > 0;) {
    if (shareOf(runs[i]) == share) return i;
  }
  return runs.size() - 1;
}

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

Result<std::unique_ptr<Trash>> Trash::open(const Root& root, Staging& staging, TrashLimits limits) {
  if (mkdirat(root.stateFd(), "trash", 0700) < 0 && errno != EEXIST) {
    return errorFromErrno(errno, "cannot make the folder of the trash");
  }
  kj::AutoCloseFd folder(openat(root.stateFd(), "trash", OPEN_FOLDER));
  if (folder.get() < 0) return errorFromErrno(errno, "cannot open the folder of the trash");
  auto trash = std::make_unique<TrashImpl>(root, staging, limits, kj::mv(folder));
  trash->settle();
  trash->sweepSoon();
  return std::unique_ptr<Trash>(std::move(trash));
}

TrashImpl::TrashImpl(const Root& root, Staging& staging, TrashLimits limits, kj::AutoCloseFd folder)
    : root(root), staging(staging), limits(limits), trash(kj::mv(folder)), exchanges(canExchange(staging)) {
  thread = std::thread([this] { work(); });
}

TrashImpl::~TrashImpl() noexcept(false) {
  {
    std::lock_guard lock(mutex);
    ending = true;
  }
  wakeUp.notify_all();
  thread.join();
}

// Keeps the limits, so that nobody has to wait for it.
void TrashImpl::work() {
  std::unique_lock lock(mutex);
  while (!ending) {
    wakeUp.wait_for(lock, SWEEP_INTERVAL, [this] { return ending || due; });
    if (ending) return;
    due = false;
    lock.unlock();
    sweep();
    lock.lock();
    wakeUp.wait_for(lock, PAUSE, [this] { return ending; });
  }
}

void TrashImpl::sweepSoon() {
  std::lock_guard lock(mutex);
  due = true;
  wakeUp.notify_all();
}

std::vector<std::string> TrashImpl::folders() const {
  auto names = namesIn(trash);
  std::erase_if(names, [](const std::string& name) {
    auto id = fromHex(name);
    return !id || id->size() != RUN_ID_BYTES;
  });
  return names;
}

Result<OpenRun> TrashImpl::openRun(const std::string& name, const RunScope& scope) const {
  OpenRun run;
  run.folder = kj::AutoCloseFd(openat(trash, name.c_str(), OPEN_FOLDER));
  if (run.folder.get() < 0) return noSuchRun(name);
  run.files = kj::AutoCloseFd(openat(run.folder, DISPLACED_FOLDER, OPEN_FOLDER));
  run.journal = kj::AutoCloseFd(openat(run.folder, JOURNAL_FILE, O_RDWR | O_APPEND | O_NOFOLLOW | O_CLOEXEC));
  if (run.files.get() < 0 || run.journal.get() < 0) return errorFromErrno(errno, "cannot read the trash");
  auto journal = readJournal(run.journal);
  if (!journal.ok()) return journal.error();
  run.records = std::move(journal->records);
  if (!scope.sees(scopeOf(run.records))) return noSuchRun(name);
  return run;
}

bool RunScope::sees(const RunScope& run) const { return isWithin(run.holder, holder) && isWithin(run.top, top); }

bool RunScope::mayAddTo(const RunScope& run) const { return run.holder == holder && isWithin(top, run.top); }

Result<std::shared_ptr<Run>> TrashImpl::begin(std::string id, std::string label, std::string client, RunScope scope,
                                              std::vector<TrashBound> bounds) {
  if (id.empty()) id = randomBytes(RUN_ID_BYTES);
  if (id.size() != RUN_ID_BYTES) return Error{ErrorCode::INVALID_ARGUMENT, "the id of a run has 16 bytes", {}};
  if (!bounds.empty()) lookOnce();
  std::shared_ptr<RunFolder> under;  // should it end here, that takes the mutex
  std::unique_lock lock(mutex);
  opened.wait(lock, [&] { return opening.count(id) == 0; });
  std::erase_if(active, [](const auto& item) { return item.second.expired(); });
  if ((under = active[id].lock()) != nullptr) {
    if (!scope.mayAddTo(under->scope())) return noSuchRun(toHex(id));
    return std::shared_ptr<Run>(under);
  }
  RunFolder::Options options{
      id, std::move(label), std::move(client), std::move(scope), exchanges, [this]() { sweepSoon(); }, {}, {}};
  if (!bounds.empty()) bind(options, std::move(bounds));
  opening.insert(id);
  lock.unlock();
  auto run = RunFolder::open(root, staging, trash, std::move(options));
  lock.lock();
  opening.erase(id);
  opened.notify_all();
  if (!run.ok()) return run.error();
  active[id] = *run;
  return std::shared_ptr<Run>(std::move(*run));
}

void TrashImpl::settle() {
  for (const std::string& name : folders()) {
    auto run = openRun(name);
    if (run.ok() && flock(run->journal, LOCK_EX | LOCK_NB) == 0) {
      settleIntents(root, staging, trash, run->files, run->journal);
    }
  }
}

Result<RunInfo> TrashImpl::infoOf(const std::string& name) {
  struct stat journal, files;
  std::string journalPath = name + "/" + JOURNAL_FILE, filesPath = name + "/" + DISPLACED_FOLDER;
  if (fstatat(trash, journalPath.c_str(), &journal, AT_SYMLINK_NOFOLLOW) < 0 ||
      fstatat(trash, filesPath.c_str(), &files, AT_SYMLINK_NOFOLLOW) < 0) {
    return errorFromErrno(errno, "cannot read the trash");
  }
  // A mark may come without anything else being changed.
  int64_t changed = std::max(toNanoseconds(files.st_ctim), toNanoseconds(journal.st_ctim));
  {
    std::lock_guard lock(mutex);
    auto found = known.find(name);
    bool same = found != known.end() && found->second.journalBytes == uint64_t(journal.st_size) &&
                found->second.filesChanged == changed;
    if (same) return found->second.info;
  }
  uint64_t before = ledger.beforeLook(name);
  // Read after it was looked at: what comes in between is looked at again.
  auto run = openRun(name);
  if (!run.ok()) return run.error();
  RunInfo info;
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
  std::set<uint64_t> seen;
  info.bytes = bytesIn(kj::mv(run->files), seen);
  bool isShares = !info.scope.holder.empty();
  if (isShares) ledger.found({name, info.scope.holder, info.began}, contentIn(trash, name), before);
  std::lock_guard lock(mutex);
  known[name] = {uint64_t(journal.st_size), changed, info};
  return info;
}

Result<std::vector<RunInfo>> TrashImpl::runs(const RunScope& scope) {
  std::vector<RunInfo> infos;
  for (const std::string& name : folders()) {
    auto info = infoOf(name);
    if (!info.ok()) continue;  // it has gone meanwhile
    if (scope.sees(info->scope)) infos.push_back(std::move(*info));
  }
  std::sort(infos.begin(), infos.end(),
            [](const RunInfo& a, const RunInfo& b) { return a.began != b.began ? a.began > b.began : a.id > b.id; });
  return infos;
}

Result<std::vector<std::string>> TrashImpl::select(const std::string& run, const RunScope& scope) {
  if (!run.empty()) return std::vector<std::string>{toHex(run)};
  auto all = runs(scope);
  if (!all.ok()) return all.error();
  std::vector<std::string> names;
  for (auto& info : *all) names.push_back(toHex(info.id));
  return names;
}

bool TrashImpl::drop(const std::string& name) {
  kj::AutoCloseFd journal(openat(trash, (name + "/" + JOURNAL_FILE).c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  if (journal.get() >= 0 && flock(journal, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) return false;
  if (staging.throwAway(trash, name) < 0) return false;
  ledger.forget(name);
  std::lock_guard lock(mutex);
  known.erase(name);
  return true;
}

Result<uint64_t> TrashImpl::empty(uint64_t olderThan) {
  auto all = runs({});
  if (!all.ok()) return all.error();
  int64_t now = nowNanoseconds();
  uint64_t freed = 0;
  for (auto& info : *all) {
    bool isOld = olderThan == 0 || (now > info.ended && uint64_t(now - info.ended) > olderThan);
    if (isOld && drop(toHex(info.id))) freed += info.bytes;
  }
  held -= std::min(freed, held.load());
  return freed;
}

void TrashImpl::sweep() {
  auto all = runs({});
  if (!all.ok()) return;
  keepBounds();
  std::erase_if(*all, [&](const RunInfo& info) { return !isKept(toHex(info.id)); });
  struct statvfs disk;
  uint64_t room = UINT64_MAX;
  if (fstatvfs(trash, &disk) == 0) room = uint64_t(double(disk.f_blocks) * double(disk.f_frsize) * limits.share);
  int64_t now = nowNanoseconds();
  std::erase_if(*all, [&](const RunInfo& info) {
    bool isOld = now > info.ended && uint64_t(now - info.ended) > limits.time;
    return isOld && drop(toHex(info.id));
  });
  uint64_t total = 0;
  for (auto& info : *all) total += info.bytes;
  while (total > room && !all->empty()) {
    auto info = all->begin() + ptrdiff_t(leastWorthKeeping(*all));
    if (drop(toHex(info->id))) total -= info->bytes;
    all->erase(info);
  }
  held = total;
}

}  // namespace capstan::storage
