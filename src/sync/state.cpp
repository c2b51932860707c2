#include <capstan/sync/state.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>

#include <kj/debug.h>

#include <capstan/base/file.h>
#include <capstan/sync/state-database.h>
#include <capstan/sync/state-record.h>

namespace capstan::sync {

namespace {

using storage::Database;
using storage::Statement;

// Smaller files are sent as quickly as their copies are found.
constexpr uint64_t MIN_FINDABLE_BYTES = 1024;
constexpr size_t KEPT_CONNECTIONS = 4;
// A name that no caller uses: "#" is not in theirs.
constexpr std::string_view COUNT = "#entries";

Error damaged() { return {ErrorCode::CORRUPT, "the synchroniser's state is damaged: a record cannot be read", {}}; }

int64_t contentNumber(const std::string& digest) {
  int64_t number;
  memcpy(&number, digest.data(), sizeof(number));
  return number;
}

// Connections for readers: making one takes longer than reading a few rows.
struct Connections {
  std::string file;
  std::atomic<bool> foundDamage = false;  // by readers, and by the state itself
  std::mutex mutex;
  std::vector<std::unique_ptr<Database>> idle;  // protected by mutex

  Result<std::unique_ptr<Database>> take() {
    {
      std::lock_guard lock(mutex);
      if (!idle.empty()) {
        auto taken = std::move(idle.back());
        idle.pop_back();
        return taken;
      }
    }
    auto database = openStateToRead(file);
    if (!database.ok()) return noticed(database.error());
    return std::make_unique<Database>(std::move(*database));
  }

  Error noticed(Error error) {
    if (error.code == ErrorCode::CORRUPT) foundDamage = true;
    return error;
  }

  void giveBack(std::unique_ptr<Database> database) {
    std::lock_guard lock(mutex);
    if (idle.size() < KEPT_CONNECTIONS) idle.push_back(std::move(database));
  }
};

constexpr std::string_view SELECT_RANGE = "SELECT key, record FROM entries WHERE key >= ?1 AND key < ?2 ORDER BY key";

class RowReader final : public AgreedReader {
 public:
  RowReader(std::shared_ptr<Connections> connections, std::unique_ptr<Database> database, KeyRange range)
      : connections(std::move(connections)), database(std::move(database)), range(std::move(range)) {
    statement.emplace(*this->database, SELECT_RANGE);
    statement->bindBytes(this->range.first).bindBytes(this->range.end);
    row = statement->step();  // from here on it sees one moment
  }
  ~RowReader() noexcept(false) {
    statement.reset();
    connections->giveBack(std::move(database));
  }

  Result<bool> next() override {
    if (begun && row.ok() && *row) row = statement->step();
    begun = true;
    if (!row.ok()) return connections->noticed(row.error());
    if (!*row) return false;
    assignPath(currentPath, statement->view(0));
    if (!decodeAgreed(current, statement->view(1))) return connections->noticed(damaged());
    return true;
  }
  const std::string& path() const override { return currentPath; }
  const Agreed& agreed() const override { return current; }

 private:
  std::shared_ptr<Connections> connections;
  std::unique_ptr<Database> database;
  KeyRange range;
  std::optional<Statement> statement;
  Result<bool> row = false;  // of the last step
  bool begun = false;
  std::string currentPath;
  Agreed current;
};

// Of a state in memory, which has one connection only.
class CopyReader final : public AgreedReader {
 public:
  using Rows = std::vector<std::pair<std::string, std::string>>;
  explicit CopyReader(Rows rows) : rows(std::move(rows)) {}

  Result<bool> next() override {
    if (at == rows.size()) return false;
    assignPath(currentPath, rows[at].first);
    if (!decodeAgreed(current, rows[at].second)) return damaged();
    ++at;
    return true;
  }
  const std::string& path() const override { return currentPath; }
  const Agreed& agreed() const override { return current; }

