#include <capstan/storage/trash-impl.h>

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>

#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/base/log.h>
#include <capstan/base/path.h>
#include <capstan/base/text.h>
#include <capstan/storage/staging.h>

namespace capstan::storage {

namespace {

constexpr int OPEN_FOLDER = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr size_t RUN_ID_BYTES = 16;

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
  stop();
  thread.join();
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
  Status looked = bounds.empty() ? okStatus() : lookOnce();
  if (!looked.ok()) return looked.error();
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

Result<std::vector<std::string>> TrashImpl::select(const std::string& run, const RunScope& scope) {
  if (!run.empty()) return std::vector<std::string>{toHex(run)};
  Looking looking{.sizes = false};
  std::vector<std::string> names;
  for (auto& info : look(scope, looking)) names.push_back(toHex(info.id));
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
  Looking looking{.isPatient = true};
  auto all = look({}, looking);
  if (!looking.isWhole) return;  // the trash is about to be closed
  looked = true;
  keepBounds();
  std::erase_if(all, [&](const RunInfo& info) { return !isKept(toHex(info.id)); });
  struct statvfs disk;
  uint64_t room = UINT64_MAX;
  if (fstatvfs(trash, &disk) == 0) room = uint64_t(double(disk.f_blocks) * double(disk.f_frsize) * limits.share);
  int64_t now = nowNanoseconds();
  std::erase_if(all, [&](const RunInfo& info) {
    bool isOld = now > info.ended && uint64_t(now - info.ended) > limits.time;
    return isOld && drop(toHex(info.id));
  });
  uint64_t total = 0;
  for (auto& info : all) total += info.bytes;
  while (total > room && !all.empty()) {
    auto info = all.begin() + ptrdiff_t(leastWorthKeeping(all));
    if (drop(toHex(info->id))) total -= info->bytes;
    all.erase(info);
  }
  held = total;
}

}  // namespace capstan::storage
