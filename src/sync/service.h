// The synchroniser, for programs that embed it: keeps a local folder and a server's folder in step, every few seconds
// and when something changes. Service runs on the program's own KJ event loop; ServiceThread has a loop and thread of
// its own behind a thread-safe handle.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <kj/async-io.h>

#include <capstan/base/error.h>
#include <capstan/client/client.h>
#include <capstan/sync/ignore.h>
#include <capstan/sync/node.h>
#include <capstan/sync/plan.h>
#include <capstan/sync/safety.h>
#include <capstan/sync/state.h>

namespace capstan::sync {

struct ServiceOptions {
  client::Options server;
  std::string local;   // a folder; relative to the current one
  std::string remote;  // a path at the server, made if it is missing; "" is the tree itself
  Mode mode = Mode::PUSH;
  uint64_t interval = 4'000'000'000;  // nanoseconds between cycles, when nothing tells of changes
  bool watch = true;                  // notice changes at once; else only by looking, every interval
  std::vector<IgnoreRules::Rule> exclude;
  bool checkContent = false;    // compare contents where size and time are the same
  uint64_t bytesPerSecond = 0;  // of content, in both directions together; 0: no limit
  std::optional<uint64_t> acceptDeletes;
  std::string stateFolder;  // empty: the user's
  std::string host;         // in names of conflict copies; empty: this machine's
};

// What one cycle did, or would do.
struct CycleReport {
  int64_t began = 0;      // nanoseconds since the epoch
  uint64_t duration = 0;  // nanoseconds
  uint64_t filesSent = 0, filesReceived = 0;
  uint64_t foldersMade = 0, linksMade = 0, moved = 0, copied = 0, removed = 0, metadataSet = 0;
  uint64_t bytesSent = 0, bytesReceived = 0;  // of content that travelled
  uint64_t bytesOfFiles = 0;                  // of content that is in step by it
  uint64_t entries = 0;                       // looked at
  uint64_t deferred = 0;                      // files that changed while they were read: next time
  std::vector<Conflict> conflicts;            // new ones
  uint64_t openConflicts = 0;
  std::vector<Withheld> withheld;
  std::vector<std::string> skipped;  // special files
  struct Failure {
    std::string path;
    Error error;
  };
  std::vector<Failure> failures;
  // What could not be looked into: of what is in it nothing is known, and nothing was done with it, on either side.
  struct Unread {
    std::string path;
    Side side = Side::REMOTE;  // on which it cannot be read
    Error error;
  };
  std::vector<Unread> unread;
  std::optional<SafetyStop> stop;
  std::optional<Error> error;  // why the cycle as a whole came to nothing
  std::string run;             // the id for `undo`, where something was changed at the server
  bool planned = false;        // a dry run: nothing was done

  bool didSomething() const;
  // One line for people: "3 files sent (1.2 MiB), 1 moved, 2 removed in 40 ms".
  std::string summary() const;
};

struct ServiceStatus {
  enum class Phase { STOPPED, IDLE, LOOKING, PLANNING, APPLYING, PAUSED, DISCONNECTED, HALTED };  // HALTED: safety stop
  Phase phase = Phase::STOPPED;
  uint64_t cycles = 0;
  int64_t lastCycle = 0;  // when it ended; nanoseconds since the epoch
  CycleReport last;       // that did something, failed, was stopped, or could not look at everything
  std::string localWatching, remoteWatching;
  uint64_t entriesAgreed = 0;
  uint64_t openConflicts = 0;
  uint64_t operations = 0, operationsDone = 0;  // of the cycle that is under way
  uint64_t bytes = 0, bytesDone = 0;
};
std::string_view nameOf(ServiceStatus::Phase phase);

struct Event {
  enum class Kind {
    STARTED,      // watching; `text` says how
    CYCLE_BEGAN,  // something was found to do
    PLANNED,      // dry run: `operation` is one of the plan
    OPERATION,    // `operation` was done (or failed: `error`)
    PROGRESS,     // see the status
    CYCLE_ENDED,  // `report`
    CONNECTION,   // lost or there again: `text`, `error`
    STOPPED,      // with `error`: by itself, because the share that it logs in with was revoked or has expired
  };
  Kind kind = Kind::CYCLE_ENDED;
  const CycleReport* report = nullptr;  // valid during the call
  const Operation* operation = nullptr;
  uint64_t bytes = 0;  // of the operation
  std::string text;
  std::optional<Error> error;
};
using OnEvent = std::function<void(const Event&)>;

// Belongs to one event loop. Its promises must be dropped before it is destroyed; destroying it stops it where it is,
// which harms nothing: the next run goes on from there.
class Service {
 public:
  // `network` and `timer` must outlive it. Nothing is opened before the first call.
  Service(kj::Network& network, kj::Timer& timer, ServiceOptions options, OnEvent onEvent = {});
  ~Service() noexcept(false);
  KJ_DISALLOW_COPY(Service);

  // One cycle over everything, after a look at the whole of both sides (or at what the server's cursor and the state
  // let it skip). What a user can cause is in the report, `report.error` and `report.stop` above all.
  kj::Promise<CycleReport> runOnce();
  // What runOnce() would do: exactly that plan, operation by operation. Changes nothing.
  kj::Promise<CycleReport> plan();

  // Begins to watch and to keep in step; returns once the first cycle has ended. Errors: those of the state (conflict:
  // another process has this pair), of the local folder, and final ones of the connection.
  kj::Promise<Status> start();
  // Resolves when the cycle under way has ended, at the next operation.
  kj::Promise<void> stop();
  void pause();
  void resume();
  // Returns when everything that was written up to now is in step on both sides: the report of the cycle that made it
  // so. Starts a cycle at once, also while paused.
  kj::Promise<CycleReport> flush();

  ServiceStatus status() const;

  // What would be done with a path, and why, in sentences.
  kj::Promise<Result<std::string>> explain(std::string path);

 private:
  struct Impl;
  kj::Own<Impl> impl;
};

// The same with a thread of its own. All methods are thread-safe; those with an outcome block until it is there, so not
// to be called from the event callback, which runs on the service's thread.
class ServiceThread {
 public:
  explicit ServiceThread(ServiceOptions options, OnEvent onEvent = {});
  ~ServiceThread() noexcept(false);  // stops it
  KJ_DISALLOW_COPY(ServiceThread);

  Status start();
  void stop();
  void pause();
  void resume();
  CycleReport flush();
  ServiceStatus status() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl;
};

}  // namespace capstan::sync
