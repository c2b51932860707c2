// What lies under .capstan and in the synchroniser's state, damaged or made by somebody who means harm: the trash's
// journals, decoded and acted upon; what was agreed about a path; lists of chunks; tasks of jobs, and the journal of
// jobs that holds them. Whatever they say, reading ends with a value or an Error, what is written again is the same,
// and putting back what a run displaced reaches nothing outside the served folder. The first byte chooses.
#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include <kj/async-io.h>
#include <kj/debug.h>
#include <xxhash.h>

#include <capstan/base/log.h>
#include <capstan/base/text.h>
#include <capstan/server/compute/jobs/job-journal.h>
#include <capstan/server/compute/jobs/stored-task.h>
#include <capstan/storage/committer.h>
#include <capstan/storage/database.h>
#include <capstan/storage/mutation.h>
#include <capstan/storage/trash-journal.h>
#include <capstan/storage/trash.h>
#include <capstan/sync/state-record.h>

#include "fuzz.h"

namespace capstan::fuzz {
namespace {

namespace fs = std::filesystem;
using storage::RunRecord;

// A folder for the process, emptied for each input.
class Ground {
 public:
  Ground() {
    const char* parent = getenv("TMPDIR");
    place = std::string(parent != nullptr ? parent : fs::exists("/dev/shm") ? "/dev/shm" : "/tmp") + "/fuzz-XXXXXX";
    KJ_REQUIRE(mkdtemp(place.data()) != nullptr, "cannot make a folder");
    log::setSink([](log::Level, std::string_view) {});
  }
  ~Ground() {
    log::setSink({});
    clear();
    rmdir(place.c_str());
  }
  const std::string& path() const { return place; }
  void clear() {
    std::error_code ignored;
    for (auto& entry : fs::directory_iterator(place)) {
      // Modes are among what journals put back.
      fs::permissions(entry.path(), fs::perms::owner_all, fs::perm_options::add | fs::perm_options::nofollow, ignored);
      fs::remove_all(entry.path(), ignored);
    }
  }
  void write(const std::string& name, std::string_view content) {
    fs::create_directories(fs::path(place + "/" + name).parent_path());
    std::ofstream(place + "/" + name, std::ios::binary) << content;
  }
  std::string read(const std::string& name) {
    std::stringstream content;
    content << std::ifstream(place + "/" + name, std::ios::binary).rdbuf();
    return content.str();
  }

