// One cycle: look at both sides, plan, check that it is safe, carry it out, remember. Works on the ports (Replica,
// State), with a clock that is given, so that a simulation can run it.
#pragma once

#include <functional>

#include <kj/async.h>

#include <capstan/sync/replica.h>
#include <capstan/sync/service.h>

namespace capstan::sync {

struct CycleOptions {
  Mode mode = Mode::PUSH;
  bool checkContent = false;
  std::optional<uint64_t> acceptDeletes;
  std::string host;
  std::function<int64_t()> now;                           // nanoseconds since the epoch
  std::function<std::string(size_t)> random;              // so many bytes: run ids
  std::function<kj::Promise<void>(uint64_t bytes)> pace;  // may be empty
  uint64_t operationsAtOnce = 16384;                       // after so many the state is written
  uint64_t bytesAtOnce = 256 << 20;
};

// Belongs to one event loop, as the replicas and the state, which must outlive it. One cycle at a time.
class Cycle {
 public:
  Cycle(Replica& local, Replica& remote, State& state, IgnoreRules& ignore, CycleOptions options, OnEvent onEvent);
  ~Cycle() noexcept(false);
  KJ_DISALLOW_COPY(Cycle);

  struct Request {
    bool whole = false;   // look at everything
    bool dryRun = false;  // only plan
  };
  kj::Promise<CycleReport> run(Request request);
  // Ends the cycle under way at the next operation.
  void cancel();

  // For status.
  ServiceStatus::Phase phase() const;
  uint64_t operations() const;
  uint64_t operationsDone() const;
  uint64_t bytes() const;
  uint64_t bytesDone() const;

  // What would be done with one path, and why.
  kj::Promise<Result<std::string>> explain(std::string path);

  struct Impl;  // cycle-impl.h

 private:
  kj::Own<Impl> impl;
};

}  // namespace capstan::sync
