// When a synchroniser looks, and how often: the sequence of cycles of a running service. Works on a Cycle and the two
// replicas; knows no server, file or database, so that tests can run it with a clock of their own.
#pragma once

#include <functional>
#include <vector>

#include <kj/async.h>
#include <kj/timer.h>

#include <capstan/sync/cycle.h>

namespace capstan::sync {

// Belongs to one event loop. What it is made with must outlive it; destroying it ends the cycle under way.
class ServiceLoop {
 public:
  struct Options {
    uint64_t interval = 4'000'000'000;         // nanoseconds
    uint64_t wholeInterval = 900'000'000'000;  // a look at everything, as a safety net
    std::function<kj::Promise<CycleReport>(Cycle::Request)> cycle;
    std::function<void()> cancelCycle;
    std::function<kj::Promise<void>()> changed;  // resolves when one of the sides may have changed
    std::function<bool()> isWatchedWell;         // whether `changed` tells of everything
  };
  ServiceLoop(kj::Timer& timer, Options options, OnEvent onEvent);
  ~ServiceLoop() noexcept(false);
  KJ_DISALLOW_COPY(ServiceLoop);

  // Begins. Resolves with the report of the first cycle.
  kj::Promise<CycleReport> start();
  // Resolves when it has ended; whoever waits for a flush then gets the last report there is.
  kj::Promise<void> stop();
  void pause();
  void resume();
  kj::Promise<CycleReport> flush();

  // Of the loop itself, between cycles: IDLE, PAUSED, DISCONNECTED or HALTED.
  ServiceStatus::Phase phase() const;
  uint64_t cycles() const { return count; }
  int64_t lastCycle() const { return lastEnd; }
  const CycleReport& last() const { return lastReport; }

 private:
  struct Flush {
    kj::Own<kj::PromiseFulfiller<CycleReport>> fulfiller;
    unsigned tries = 0;
    bool begun = false;
  };

  kj::Promise<void> run();
  kj::Promise<void> waitForReason();
  kj::Promise<void> oneCycle();
  void takeReport(CycleReport report);
  void end(const CycleReport& report);
  void answerFlushes(const CycleReport& report);
  void tellConnection(const CycleReport& report);
  kj::Duration delay() const;
  void wake();

  kj::Timer& timer;
  const Options options;
  const OnEvent onEvent;
  bool running = false, paused = false, stopping = false, lost = false, halted = false;
  bool pending = false;    // something is left over: the watchers will not tell of it again
  bool wholeNext = false;  // the next cycle is to look at everything
  unsigned failures = 0;   // in a row: for the backoff
  uint64_t count = 0;
  int64_t lastEnd = 0;
  kj::TimePoint lastWhole;
  CycleReport lastReport;
  std::vector<Flush> flushes;
  kj::Own<kj::PromiseFulfiller<void>> wakeFulfiller;
  kj::Own<kj::PromiseFulfiller<CycleReport>> firstReport;
  kj::Maybe<kj::ForkedPromise<void>> task;
};

}  // namespace capstan::sync