 private:
  Rows rows;
  size_t at = 0;
  std::string currentPath;
  Agreed current;
};

// A statement that is made once, and reset whenever a user of it leaves.
class Prepared {
 public:
  Prepared(Database& database, std::string_view sql) : statement(database, sql) {}
  Statement& use() {
    statement.reset();
    return statement;
  }

 private:
  Statement statement;
};

class SqliteState final : public State {
 public:
  // `file`: empty for a state in memory. `lock` may be null: then it is only read.
  SqliteState(std::string file, kj::AutoCloseFd lock, Database opened, bool lost)
      : file(std::move(file)), lock(kj::mv(lock)), database(std::move(opened)), lost(lost) {
    connections->file = this->file;
    entries = countOfMeta();
  }
  ~SqliteState() noexcept(false) override {
    if (isDamaged() && !file.empty() && lock.get() >= 0) markDamaged(file);
  }

  Status setPair(Pair given) {
    pairOf = std::move(given);
    if (get("local") == pairOf.local && get("server") == pairOf.server && get("remote") == pairOf.remote) {
      return okStatus();
    }
    Status status = set("local", pairOf.local);
    if (status.ok()) status = set("server", pairOf.server);
    if (status.ok()) status = set("remote", pairOf.remote);
    return status;
  }
  void readPair() { pairOf = {get("local"), get("server"), get("remote")}; }

  const Pair& pair() const override { return pairOf; }
  bool wasLost() const override { return lost; }
  bool isDamaged() const override { return connections->foundDamage; }

  std::optional<Agreed> find(std::string_view path) override {
    std::string key = keyOf(path);
    Statement& statement = selectOne.use();
    statement.bindBytes(key);
    if (!hasRow(statement)) return std::nullopt;
    Agreed agreed;
    bool readable = decodeAgreed(agreed, statement.view(0));
    statement.reset();
    if (readable) return agreed;
    connections->foundDamage = true;
    return std::nullopt;
  }

  Result<std::unique_ptr<AgreedReader>> read(std::string_view below) const override {
    if (file.empty()) return copyOf(below);
    auto connection = connections->take();
    if (!connection.ok()) return connection.error();
    return std::unique_ptr<AgreedReader>(
        std::make_unique<RowReader>(connections, std::move(*connection), keysBelow(below)));
  }

  uint64_t count() const override { return entries; }

  std::optional<std::string> findContent(uint64_t size, const std::string& digest) override {
    if (size < MIN_FINDABLE_BYTES || digest.size() < sizeof(int64_t)) return std::nullopt;
    Statement& statement = selectContent.use();
    statement.bind(int64_t(size)).bind(contentNumber(digest));
    std::optional<std::string> found;
    Agreed agreed;
    while (!found && hasRow(statement)) {
      if (!decodeAgreed(agreed, statement.view(1)) || contentDigest(agreed) != digest) continue;
      assignPath(found.emplace(), statement.view(0));
    }
    statement.reset();
    return found;
  }

  bool hasSize(uint64_t size) override {
    Statement& statement = selectSize.use();
    statement.bind(int64_t(size));
    bool found = hasRow(statement);
    statement.reset();
    return found;
  }

  std::optional<std::vector<Chunk>> chunks(std::string_view path) override {
    std::string key = keyOf(path);
    Statement& statement = selectChunks.use();
    statement.bindBytes(key);
    if (!hasRow(statement)) return std::nullopt;
    auto result = decodeChunks(statement.view(0));
    statement.reset();
    return result;
  }

  Status apply(const std::vector<StateChange>& changes) override {
    if (changes.empty()) return okStatus();
    std::lock_guard guard(memoryMutex);
    Status status = note(database.execute("BEGIN IMMEDIATE"));
    if (!status.ok()) return status;
    uint64_t before = entries;
    for (const StateChange& change : changes) {
      status = carryOut(change);
      if (!status.ok()) break;
    }
    if (status.ok() && entries != before) status = set(COUNT, std::to_string(entries));
    if (status.ok()) status = note(database.execute("COMMIT"));
    if (status.ok()) return status;
    entries = before;
    (void)database.execute("ROLLBACK");
    return status;
  }

