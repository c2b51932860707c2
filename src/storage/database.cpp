#include <capstan/storage/database.h>

#include <cerrno>

#include <fcntl.h>
#include <sqlite3.h>

#include <kj/debug.h>
#include <kj/io.h>

#include <capstan/base/text.h>

namespace capstan::storage {

namespace {

// How long to wait for a server that is about to end. It holds the lock to its last moment.
constexpr int BUSY_MILLISECONDS = 2000;

// No shared-memory file is needed with an exclusive lock, and no other process can write beside this one.
constexpr char EXCLUSIVE[] = "PRAGMA locking_mode = EXCLUSIVE;";

// FULL: each transaction is flushed when COMMIT returns; NORMAL: only checkpoints are, in the right order.
constexpr char FLUSHED[] = "PRAGMA synchronous = FULL;";
constexpr char NOT_FLUSHED[] = "PRAGMA synchronous = NORMAL;";

// Checkpoints leave a log that does not stay larger than 4 MiB.
constexpr char SETTINGS[] =
    "PRAGMA journal_mode = WAL;"
    "PRAGMA journal_size_limit = 4194304;"
    "PRAGMA cell_size_check = ON;"
    "PRAGMA trusted_schema = OFF;"
    "BEGIN IMMEDIATE; COMMIT;";

}  // namespace

Database::~Database() {
  if (db != nullptr) sqlite3_close_v2(db);
}

Error Database::failure(int code) const {
  int system = db == nullptr ? 0 : sqlite3_system_errno(db);
  if ((code & 0xFF) == SQLITE_FULL || system == ENOSPC || system == EDQUOT) {
    return {ErrorCode::NO_SPACE, "cannot write " + use.what + ": the disk is full", {}};
  }
  std::string reason = escapeForTerminal(db == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(db));
  switch (code & 0xFF) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return {ErrorCode::CORRUPT, use.what + " is damaged: " + reason, {}};
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return {ErrorCode::CONFLICT, use.what + " is in use by another " + use.whenBusy, {}};
    default: return {ErrorCode::IO, "cannot use " + use.what + ": " + reason, {}};
  }
}

Result<Database> Database::open(const std::string& path, Use use) {
  // Made here for its mode: SQLite's other files take theirs from it. One that is there is not touched: closing it
  // would release the locks that this process may have on it.
  if (!use.readOnly && path != IN_MEMORY) {
    kj::AutoCloseFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (fd.get() < 0 && errno != EEXIST) return errorFromErrno(errno, "cannot make", path);
  }

  Database database;
  database.use = std::move(use);
  int access = database.use.readOnly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
  int flags = access | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  int code = sqlite3_open_v2(path.c_str(), &database.db, flags, nullptr);
  if (code != SQLITE_OK) return database.failure(code);
  Status status = database.configure();
  if (!status.ok()) return status.error();
  return database;
}

Status Database::configure() {
  sqlite3_busy_timeout(db, BUSY_MILLISECONDS);
  Status status = use.exclusive ? execute(EXCLUSIVE) : okStatus();
  if (status.ok() && use.mapped != 0) {
    status = execute(("PRAGMA mmap_size = " + std::to_string(use.mapped)).c_str());
  }
  if (status.ok() && !use.readOnly) status = execute(use.flushed ? FLUSHED : NOT_FLUSHED);
  if (status.ok() && !use.readOnly) status = execute(SETTINGS);
  return status.ok() && use.checked ? check() : status;
}

Status Database::check() {
  Statement statement(*this, "PRAGMA quick_check(1)");
  auto row = statement.step();
  if (!row.ok()) return row.error();
  std::string found = *row ? statement.bytes(0) : "it answers nothing";
  if (found == "ok") return okStatus();
  return Error{ErrorCode::CORRUPT, use.what + " is damaged: " + escapeForTerminal(found), {}};
}

Status Database::execute(const char* sql) {
  int code = sqlite3_exec(db, sql, nullptr, nullptr, nullptr);
  if (code == SQLITE_OK) return okStatus();
  return failure(code);
}

int64_t Database::number(const char* sql) {
  Statement statement(*this, sql);
  auto row = statement.step();
  return row.ok() && *row ? statement.number(0) : 0;
}

int64_t Database::changedRows() const { return sqlite3_changes(db); }

Statement::Statement(Database& database, std::string_view sql) : database(database) {
  failed = sqlite3_prepare_v2(database.db, sql.data(), int(sql.size()), &statement, nullptr);
  KJ_REQUIRE(failed != SQLITE_ERROR, sqlite3_errmsg(database.db));
}

Statement::~Statement() { sqlite3_finalize(statement); }

Statement& Statement::bind(int64_t number) {
  if (failed == SQLITE_OK) failed = sqlite3_bind_int64(statement, ++bound, number);
  return *this;
}

Statement& Statement::bindBytes(std::string_view bytes) {
  // A null pointer would be NULL, not empty.
  const char* begin = bytes.empty() ? "" : bytes.data();
  if (failed == SQLITE_OK) failed = sqlite3_bind_blob64(statement, ++bound, begin, bytes.size(), SQLITE_STATIC);
  return *this;
}

Statement& Statement::bindNull() {
  if (failed == SQLITE_OK) failed = sqlite3_bind_null(statement, ++bound);
  return *this;
}

Result<bool> Statement::step() {
  if (failed != SQLITE_OK) return database.failure(failed);
  int code = sqlite3_step(statement);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return database.failure(code);
}

Status Statement::run() {
  auto row = step();
  reset();
  if (!row.ok()) return row.error();
  return okStatus();
}

void Statement::reset() {
  bound = 0;
  if (statement == nullptr) return;
  failed = SQLITE_OK;
  sqlite3_reset(statement);
}

int64_t Statement::number(int column) const { return sqlite3_column_int64(statement, column); }

std::string Statement::bytes(int column) const { return std::string(view(column)); }

std::string_view Statement::view(int column) const {
  auto begin = static_cast<const char*>(sqlite3_column_blob(statement, column));
  if (begin == nullptr) return {};
  return {begin, size_t(sqlite3_column_bytes(statement, column))};
}

bool Statement::isNull(int column) const { return sqlite3_column_type(statement, column) == SQLITE_NULL; }

}  // namespace capstan::storage
