#include <capstan/sync/state-database.h>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <iterator>

#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/base/log.h>
#include <capstan/base/text.h>
#include <capstan/base/user-dirs.h>

namespace capstan::sync {

namespace {

using storage::Database;

// MIGRATIONS[i] leads from version i to version i + 1. One that was released is never changed.
constexpr const char* MIGRATIONS[] = {
    // What was agreed, in tree order. `size` and `content` (the first 8 bytes of the digest) only where a file with
    // the same content is worth looking for.
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE entries (key BLOB PRIMARY KEY, record BLOB NOT NULL, size INTEGER, content INTEGER) WITHOUT ROWID;"
    "CREATE INDEX entries_by_content ON entries (size, content) WHERE content IS NOT NULL;"
    "CREATE TABLE chunks (key BLOB PRIMARY KEY, digest BLOB NOT NULL, list BLOB NOT NULL);",
    // What two-way runs and unexplained extras need.
    "CREATE TABLE kept (key BLOB PRIMARY KEY) WITHOUT ROWID;"
    "CREATE TABLE conflicts (kept BLOB PRIMARY KEY, path BLOB NOT NULL, time INTEGER NOT NULL, reason TEXT NOT NULL)"
    " WITHOUT ROWID;",
};

constexpr const char* EXTENSION = ".db";
constexpr const char* DAMAGED = ".is-damaged";
constexpr uint64_t MAPPED_BYTES = 1 << 30;  // of address space

Database::Use useOf(bool readOnly) {
  Database::Use use;
  use.what = "the synchroniser's state";
  use.whenBusy = "process that synchronises the same folders";
  use.exclusive = false;
  use.checked = false;
  use.flushed = false;
  use.readOnly = readOnly;
  use.mapped = MAPPED_BYTES;
  return use;
}

Status migrate(Database& database) {
  for (int64_t version = database.number("PRAGMA user_version"); version < STATE_VERSION; ++version) {
    std::string sql = "BEGIN IMMEDIATE;" + std::string(MIGRATIONS[version]) +
                      "PRAGMA user_version = " + std::to_string(version + 1) + "; COMMIT;";
    Status status = database.execute(sql.c_str());
    if (status.ok()) continue;
    (void)database.execute("ROLLBACK");
    return status;
  }
  return okStatus();
}

// Reads a little of each table: enough to notice a file that is no database, cut off, or not ours. More is noticed
// where it is used; reading everything would take as long as a look at the tree.
Status probe(Database& database) {
  for (const char* sql : {"SELECT count(*) FROM (SELECT key, record FROM entries LIMIT 1)",
                          "SELECT count(*) FROM (SELECT key FROM chunks LIMIT 1)", "SELECT count(*) FROM meta",
                          "SELECT count(*) FROM kept", "SELECT count(*) FROM conflicts"}) {
    Status status = database.execute(sql);
    // A missing table is "SQL logic error", which failure() calls io.
    if (!status.ok()) return Error{ErrorCode::CORRUPT, status.error().message, {}};
  }
  return okStatus();
}

Result<Database> openLatest(const std::string& file) {
  auto database = Database::open(file, useOf(false));
  if (!database.ok()) return database.error();
  int64_t version = database->number("PRAGMA user_version");
  if (version < 0 || version > STATE_VERSION) {
    return Error{ErrorCode::CORRUPT, "the synchroniser's state was written by a newer version of this program", {}};
  }
  Status status = migrate(*database);
  if (status.ok()) status = probe(*database);
  if (!status.ok()) return status.error();
  return database;
}

// Renames it and what SQLite keeps beside it to NAME.damaged-TIME.
Status moveAside(const std::string& file) {
  std::string to = file + ".damaged-" + std::to_string(time(nullptr));
  for (const char* suffix : {"", "-wal", "-shm"}) {
    if (rename((file + suffix).c_str(), (to + suffix).c_str()) == 0 || errno == ENOENT) continue;
    return errorFromErrno(errno, "cannot move the damaged state aside:", file);
  }
  unlink((file + DAMAGED).c_str());
  return okStatus();
}

Result<kj::AutoCloseFd> lockFor(const std::string& file) {
  std::string path = file + ".lock";
  kj::AutoCloseFd lock(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (lock.get() < 0) return errorFromErrno(errno, "cannot make", path);
  if (flock(lock, LOCK_EX | LOCK_NB) == 0) return kj::mv(lock);
  if (errno != EWOULDBLOCK) return errorFromErrno(errno, "cannot lock", path);
  return Error{ErrorCode::CONFLICT, "another process synchronises the same folders; stop that one first", {}};
}

}  // namespace

const int64_t STATE_VERSION = std::size(MIGRATIONS);

std::string stateFolderOr(const std::string& folder) { return folder.empty() ? userStateFolder() + "/sync" : folder; }

std::string stateFileOf(const std::string& folder, const State::Pair& pair) {
  Hasher hasher(DigestAlgorithm::SHA256);
  for (const std::string* part : {&pair.local, &pair.server, &pair.remote}) {
    hasher.update(*part);
    hasher.update(std::string_view("\0", 1));
  }
  return folder + "/" + toHex(hasher.digest()).substr(0, 32) + EXTENSION;
}

std::vector<std::string> stateFilesIn(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == EXTENSION) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

Result<StateFile> openStateFile(const std::string& file) {
  auto lock = lockFor(file);
  if (!lock.ok()) return lock.error();
  bool isMarked = access((file + DAMAGED).c_str(), F_OK) == 0;
  if (!isMarked) {
    auto database = openLatest(file);
    if (database.ok()) return StateFile{kj::mv(*lock), std::move(*database), false};
    if (database.error().code != ErrorCode::CORRUPT) return database.error();
    log::warning(database.error().message, "; it is moved aside, and everything counts as new");
  }
  Status moved = moveAside(file);
  if (!moved.ok()) return moved.error();
  auto database = openLatest(file);
  if (!database.ok()) return database.error();
  return StateFile{kj::mv(*lock), std::move(*database), true};
}

Result<Database> openStateToRead(const std::string& file) { return Database::open(file, useOf(true)); }

Result<Database> openStateInMemory() { return openLatest(Database::IN_MEMORY); }

void markDamaged(const std::string& file) {
  kj::AutoCloseFd fd(open((file + DAMAGED).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

}  // namespace capstan::sync
