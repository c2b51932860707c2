// What a crash in the middle of a displacement left, put right: each intent has either happened, or is taken back.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>
#include <unordered_map>

#include <capstan/base/file.h>
#include <capstan/base/log.h>
#include <capstan/base/number.h>
#include <capstan/storage/staging.h>
#include <capstan/storage/trash-run.h>
#include <capstan/storage/version.h>

namespace capstan::storage {

namespace {

class Settling {
 public:
  static void describe(RunRecord& record, const struct stat& status) {
    Entry entry = entryFrom(status);
    record.type = entry.type;
    record.mode = entry.mode;
    record.mtime = entry.mtime;
    record.inode = status.st_ino;
  }

  Settling(const Root& root, Staging& staging, int trash, int files)
      : root(root), staging(staging), trash(trash), files(files) {}

  // What is to be added to the journal for the intent.
  std::string settle(const RunRecord& intent) {
    std::string name = std::to_string(intent.number);
    struct stat found;
    bool there = fstatat(files, name.c_str(), &found, AT_SYMLINK_NOFOLLOW) == 0;
    if (!there && !intent.from.empty() && finishRename(intent, name)) {
      there = fstatat(files, name.c_str(), &found, AT_SYMLINK_NOFOLLOW) == 0;
    }
    if (!there) return nothing(intent);
    struct stat now;
    bool occupied = lookAt(intent.path, now);
    if (occupied && now.st_ino == found.st_ino) {  // a second name, made before the first was to go
      unlinkat(files, name.c_str(), 0);
      return nothing(intent);
    }
    if (found.st_ino != intent.inode && found.st_ino == intent.placed) {  // what was to take the place
      if (intent.after.empty() || renameat2(files, name.c_str(), trash, intent.after.c_str(), RENAME_NOREPLACE) < 0) {
        if (intent.after.empty()) staging.throwAway(files, name);
      }
      return nothing(intent);
    }
    // What was displaced; or what another program had put there in the meantime, which is nobody's to delete.
    RunRecord done = intent;
    done.placed = 0;
    done.kind = occupied && intent.from.empty() ? RunRecord::Kind::REPLACED : RunRecord::Kind::REMOVED;
    done.after = occupied && done.kind == RunRecord::Kind::REPLACED ? versionOf(now) : Version();
    done.from.clear();
    describe(done, found);
    std::string records = encode(done);
    if (!occupied || intent.from.empty()) return records;
    done.kind = RunRecord::Kind::MOVED;
    done.number = 0;
    done.from = intent.from;
    done.after = versionOf(now);
    describe(done, now);
    return records + encode(done);
  }

 private:
  static std::string nothing(const RunRecord& intent) {
    RunRecord record = intent;
    record.kind = RunRecord::Kind::VOID;
    return encode(record);
  }
  bool lookAt(const std::string& path, struct stat& status) const {
    auto found = root.stat(path);
    if (found.ok()) status = *found;
    return found.ok();
  }
  // What a rename displaced stands where it came from for a moment.
  bool finishRename(const RunRecord& intent, const std::string& name) const {
    auto place = root.locate(intent.from);
    struct stat found;
    if (!place.ok() || fstatat(place->folder, place->name.c_str(), &found, AT_SYMLINK_NOFOLLOW) < 0) return false;
    struct stat target;
    bool exchanged = found.st_ino == intent.inode && lookAt(intent.path, target) && target.st_ino != found.st_ino;
    return exchanged && renameat2(place->folder, place->name.c_str(), files, name.c_str(), RENAME_NOREPLACE) == 0;
  }

  const Root& root;
  Staging& staging;
  const int trash;
  const int files;
};

// Records for what is in the folder of displaced things and in no record: the end of the journal was lost, and with it
// where it came from.
std::string adopt(int files, const std::vector<RunRecord>& known) {
  std::set<std::string> recorded;
  for (auto& record : known) recorded.insert(std::to_string(record.number));
  std::string records;
  DIR* dir = fdopendir(openat(files, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (dir == nullptr) return records;
  while (dirent* entry = readdir(dir)) {
    std::string name = entry->d_name;
    auto number = parseInt(name);
    struct stat found;
    if (!number || *number <= 0 || std::to_string(*number) != name || recorded.contains(name)) continue;
    if (fstatat(files, name.c_str(), &found, AT_SYMLINK_NOFOLLOW) < 0) continue;
    RunRecord record;
    record.kind = RunRecord::Kind::REMOVED;
    record.number = uint64_t(*number);
    record.time = nowNanoseconds();
    record.path = "recovered-" + name;
    Settling::describe(record, found);
    records += encode(record);
  }
  closedir(dir);
  return records;
}

}  // namespace

void settleIntents(const Root& root, Staging& staging, int trash, int files, int journal) {
  auto known = readJournal(journal);
  if (!known.ok()) return;
  std::unordered_map<uint64_t, const RunRecord*> open;
  for (auto& record : known->records) {
    if (record.kind == RunRecord::Kind::INTENT) {
      open[record.number] = &record;
    } else if (record.kind != RunRecord::Kind::CREATED) {
      open.erase(record.number);
    }
  }
  Settling settling(root, staging, trash, files);
  std::string records;
  for (auto& record : known->records) {
    auto found = open.find(record.number);
    if (found != open.end() && found->second == &record) records += settling.settle(record);
  }
  CutOff cut = cutOff(known->records);
  if (cut != CutOff::NO) records += adopt(files, known->records);
  // The tree may have kept what its journal has lost.
  bool mayLack = cut == CutOff::WITH_SYSTEM && !hasGaps(journal);
  if (mayLack && fchmod(journal, JOURNAL_WITH_GAPS) == 0) fsync(journal);
  if (records.empty()) return;
  if (ftruncate(journal, off_t(known->bytes)) < 0 || write(journal, records.data(), records.size()) < 0 ||
      fsync(journal) < 0) {
    log::warning("a run in the trash could not be put right after a crash");
  }
}

}  // namespace capstan::storage
