#include <capstan/server/compute/jobs/job-journal.h>

#include <cerrno>
#include <cstdio>

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <iterator>
#include <mutex>
#include <thread>

#include <capstan/base/digest.h>
#include <capstan/base/log.h>
#include <capstan/base/text.h>
#include <capstan/server/compute/jobs/compute-folder.h>
#include <capstan/storage/database.h>

namespace capstan::server::compute {

using storage::Database;
using storage::Statement;

namespace {

const Database::Use USE{"the journal of the jobs", "server; stop that one, or serve another folder"};

// MIGRATIONS[v] makes a database of version v one of version v + 1. Only ever appended to.
constexpr const char* MIGRATIONS[] = {
    "CREATE TABLE jobs ("
    "  sequence INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, grant_id BLOB NOT NULL, key BLOB NOT NULL,"
    "  fingerprint BLOB NOT NULL, kind INTEGER NOT NULL, label BLOB NOT NULL, output BLOB, submitted INTEGER NOT NULL,"
    "  task BLOB NOT NULL, state INTEGER NOT NULL, started INTEGER NOT NULL DEFAULT 0,"
    "  ended INTEGER NOT NULL DEFAULT 0, starts INTEGER NOT NULL DEFAULT 0,"
    "  placing_size INTEGER NOT NULL DEFAULT 0, placing_digest BLOB NOT NULL DEFAULT x'',"
    "  result_type INTEGER NOT NULL DEFAULT 0, result_encoding INTEGER NOT NULL DEFAULT 0,"
    "  result_count INTEGER NOT NULL DEFAULT 0, result_size INTEGER NOT NULL DEFAULT 0,"
    "  result_single INTEGER NOT NULL DEFAULT 0, result BLOB,"
    "  error_code INTEGER NOT NULL DEFAULT 0, error_message BLOB NOT NULL DEFAULT x'',"
    "  error_path BLOB NOT NULL DEFAULT x'');"
    "CREATE TABLE tombstones (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL, grant_id BLOB NOT NULL,"
    "  buried INTEGER NOT NULL);",
    "ALTER TABLE jobs ADD COLUMN stops INTEGER NOT NULL DEFAULT 0;",
};
constexpr int64_t VERSION = std::size(MIGRATIONS);

constexpr char SELECT_JOBS[] =
    "SELECT sequence, id, grant_id, key, fingerprint, kind, label, output, submitted, task, state, started, ended,"
    "  starts, placing_size, placing_digest, result_type, result_encoding, result_count, result_size, result_single,"
    "  result, error_code, error_message, error_path, stops FROM jobs ORDER BY sequence";
constexpr char INSERT_JOB[] =
    "INSERT INTO jobs (sequence, id, grant_id, key, fingerprint, kind, label, output, submitted, task, state)"
    "  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
constexpr char UPDATE_JOB[] =
    "UPDATE jobs SET state = ?, started = ?, ended = ?, starts = ?, placing_size = ?, placing_digest = ?,"
    "  result_type = ?, result_encoding = ?, result_count = ?, result_size = ?, result_single = ?, result = ?,"
    "  error_code = ?, error_message = ?, error_path = ?, stops = ?, task = iif(?, x'', task) WHERE sequence = ?";

// The journal of another folder becomes part of this one: jobs that are known already, or were once, came by an earlier
// try that was killed before it had removed the file.
#define CAPSTAN_JOB_COLUMNS                                                                                            \
  "id, grant_id, key, fingerprint, kind, label, output, submitted, task, state, started, ended, starts, placing_size," \
  "  placing_digest, result_type, result_encoding, result_count, result_size, result_single, result, error_code,"      \
  "  error_message, error_path, stops"
constexpr char IMPORT[] =
    "BEGIN IMMEDIATE;"
    "INSERT INTO jobs (sequence, " CAPSTAN_JOB_COLUMNS
    ")"
    "  SELECT (SELECT coalesce(max(sequence), 0) FROM main.jobs) + row_number() OVER (ORDER BY sequence)"
    "    , " CAPSTAN_JOB_COLUMNS
    "  FROM other.jobs WHERE id NOT IN (SELECT id FROM main.jobs) AND id NOT IN (SELECT id FROM main.tombstones);"
    "INSERT INTO main.tombstones (id, grant_id, buried) SELECT id, grant_id, buried FROM other.tombstones"
    "  WHERE id NOT IN (SELECT id FROM main.tombstones) ORDER BY number;"
    "COMMIT";
#undef CAPSTAN_JOB_COLUMNS

constexpr std::string_view NAME = "/journal.db";

Status checkVersion(Database& database) {
  if (database.number("PRAGMA user_version") <= VERSION) return okStatus();
  return Error{ErrorCode::UNSUPPORTED,
               "the journal of the jobs was written by a later version of Capstan; use that one, or move the journal "
               "away",
               {}};
}

Status migrate(Database& database) {
  Status known = checkVersion(database);
  if (!known.ok()) return known;
  int64_t version = database.number("PRAGMA user_version");
  for (; version < VERSION; ++version) {
    std::string step = "BEGIN;" + std::string(MIGRATIONS[version]) +
                       "PRAGMA user_version = " + std::to_string(version + 1) + "; COMMIT;";
    Status status = database.execute(step.c_str());
    if (!status.ok()) return status;
  }
  return okStatus();
}

JobJournal::Job jobIn(const Statement& row) {
  JobJournal::Job job;
  int column = 0;
  auto number = [&]() { return row.number(column++); };
  auto bytes = [&]() { return row.bytes(column++); };
  auto optionalBytes = [&]() -> std::optional<std::string> {
    if (row.isNull(column)) return ++column, std::nullopt;
    return bytes();
  };
  job.origin.sequence = uint64_t(number());
  job.origin.id = bytes();
  job.origin.grant = bytes();
  job.origin.key = bytes();
  job.origin.fingerprint = bytes();
  job.origin.kind = JobKind(number());
  job.origin.label = bytes();
  job.origin.output = optionalBytes();
  job.origin.submitted = number();
  job.task = bytes();
  auto& progress = job.progress;
  progress.state = JobState(number());
  progress.started = number();
  progress.ended = number();
  progress.starts = uint32_t(number());
  progress.placing.size = uint64_t(number());
  progress.placing.digest = bytes();
  progress.result.type = ElementType(number());
  progress.result.encoding = Encoding(number());
  progress.result.count = uint64_t(number());
  progress.result.bytes = uint64_t(number());
  progress.result.single = number() != 0;
  progress.resultBytes = optionalBytes();
  progress.error.code = ErrorCode(number());
  progress.error.message = bytes();
  progress.error.path = bytes();
  progress.stops = uint32_t(number());
  return job;
}

Result<JobJournal::Contents> load(Database& database, int64_t now) {
  JobJournal::Contents contents;
  Statement jobs(database, SELECT_JOBS);
  while (true) {
    auto row = jobs.step();
    if (!row.ok()) return row.error();
    if (!*row) break;
    contents.jobs.push_back(jobIn(jobs));
  }
  Statement tombstones(database, "SELECT id, grant_id, buried FROM tombstones WHERE buried >= ? ORDER BY number");
  tombstones.bind(now - TOMBSTONE_TIME);
  while (true) {
    auto row = tombstones.step();
    if (!row.ok()) return row.error();
    if (!*row) return contents;
    contents.tombstones.push_back({tombstones.bytes(0), tombstones.bytes(1), tombstones.number(2)});
  }
}

Status import(Database& database, const std::string& path) {
  {
    auto other = Database::open(path, USE);
    Status status = other.ok() ? migrate(*other) : Status(other.error());
    if (!status.ok()) return status;
  }
  {
    Statement attach(database, "ATTACH ? AS other");
    Status attached = attach.bindBytes(path).run();
    if (!attached.ok()) return attached;
  }
  Status imported = database.execute(IMPORT);
  if (!imported.ok()) (void)database.execute("ROLLBACK");
  Status detached = database.execute("DETACH other");
  if (!imported.ok()) return imported;
  if (unlink(path.c_str()) < 0) return errorFromErrno(errno, "cannot remove", path);
  return detached;
}

Status moveAside(const std::string& path, int64_t now) {
  std::string aside = path + ".damaged-" + std::to_string(now);
  for (const char* suffix : {"-wal", "-shm", "-journal", ""}) {
    bool moved = rename((path + suffix).c_str(), (aside + suffix).c_str()) == 0;
    if (!moved && errno != ENOENT) return errorFromErrno(errno, "cannot move aside", path + suffix);
  }
  return okStatus();
}

// What cannot be read does not keep the server from starting; the next one tries again, unless it is damaged.
void importAll(Database& database, const std::string& folder, int64_t now) {
  std::error_code failure;
  std::vector<std::string> paths;
  for (auto& entry : std::filesystem::directory_iterator(folder, failure)) {
    if (isAdoptedJournal(entry.path().filename().string())) paths.push_back(entry.path().string());
  }
  for (auto& path : paths) {
    Status status = import(database, path);
    if (status.ok()) continue;
    log::error("the jobs in ", escapeForTerminal(path).c_str(),
               " cannot be taken over: ", status.error().message.c_str());
    if (status.error().code != ErrorCode::CORRUPT) continue;
    Status moved = moveAside(path, now);
    if (!moved.ok()) log::error(moved.error().message.c_str());
  }
}

// The database with the statements that change it. Belongs to the writer's thread once that runs.
class Writer {
 public:
  explicit Writer(Database opened)
      : database(std::move(opened)),
        insert(database, INSERT_JOB),
        change(database, UPDATE_JOB),
        erase(database, "DELETE FROM jobs WHERE sequence = ?"),
        mark(database, "INSERT INTO tombstones (id, grant_id, buried) VALUES (?, ?, ?)"),
        sweepOld(database, "DELETE FROM tombstones WHERE buried < ?"),
        sweepMany(database, "DELETE FROM tombstones WHERE number <= (SELECT max(number) FROM tombstones) - ?") {}

