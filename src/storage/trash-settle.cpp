// What a crash in the middle of a displacement left, put right: each intent has either happened, or is taken back.
#include <fcntl.h>
#include <unistd.h>

#include <unordered_map>

#include <capstan/base/file.h>
#include <capstan/base/log.h>
#include <capstan/storage/staging.h>
#include <capstan/storage/trash-run.h>
#include <capstan/storage/version.h>

namespace capstan::storage {

namespace {

class Settling {
 public:
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
  static void describe(RunRecord& record, const struct stat& status) {
    Entry entry = entryFrom(status);
    record.type = entry.type;
    record.mode = entry.mode;
    record.mtime = entry.mtime;
    record.inode = status.st_ino;
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
  if (records.empty()) return;
  if (ftruncate(journal, off_t(known->bytes)) < 0 || write(journal, records.data(), records.size()) < 0 ||
      fsync(journal) < 0) {
    log::warning("a run in the trash could not be put right after a crash");
  }
}

}  // namespace capstan::storage