 private:
  std::string place;
};

Ground& ground() {
  static Ground instance;
  return instance;
}

// Records whose length and checksum are right, whatever is in them.
std::string framedRecords(Choices& choices) {
  std::string bytes;
  while (!choices.atEnd()) {
    std::string_view payload = choices.bytes(choices.below(256));
    uint32_t header[] = {uint32_t(payload.size()), uint32_t(XXH3_64bits(payload.data(), payload.size()))};
    bytes.append(reinterpret_cast<const char*>(header), sizeof(header)).append(payload);
  }
  return bytes;
}

void journalBytes(Choices& choices) {
  std::string bytes = choices.chance(2) ? std::string(choices.all()) : framedRecords(choices);
  auto journal = storage::decodeJournal(bytes);
  FUZZ_CHECK(journal.bytes <= bytes.size());
  std::string again;
  for (auto& record : journal.records) again += storage::encode(record);
  FUZZ_CHECK(storage::decodeJournal(again).records.size() == journal.records.size());
  storage::cutOff(journal.records);
}

void agreedRecord(Choices& choices) {
  std::string bytes(choices.all());
  sync::Agreed agreed;
  if (sync::decodeAgreed(agreed, bytes)) {
    std::string again;
    sync::encodeAgreed(again, agreed);
    sync::Agreed second;
    FUZZ_CHECK(sync::decodeAgreed(second, again));
    FUZZ_CHECK(second.remote.digest == agreed.remote.digest && second.local.mtime == agreed.local.mtime);
    FUZZ_CHECK(second.remote.size == agreed.remote.size && second.remote.stamp == agreed.remote.stamp);
  }
  if (auto chunks = sync::decodeChunks(bytes)) FUZZ_CHECK(sync::encodeChunks(*chunks) == bytes);
  std::string path;
  sync::assignPath(path, bytes);
  if (bytes.find('/') == std::string::npos) FUZZ_CHECK(sync::keyOf(path) == bytes);
}

void checkTask(const std::string& bytes) {
  auto task = server::compute::parseStoredTask(bytes);
  if (!task.ok()) {
    FUZZ_CHECK(task.error().code == ErrorCode::CORRUPT);
    return;
  }
  FUZZ_CHECK(server::compute::isComplete(*task));
  for (auto& name : server::compute::inputFilesOf(*task)) FUZZ_CHECK(name.find('/') == std::string::npos);
  std::string written = server::compute::serialize(*task);
  auto second = server::compute::parseStoredTask(written);
  FUZZ_CHECK(second.ok() && server::compute::serialize(*second) == written);
}

void storedTask(Choices& choices) { checkTask(std::string(choices.all())); }

std::string anyPath(Choices& choices) {
  static constexpr const char* PATHS[] = {
      "a",    "d",   "d/f",      "d/new",          "new/x",       "",       "..", "../secret", "out", "out/secret",
      "link", "abs", ".capstan", ".capstan/trash", "/etc/passwd", "d/../.."};
  unsigned choice = choices.below(20);
  if (choice < std::size(PATHS)) return PATHS[choice];
  return std::string(choices.bytes(choices.below(16)));
}

RunRecord anyRecord(Choices& choices) {
  RunRecord record;
  record.kind = RunRecord::Kind(choices.below(14));
  record.number = choices.chance(8) ? choices.number() : choices.below(4);
  record.time = int64_t(choices.below(256));
  record.path = anyPath(choices);
  record.from = anyPath(choices);
  record.after = choices.chance(2) ? std::string(choices.bytes(choices.below(8))) : std::string();
  record.type = EntryType(choices.below(6));
  record.mode = choices.chance(4) ? uint32_t(choices.number()) : 0700;
  record.mtime = int64_t(choices.below(256));
  record.inode = choices.below(4);
  record.placed = choices.below(4);
  return record;
}

constexpr const char* SECRET = "nobody may read, change or remove this\n";

// Runs as a server finds them at its start; then listed, restored and undone.
void trashFolder(Choices& choices) {
  Ground& place = ground();
  place.clear();
  place.write("secret", SECRET);
  std::string id(storage::bootId().size() >= 16 ? storage::bootId().substr(0, 16) : std::string(16, 'i'));
  std::string run = "root/.capstan/trash/" + toHex(id) + "/";
  place.write("root/a", "a");
  place.write("root/d/f", "f");
  place.write(run + "files/1", "displaced");
  place.write(run + "files/2/inner", "displaced too");
  std::error_code ignored;
  fs::create_symlink("..", place.path() + "/root/out", ignored);
  fs::create_symlink("../../../../../secret", place.path() + "/" + run + "files/3", ignored);
  std::string restored = anyPath(choices), to = anyPath(choices);
  std::string journal;
  while (!choices.atEnd() && journal.size() < 4096) journal += storage::encode(anyRecord(choices));
  place.write(run + "journal", journal);

  kj::EventLoop loop;
  kj::WaitScope waitScope(loop);
  auto root = storage::Root::open(place.path() + "/root");
  KJ_REQUIRE(root.ok(), root.error().message.c_str());
  auto staging = storage::Staging::open(**root, 1'000'000'000);
  KJ_REQUIRE(staging.ok(), staging.error().message.c_str());
  {
    auto trash = storage::Trash::open(**root, **staging, {});
    KJ_REQUIRE(trash.ok(), trash.error().message.c_str());
    storage::Committer committer(**root, **staging);
    auto submit = [&](std::vector<std::unique_ptr<storage::Mutation>> mutations, std::shared_ptr<storage::Run> under) {
      committer.submitAll(committer.takeTicket(&place), std::move(mutations), std::move(under)).wait(waitScope);
    };
    (void)(*trash)->runs();
    for (auto& which : {id, std::string()}) {
      auto page = (*trash)->list(which, "", "", 100);
      if (page.ok()) (void)(*trash)->list(which, "d", page->cursor, 1);
    }
    if (auto mutation = (*trash)->restore(id, restored, to); mutation.ok()) {
      std::vector<std::unique_ptr<storage::Mutation>> one;
      one.push_back(std::move(*mutation));
      submit(std::move(one), nullptr);
    }
    if (auto under = (*trash)->begin("", "undo", "fuzz"); under.ok()) {
      auto steps = (*trash)->undo(id, *under);
      if (steps.ok()) submit(std::move(*steps), *under);
    }
    (void)(*trash)->runs();
  }
  FUZZ_CHECK(place.read("secret") == SECRET);
  size_t names = 0;
  for (auto& entry : fs::directory_iterator(place.path())) names += entry.exists();
  FUZZ_CHECK(names == 2);
}

// The journal of jobs with values in its columns that nobody wrote, or with bytes that are no database.
void jobJournal(Choices& choices) {
  static constexpr const char* COLUMNS[] = {
      "id",          "grant_id",        "key",           "fingerprint",  "kind",
      "label",       "output",          "submitted",     "task",         "state",
      "started",     "ended",           "starts",        "placing_size", "placing_digest",
      "result_type", "result_encoding", "result_count",  "result_size",  "result_single",
      "result",      "error_code",      "error_message", "error_path",   "stops",
      "sequence"};
  Ground& place = ground();
  place.clear();
  std::string file = place.path() + "/journal.db";
  if (choices.chance(8)) {
    place.write("journal.db", choices.all());
  } else {
    { (void)server::compute::JobJournal::open(place.path()); }
    auto opened = storage::Database::open(file, {"the journal", "test"});
    KJ_REQUIRE(opened.ok(), opened.error().message.c_str());
    auto& database = *opened;
    for (unsigned row = 1; row < 4 && !choices.atEnd(); ++row) {
      storage::Statement insert(
          database,
          "INSERT INTO jobs (sequence, id, grant_id, key, fingerprint, kind, label, submitted, task, state)"
          " VALUES (?, ?, 'owner', x'', x'', 1, x'', 1, x'', 1)");
      std::string id = "job" + std::to_string(row);
      insert.bind(row).bindBytes(id);
      (void)insert.run();
      for (unsigned i = choices.below(4); i > 0; --i) {
        std::string column = COLUMNS[choices.below(std::size(COLUMNS))];
        storage::Statement change(database,
                                  "UPDATE jobs SET " + column + " = ? WHERE sequence = " + std::to_string(row));
        std::string_view bytes = choices.bytes(column == "task" ? choices.below(512) : choices.below(16));
        choices.chance(2) ? change.bind(int64_t(choices.number())) : change.bindBytes(bytes);
        (void)change.run();
      }
    }
  }
  auto journal = server::compute::JobJournal::open(place.path());
  if (!journal.ok()) return;
  for (auto& job : (*journal)->takeContents().jobs) checkTask(job.task);
}

}  // namespace
}  // namespace capstan::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace capstan::fuzz;
  // Those that touch the disk take a thousand times as long: fewer inputs are for them.
  constexpr void (*READERS[])(Choices&) = {journalBytes, agreedRecord, storedTask, trashFolder, jobJournal};
  Choices choices(data, size);
  READERS[choices.below(std::size(READERS))](choices);
  return 0;
}