  Database database;

  Status add(const JobOrigin& origin, const std::string& task) {
    insert.bind(int64_t(origin.sequence)).bindBytes(origin.id).bindBytes(origin.grant).bindBytes(origin.key);
    insert.bindBytes(origin.fingerprint).bind(int64_t(origin.kind)).bindBytes(origin.label);
    bindOptional(insert, origin.output).bind(origin.submitted).bindBytes(task);
    return insert.bind(int64_t(JobState::QUEUED)).run();
  }

  Status update(uint64_t sequence, const JobProgress& progress) {
    change.bind(int64_t(progress.state)).bind(progress.started).bind(progress.ended).bind(progress.starts);
    change.bind(int64_t(progress.placing.size)).bindBytes(progress.placing.digest);
    auto& result = progress.result;
    change.bind(int64_t(result.type)).bind(int64_t(result.encoding)).bind(int64_t(result.count));
    bindOptional(change.bind(int64_t(result.bytes)).bind(result.single), progress.resultBytes);
    change.bind(int64_t(progress.error.code)).bindBytes(progress.error.message).bindBytes(progress.error.path);
    change.bind(progress.stops);
    return change.bind(hasEnded(progress.state)).bind(int64_t(sequence)).run();
  }

  Status remove(uint64_t sequence) { return erase.bind(int64_t(sequence)).run(); }