  std::string get(std::string_view name) override {
    Statement& statement = selectMeta.use();
    statement.bindBytes(name);
    std::string value = hasRow(statement) ? statement.bytes(0) : std::string();
    statement.reset();
    return value;
  }

  Status set(std::string_view name, std::string_view value) override {
    return note(replaceMeta.use().bindBytes(name).bindBytes(value).run());
  }

  bool isKept(std::string_view path) override {
    std::string key = keyOf(path);
    Statement& statement = selectKept.use();
    statement.bindBytes(key);
    bool kept = hasRow(statement);
    statement.reset();
    return kept;
  }

  Status setKept(const std::vector<std::string>& paths, bool kept) override {
    Status status = note(database.execute("BEGIN IMMEDIATE"));
    if (!status.ok()) return status;
    for (const std::string& path : paths) {
      std::string key = keyOf(path);
      status = note((kept ? insertKept : deleteKept).use().bindBytes(key).run());
      if (!status.ok()) break;
    }
    if (status.ok()) status = note(database.execute("COMMIT"));
    if (!status.ok()) (void)database.execute("ROLLBACK");
    return status;
  }

  std::vector<OpenConflict> conflicts() override {
    std::vector<OpenConflict> result;
    Statement& statement = selectConflicts.use();
    while (hasRow(statement)) {
      result.push_back({statement.bytes(1), statement.bytes(0), statement.number(2), statement.bytes(3)});
    }
    statement.reset();
    return result;
  }

  Status addConflict(const OpenConflict& conflict) override {
    Statement& statement = insertConflict.use();
    statement.bindBytes(conflict.kept).bindBytes(conflict.path).bind(conflict.time).bindBytes(conflict.reason);
    return note(statement.run());
  }

  Status closeConflict(std::string_view kept) override { return note(deleteConflict.use().bindBytes(kept).run()); }

 private:
  // False too if the row cannot be read: what cannot be read was not agreed.
  bool hasRow(Statement& statement) {
    auto row = statement.step();
    if (!row.ok()) (void)note(row.error());
    return row.ok() && *row;
  }

  Status note(Status status) {
    if (!status.ok()) (void)connections->noticed(status.error());
    return status;
  }

  uint64_t countOfMeta() {
    std::string written = get(COUNT);
    return written.empty() ? 0 : strtoull(written.c_str(), nullptr, 10);
  }

  Result<std::unique_ptr<AgreedReader>> copyOf(std::string_view below) const {
    std::lock_guard guard(memoryMutex);
    KeyRange range = keysBelow(below);
    // The one connection belongs to this object, as a member that read() must not change for callers.
    auto& connection = const_cast<Database&>(database);
    Statement statement(connection, SELECT_RANGE);
    statement.bindBytes(range.first).bindBytes(range.end);
    CopyReader::Rows rows;
    while (true) {
      auto row = statement.step();
      if (!row.ok()) return row.error();
      if (!*row) break;
      rows.emplace_back(statement.bytes(0), statement.bytes(1));
    }
    return std::unique_ptr<AgreedReader>(std::make_unique<CopyReader>(std::move(rows)));
  }

  Status carryOut(const StateChange& change) {
    switch (change.kind) {
      case StateChange::Kind::SET: return put(change);
      case StateChange::Kind::ERASE: return erase(keyOf(change.path));
      case StateChange::Kind::MOVE: return move(change.from, change.path);
    }
    KJ_UNREACHABLE;
  }

  Status put(const StateChange& change) {
    std::string key = keyOf(change.path);
    encodeAgreed(record, change.agreed);
    Status status = store(key, record, change.agreed);
    if (!status.ok()) return status;
    const std::string& digest = contentDigest(change.agreed);
    if (change.chunks) {
      std::string list = encodeChunks(*change.chunks);
      return note(replaceChunks.use().bindBytes(key).bindBytes(digest).bindBytes(list).run());
    }
    // Those of another content are of no use any more.
    if (digest.empty()) return note(deleteChunks.use().bindBytes(key).run());
    return note(deleteOtherChunks.use().bindBytes(key).bindBytes(digest).run());
  }

