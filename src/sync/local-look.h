// Looks at the local folder from the event loop: decides between everything and what was reported, and remembers what
// was not as agreed, to look at it again.
#pragma once

#include <memory>
#include <string>

#include <kj/async.h>

#include <capstan/base/blocking-pool.h>
#include <capstan/sync/local-replica.h>
#include <capstan/sync/local-watch.h>
#include <capstan/sync/scan.h>

namespace capstan::sync {

// Belongs to one event loop. One look at a time. The pool must outlive it.
class LocalLooker {
 public:
  LocalLooker(BlockingPool& pool, LocalOptions options);
  ~LocalLooker() noexcept(false);
  KJ_DISALLOW_COPY(LocalLooker);

  kj::Promise<Result<Replica::Look>> look(const State& state, const IgnoreRules& ignore, Replica::LookOptions options);
  kj::Promise<void> onChange();
  std::string watching() const;
  // Which folder the last look was at; empty before.
  const std::string& root() const { return lastRoot; }
  // A path that has to be looked at again although nobody reports it.
  void lookAgain(const std::string& path) { addReport(unfinished, path, false); }

 private:
  struct Shared;
  struct Begun;

  kj::Promise<Result<Replica::Look>> scan(std::shared_ptr<Begun> begun, const State& state, const IgnoreRules& ignore,
                                          Replica::LookOptions options);
  Result<Replica::Look> finish(const Begun& begun, Result<Scanned> scanned);
  bool takesWhole(const Begun& begun, const Replica::LookOptions& options) const;

  BlockingPool& pool;
  const LocalOptions options;
  std::shared_ptr<Shared> shared;  // with jobs
  ByPath<bool> unfinished;         // was not as agreed, or could not be looked at, last time
  bool needsWhole = true;
  std::string lastRoot;
};

}  // namespace capstan::sync