  Status bury(uint64_t sequence, const JobJournal::Tombstone& tombstone) {
    Status status = remove(sequence);
    if (status.ok()) status = mark.bindBytes(tombstone.id).bindBytes(tombstone.grant).bind(tombstone.when).run();
    if (status.ok()) status = sweepOld.bind(tombstone.when - TOMBSTONE_TIME).run();
    if (status.ok()) status = sweepMany.bind(int64_t(MAX_TOMBSTONES)).run();
    return status;
  }

 private:
  Statement insert, change, erase, mark, sweepOld, sweepMany;

  static Statement& bindOptional(Statement& statement, const std::optional<std::string>& bytes) {
    return bytes ? statement.bindBytes(*bytes) : statement.bindNull();
  }
};

class JobJournalImpl final : public JobJournal {
 public:
  JobJournalImpl(Database database, Contents contents)
      : contents(std::move(contents)), writer(std::move(database)), thread([this]() { work(); }) {}

  ~JobJournalImpl() noexcept(false) {
    {
      std::lock_guard lock(mutex);
      ending = true;
    }
    wakeUp.notify_one();
    thread.join();
  }

  Contents takeContents() override { return std::move(contents); }

  void add(JobOrigin origin, std::string task, Then then) override {
    enqueue([origin = std::move(origin), task = std::move(task)](Writer& to) { return to.add(origin, task); },
            std::move(then));
  }
  void update(uint64_t sequence, JobProgress progress, Then then) override {
    enqueue([sequence, progress = std::move(progress)](Writer& to) { return to.update(sequence, progress); },
            std::move(then));
  }
  void remove(uint64_t sequence, Then then) override {
    enqueue([sequence](Writer& to) { return to.remove(sequence); }, std::move(then));
  }
  void bury(uint64_t sequence, Tombstone tombstone, Then then) override {
    enqueue([sequence, tombstone = std::move(tombstone)](Writer& to) { return to.bury(sequence, tombstone); },
            std::move(then));
  }

  Figures figures() const override { return {changes.load(), transactions.load()}; }