  Status store(const std::string& key, std::string_view bytes, const Agreed& agreed) {
    const std::string& digest = contentDigest(agreed);
    bool isFindable = agreed.local.type == EntryType::FILE && agreed.local.size >= MIN_FINDABLE_BYTES &&
                      digest.size() >= sizeof(int64_t);
    auto bindContent = [&](Statement& statement) {
      if (!isFindable) return void(statement.bindNull().bindNull());
      statement.bind(int64_t(agreed.local.size)).bind(contentNumber(digest));
    };
    Statement& update = updateEntry.use();
    update.bindBytes(bytes);
    bindContent(update);
    Status status = note(update.bindBytes(key).run());
    if (!status.ok() || database.changedRows() != 0) return status;
    Statement& insert = insertEntry.use();
    insert.bindBytes(key).bindBytes(bytes);
    bindContent(insert);
    status = note(insert.run());
    if (status.ok()) ++entries;
    return status;
  }

  Status erase(const std::string& key) {
    Status status = note(deleteEntry.use().bindBytes(key).run());
    if (!status.ok()) return status;
    entries -= uint64_t(database.changedRows());
    return note(deleteChunks.use().bindBytes(key).run());
  }

  Status move(const std::string& from, const std::string& to) {
    std::string oldKey = keyOf(from), newKey = keyOf(to);
    KeyRange below = keysBelow(from);
    Status status = moveRows(selectMovedEntries, oldKey, newKey, below, [&](const Row& row) -> Status {
      Agreed agreed;
      if (!decodeAgreed(agreed, row.value)) return note(damaged());
      Status erased = note(deleteEntry.use().bindBytes(row.key).run());
      if (!erased.ok()) return erased;
      entries -= uint64_t(database.changedRows());
      return store(row.newKey, row.value, agreed);
    });
    if (!status.ok()) return status;
    return moveRows(selectMovedChunks, oldKey, newKey, below, [&](const Row& row) -> Status {
      Status erased = note(deleteChunks.use().bindBytes(row.key).run());
      if (!erased.ok()) return erased;
      return note(replaceChunks.use().bindBytes(row.newKey).bindBytes(row.value).bindBytes(row.more).run());
    });
  }

  struct Row {
    std::string key, newKey, value, more;
  };
  template <typename Func>
  Status moveRows(Prepared& select, const std::string& oldKey, const std::string& newKey, const KeyRange& below,
                  Func&& moveRow) {
    std::vector<Row> rows;
    Statement& statement = select.use();
    statement.bindBytes(oldKey).bindBytes(below.first).bindBytes(below.end);
    while (true) {
      auto row = statement.step();
      if (!row.ok()) return note(row.error());
      if (!*row) break;
      std::string key = statement.bytes(0);
      std::string moved = newKey + key.substr(oldKey.size());
      rows.push_back({std::move(key), std::move(moved), statement.bytes(1), statement.bytes(2)});
    }
    statement.reset();
    for (const Row& row : rows) {
      Status status = moveRow(row);
      if (!status.ok()) return status;
    }
    return okStatus();
  }

  const std::string file;
  kj::AutoCloseFd lock;
  mutable std::mutex memoryMutex;  // read() of a state in memory, against apply()
  Database database;
  const bool lost;
  Pair pairOf;
  uint64_t entries = 0;
  std::string record;  // memory that is used again
  std::shared_ptr<Connections> connections = std::make_shared<Connections>();

