// The little of SQLite that journals and states need: a connection, statements, and its failures as Errors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <kj/common.h>

#include <capstan/base/error.h>

struct sqlite3;
struct sqlite3_stmt;

namespace capstan::storage {

// One connection; belongs to one thread at a time.
class Database {
 public:
  // For sentences: "WHAT is damaged", "WHAT is in use by another WHEN_BUSY".
  struct Use {
    std::string what;       // "the journal of the jobs"
    std::string whenBusy;   // "server; stop that one, or serve another folder"
    bool exclusive = true;  // no other process may open it meanwhile, not even for reading
    bool checked = true;    // read as a whole at open, to find damage early
    bool flushed = true;    // false: a crash of the machine may lose the last transactions, but never mix them up
    bool readOnly = false;  // the file must be there; nothing is written
    uint64_t mapped = 0;    // bytes of the file that are read through a mapping
  };

  Database() = default;
  Database(Database&& other) noexcept : use(std::move(other.use)), db(other.db) { other.db = nullptr; }
  ~Database();
  KJ_DISALLOW_COPY(Database);

  // Opens or makes the file, mode 0600, in WAL mode with a flush for each transaction. IN_MEMORY as path: no file.
  // Errors: corrupt (no database, or a damaged one), conflict (another process has it), noSpace, io.
  static constexpr const char* IN_MEMORY = ":memory:";
  static Result<Database> open(const std::string& path, Use use);

  // Statements without results, separated by ';'. Errors: as of Statement::step.
  Status execute(const char* sql);
  // The first column of the first row. A failure is 0.
  int64_t number(const char* sql);
  // How many rows the last statement that changes rows has changed.
  int64_t changedRows() const;
  Error failure(int code) const;

 private:
  Use use;
  sqlite3* db = nullptr;
  friend class Statement;

  Status configure();
  Status check();
};

// One prepared statement. The database must outlive it.
class Statement {
 public:
  // Precondition: the SQL is valid for the database's tables.
  Statement(Database& database, std::string_view sql);
  ~Statement();
  KJ_DISALLOW_COPY(Statement);

  // In the order of the placeholders. Bytes must stay until the next reset().
  Statement& bind(int64_t number);
  Statement& bindBytes(std::string_view bytes);
  Statement& bindNull();

  // True: a row is there. Errors: noSpace, corrupt, io.
  Result<bool> step();
  // step() of a statement that has no rows, then reset().
  Status run();
  void reset();

  // Of the row that is there; by the order of the columns.
  int64_t number(int column) const;
  std::string bytes(int column) const;
  std::string_view view(int column) const;  // valid until the next step() or reset()
  bool isNull(int column) const;

 private:
  Database& database;
  sqlite3_stmt* statement = nullptr;
  int bound = 0;
  int failed = 0;  // from preparing or binding
};

}  // namespace capstan::storage
