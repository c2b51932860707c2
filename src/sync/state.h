// What the synchroniser remembers between cycles, in SQLite: what both sides agreed about, the chunks of large files,
// the server's cursor, open conflicts. Losing it loses no data: then everything is new, and nothing was deleted.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <capstan/base/chunker.h>
#include <capstan/base/error.h>
#include <capstan/sync/node.h>
#include <capstan/sync/plan.h>

namespace capstan::sync {

// Reads what was agreed, in tree order. On any one thread; sees the state as it was when it was made.
class AgreedReader {
 public:
  virtual ~AgreedReader() noexcept(false) = default;
  // The next path, or false at the end. The views and the node stay valid until the next call. Errors: corrupt, io.
  virtual Result<bool> next() = 0;
  virtual const std::string& path() const = 0;
  virtual const Agreed& agreed() const = 0;
};

// What has to be written together when something was brought into step.
struct StateChange {
  enum class Kind { SET, ERASE, MOVE };  // MOVE: the path and everything below it, from `from` to `path`
  Kind kind = Kind::SET;
  std::string path;
  std::string from;
  Agreed agreed;                             // with SET
  std::optional<std::vector<Chunk>> chunks;  // with SET: those of the content, where they were computed
};

struct OpenConflict {
  std::string path;
  std::string kept;
  int64_t time = 0;  // nanoseconds since the epoch
  std::string reason;
};

// Belongs to one thread, save reader().
class State {
 public:
  struct Pair {
    std::string local;   // the absolute path
    std::string server;  // the address as it was given
    std::string remote;
  };
  // Opens or makes the state of this pair below `folder` (userStateFolder()/sync where empty): a file of its own, held
  // by a lock. A damaged one is moved aside, told in `wasLost`, and begun anew. Errors: conflict (another process
  // synchronises this pair), noSpace, denied, io.
  static Result<std::unique_ptr<State>> open(const std::string& folder, const Pair& pair);
  // For tests and simulations: in memory.
  static std::unique_ptr<State> inMemory();
  // The states below `folder` whose local folder is or contains this path, for `conflicts` and `explain`, which only
  // read: no lock is taken.
  static Result<std::unique_ptr<State>> openToRead(const std::string& folder, const std::string& localPath);
  virtual ~State() noexcept(false) = default;

  virtual const Pair& pair() const = 0;
  virtual bool wasLost() const = 0;  // there was one, and it was damaged
  // Something in it cannot be read: once it is closed, the next open() begins anew.
  virtual bool isDamaged() const = 0;

  virtual std::optional<Agreed> find(std::string_view path) = 0;
  // Everything, or everything below a folder (without itself). Thread-safe; may be used on another thread.
  virtual Result<std::unique_ptr<AgreedReader>> read(std::string_view below = {}) const = 0;
  virtual uint64_t count() const = 0;
  // A path whose content was agreed to be this, or nothing. The caller checks that it is still there.
  virtual std::optional<std::string> findContent(uint64_t size, const std::string& digest) = 0;
  virtual bool hasSize(uint64_t size) = 0;  // whether findContent() may find something: before hashing
  virtual std::optional<std::vector<Chunk>> chunks(std::string_view path) = 0;

  // In one transaction. Errors: noSpace, corrupt, io.
  virtual Status apply(const std::vector<StateChange>& changes) = 0;

  // Small values by name: "cursor", "local-root", "ignore-rules", "last-run", ...
  virtual std::string get(std::string_view name) = 0;
  virtual Status set(std::string_view name, std::string_view value) = 0;

  // Paths of the target that are left alone because nobody knows why they are there. See PlanOptions::isUnexplained.
  virtual bool isKept(std::string_view path) = 0;
  virtual Status setKept(const std::vector<std::string>& paths, bool kept) = 0;

  virtual std::vector<OpenConflict> conflicts() = 0;
  virtual Status addConflict(const OpenConflict& conflict) = 0;
  virtual Status closeConflict(std::string_view kept) = 0;
};

}  // namespace capstan::sync