  Prepared selectOne{database, "SELECT record FROM entries WHERE key = ?"};
  Prepared updateEntry{database, "UPDATE entries SET record = ?, size = ?, content = ? WHERE key = ?"};
  Prepared insertEntry{database, "INSERT INTO entries (key, record, size, content) VALUES (?, ?, ?, ?)"};
  Prepared deleteEntry{database, "DELETE FROM entries WHERE key = ?"};
  Prepared selectContent{database,
                         "SELECT key, record FROM entries WHERE size = ? AND content = ? AND content IS NOT NULL"};
  Prepared selectSize{database, "SELECT 1 FROM entries WHERE size = ? AND content IS NOT NULL LIMIT 1"};
  Prepared selectMovedEntries{database,
                              "SELECT key, record, NULL FROM entries WHERE key = ? OR (key >= ? AND key < ?)"};
  Prepared selectChunks{database, "SELECT list FROM chunks WHERE key = ?"};
  Prepared replaceChunks{database, "REPLACE INTO chunks (key, digest, list) VALUES (?, ?, ?)"};
  Prepared deleteChunks{database, "DELETE FROM chunks WHERE key = ?"};
  Prepared deleteOtherChunks{database, "DELETE FROM chunks WHERE key = ? AND digest <> ?"};
  Prepared selectMovedChunks{database, "SELECT key, digest, list FROM chunks WHERE key = ? OR (key >= ? AND key < ?)"};
  Prepared selectMeta{database, "SELECT value FROM meta WHERE name = CAST(? AS TEXT)"};
  Prepared replaceMeta{database, "REPLACE INTO meta (name, value) VALUES (CAST(? AS TEXT), ?)"};
  Prepared selectKept{database, "SELECT 1 FROM kept WHERE key = ?"};
  Prepared insertKept{database, "INSERT OR IGNORE INTO kept (key) VALUES (?)"};
  Prepared deleteKept{database, "DELETE FROM kept WHERE key = ?"};
  Prepared selectConflicts{database, "SELECT kept, path, time, reason FROM conflicts ORDER BY time, kept"};
  Prepared insertConflict{database, "REPLACE INTO conflicts (kept, path, time, reason) VALUES (?, ?, ?, ?)"};
  Prepared deleteConflict{database, "DELETE FROM conflicts WHERE kept = ?"};
};

}  // namespace

Result<std::unique_ptr<State>> State::open(const std::string& folder, const Pair& pair) {
  std::string in = stateFolderOr(folder);
  Status made = makeDirectories(in, 0700);
  if (!made.ok()) return made.error();
  std::string file = stateFileOf(in, pair);
  auto opened = openStateFile(file);
  if (!opened.ok()) return opened.error();
  auto state = std::make_unique<SqliteState>(file, kj::mv(opened->lock), std::move(opened->database), opened->wasLost);
  Status named = state->setPair(pair);
  if (!named.ok()) return named.error();
  return std::unique_ptr<State>(std::move(state));
}

std::unique_ptr<State> State::inMemory() {
  auto database = openStateInMemory();
  KJ_ASSERT(database.ok(), "a database in memory cannot be opened");
  return std::make_unique<SqliteState>(std::string(), kj::AutoCloseFd(), std::move(*database), false);
}

Result<std::unique_ptr<State>> State::openToRead(const std::string& folder, const std::string& localPath) {
  std::unique_ptr<SqliteState> best;
  for (const std::string& file : stateFilesIn(stateFolderOr(folder))) {
    auto database = openStateToRead(file);
    // Another one may be what is looked for.
    if (!database.ok() || database->number("PRAGMA user_version") != STATE_VERSION) continue;
    auto state = std::make_unique<SqliteState>(file, kj::AutoCloseFd(), std::move(*database), false);
    state->readPair();
    const std::string& local = state->pair().local;
    if (local.empty() || !(local == "/" || isWithin(localPath, local))) continue;
    if (!best || local.size() > best->pair().local.size()) best = std::move(state);
  }
  if (best) return std::unique_ptr<State>(std::move(best));
  return errorAt(ErrorCode::NOT_FOUND, localPath, "", " is in no folder that was ever synchronised by this user");
}

}  // namespace capstan::sync