 private:
  struct Change {
    std::function<Status(Writer&)> apply;
    Then then;
  };

  Contents contents;  // until they are taken
  std::atomic<uint64_t> changes{0};
  std::atomic<uint64_t> transactions{0};

  // protected by mutex
  std::mutex mutex;
  std::condition_variable wakeUp;
  std::vector<Change> waiting;
  bool ending = false;

  Writer writer;  // the thread's
  std::thread thread;

  void enqueue(std::function<Status(Writer&)> apply, Then then) {
    {
      std::lock_guard lock(mutex);
      waiting.push_back({std::move(apply), std::move(then)});
    }
    wakeUp.notify_one();
  }

  void work() {
    pthread_setname_np(pthread_self(), "capstan-journal");
    std::unique_lock lock(mutex);
    while (true) {
      wakeUp.wait(lock, [this]() { return ending || !waiting.empty(); });
      if (waiting.empty()) return;
      std::vector<Change> taken;
      taken.swap(waiting);
      lock.unlock();
      write(taken);
      taken.clear();  // what the changes own is released outside of the lock
      lock.lock();
    }
  }

  void write(std::vector<Change>& taken) {
    Status status = transact(taken.data(), taken.size());
    for (auto& change : taken) {
      // One that cannot be written does not keep the others from it: a small one may find room where a large one does
      // not.
      change.then(status.ok() || taken.size() == 1 ? status : transact(&change, 1));
    }
  }

  Status transact(Change* first, size_t count) {
    Status status = writer.database.execute("BEGIN IMMEDIATE");
    for (size_t i = 0; i < count && status.ok(); ++i) status = first[i].apply(writer);
    if (status.ok()) status = writer.database.execute("COMMIT");
    if (status.ok()) {
      transactions.fetch_add(1);
      changes.fetch_add(count);
    } else {
      // After some failures SQLite has rolled back by itself, and refuses to do it again.
      (void)writer.database.execute("ROLLBACK");
    }
    return status;
  }
};

Result<std::unique_ptr<JobJournal>> tryOpen(const std::string& folder, const JournalOptions& options, int64_t now) {
  auto database = Database::open(folder + std::string(NAME), USE);
  if (!database.ok()) return database.error();
  Status status = migrate(*database);
  if (!status.ok()) return status.error();
  if (options.maxBytes > 0) {
    int64_t pages = int64_t(options.maxBytes) / database->number("PRAGMA page_size");
    database->number(("PRAGMA max_page_count = " + std::to_string(pages)).c_str());
  }
  importAll(*database, folder, now);
  auto contents = load(*database, now);
  if (!contents.ok()) return contents.error();
  return std::unique_ptr<JobJournal>(std::make_unique<JobJournalImpl>(std::move(*database), std::move(*contents)));
}

}  // namespace

Result<std::unique_ptr<JobJournal>> JobJournal::open(const std::string& folder, JournalOptions options) {
  std::string path = folder + std::string(NAME);
  int64_t now = wallClock();
  auto journal = tryOpen(folder, options, now);
  if (journal.ok() || journal.error().code != ErrorCode::CORRUPT) return journal;
  log::error(journal.error().message.c_str(), "; it is moved aside to ", escapeForTerminal(path).c_str(), ".damaged-",
             now, ", and the jobs in it are lost");
  Status moved = moveAside(path, now);
  if (!moved.ok()) return moved.error();
  return tryOpen(folder, options, now);
}

Result<bool> JobJournal::makeMovable(const std::string& folder) {
  std::string path = folder + std::string(NAME);
  if (access(path.c_str(), F_OK) < 0) {
    if (errno == ENOENT) return false;
    return errorFromErrno(errno, "cannot look at", path);
  }
  {
    auto database = Database::open(path, USE);
    Status status = database.ok() ? checkVersion(*database) : Status(database.error());
    if (status.ok()) status = database->execute("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE");
    if (!status.ok()) return status.error();
  }
  if (access((path + "-wal").c_str(), F_OK) < 0 && errno == ENOENT) return true;
  return errorAt(ErrorCode::IO, path, "cannot write all of the log of ", " into it");
}

Status JobJournal::move(const std::string& from, const std::string& to) {
  std::string path = from + std::string(NAME);
  std::string name = std::string(ADOPTED_PREFIX) + toHex(randomBytes(8)) + ".db";
  if (rename(path.c_str(), (to + "/" + name).c_str()) == 0) return okStatus();
  return errorFromErrno(errno, "cannot move", path);
}

}  // namespace capstan::server::compute
