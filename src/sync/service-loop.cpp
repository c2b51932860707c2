#include <capstan/sync/service-loop.h>

#include <algorithm>

#include <kj/debug.h>

namespace capstan::sync {

namespace {

using Phase = ServiceStatus::Phase;

// Changes that come within this time become one cycle.
constexpr auto GATHER = 10 * kj::MILLISECONDS;
// What keeps changing is not waited for forever.
constexpr unsigned MAX_FLUSH_TRIES = 20;
constexpr auto FIRST_BACKOFF = 100 * kj::MILLISECONDS;
constexpr auto LONGEST_BACKOFF = 30 * kj::SECONDS;

// What was taken back, or is past its time, does not come back by itself.
bool isOver(const CycleReport& report) {
  return report.error && (report.error->code == ErrorCode::REVOKED || report.error->code == ErrorCode::EXPIRED);
}

}  // namespace

ServiceLoop::ServiceLoop(kj::Timer& timer, Options options, OnEvent onEvent)
    : timer(timer), options(std::move(options)), onEvent(std::move(onEvent)), lastWhole(timer.now()) {}

ServiceLoop::~ServiceLoop() noexcept(false) {}

kj::Promise<CycleReport> ServiceLoop::start() {
  KJ_REQUIRE(!running, "it runs already");
  running = true;
  stopping = false;
  lastWhole = timer.now();
  auto paf = kj::newPromiseAndFulfiller<CycleReport>();
  firstReport = kj::mv(paf.fulfiller);
  // `this` owns the task.
  task = oneCycle()
             .then([this]() { return run(); })
             .then([this]() { running = false; },
                   [this](kj::Exception&& exception) {
                     running = false;
                     if (firstReport.get() != nullptr) firstReport->reject(kj::cp(exception));
                     for (auto& flush : flushes) flush.fulfiller->reject(kj::cp(exception));
                     flushes.clear();
                   })
             .eagerlyEvaluate(nullptr)
             .fork();
  return kj::mv(paf.promise);
}

kj::Promise<void> ServiceLoop::stop() {
  if (!running) return kj::READY_NOW;
  stopping = true;
  options.cancelCycle();
  wake();
  return KJ_ASSERT_NONNULL(task).addBranch();
}

void ServiceLoop::pause() { paused = true; }

void ServiceLoop::resume() {
  paused = false;
  pending = true;
  wake();
}

kj::Promise<CycleReport> ServiceLoop::flush() {
  KJ_REQUIRE(running, "it does not run");
  auto paf = kj::newPromiseAndFulfiller<CycleReport>();
  flushes.push_back({kj::mv(paf.fulfiller), 0, false});
  wake();
  return kj::mv(paf.promise);
}

ServiceStatus::Phase ServiceLoop::phase() const {
  if (!running) return Phase::STOPPED;
  if (halted) return Phase::HALTED;
  if (lost) return Phase::DISCONNECTED;
  return paused ? Phase::PAUSED : Phase::IDLE;
}

void ServiceLoop::wake() {
  if (wakeFulfiller.get() != nullptr) wakeFulfiller->fulfill();
}

kj::Promise<void> ServiceLoop::run() {
  if (stopping) {
    answerFlushes(lastReport);
    return kj::READY_NOW;
  }
  return waitForReason().then([this]() -> kj::Promise<void> {
    if (stopping || (paused && flushes.empty())) return run();
    return oneCycle().then([this]() { return run(); });
  });
}

// How long to wait if nothing happens. Where the watchers tell everything, a cycle without a reason is only the safety
// net; after something that went wrong it is the next try.
kj::Duration ServiceLoop::delay() const {
  kj::Duration interval = static_cast<int64_t>(options.interval) * kj::NANOSECONDS;
  if (lost) return std::min(LONGEST_BACKOFF, FIRST_BACKOFF * (int64_t(1) << std::min(failures - 1, 9u)));
  if (!flushes.empty()) return GATHER * static_cast<int64_t>(flushes.front().tries);
  if (pending || halted || failures > 0 || !options.isWatchedWell()) return interval;
  return std::max(0 * kj::NANOSECONDS,
                  lastWhole + static_cast<int64_t>(options.wholeInterval) * kj::NANOSECONDS - timer.now());
}

kj::Promise<void> ServiceLoop::waitForReason() {
  auto paf = kj::newPromiseAndFulfiller<void>();
  wakeFulfiller = kj::mv(paf.fulfiller);
  auto reason = kj::mv(paf.promise);
  for (auto& flush : flushes)
    if (!flush.begun) return kj::READY_NOW;
  if (stopping) return kj::READY_NOW;
  if (paused && flushes.empty()) return reason;
  reason = reason.exclusiveJoin(timer.afterDelay(delay()).then([this]() {
    bool due = timer.now() - lastWhole >= static_cast<int64_t>(options.wholeInterval) * kj::NANOSECONDS;
    wholeNext = due || (!lost && !options.isWatchedWell());
  }));
  // While nothing can be done, changes have to wait for the next try.
  if (lost || halted) return reason;
  return reason.exclusiveJoin(options.changed().then([this]() { return timer.afterDelay(GATHER); }));
}

kj::Promise<void> ServiceLoop::oneCycle() {
  for (auto& flush : flushes) {
    flush.begun = true;
    ++flush.tries;
  }
  bool whole = wholeNext;
  wholeNext = false;
  return options.cycle({whole, false}).then([this, whole](CycleReport report) {
    if (whole && !report.error) lastWhole = timer.now();
    takeReport(std::move(report));
  });
}

void ServiceLoop::takeReport(CycleReport report) {
  ++count;
  lastEnd = report.began + static_cast<int64_t>(report.duration);
  halted = report.stop && report.stop->wholly;
  pending = report.deferred > 0 || !report.failures.empty() || report.stop;
  failures = report.error ? failures + 1 : 0;
  tellConnection(report);
  bool isFirst = firstReport.get() != nullptr;
  if (isFirst) firstReport->fulfill(CycleReport(report));
  firstReport = nullptr;
  answerFlushes(report);
  if (isOver(report) && !isFirst) end(report);  // of the first, whoever has started it hears
  if (report.didSomething() || !report.unread.empty() || report.error || report.stop) lastReport = std::move(report);
}

void ServiceLoop::end(const CycleReport& report) {
  stopping = true;
  if (!onEvent) return;
  Event event;
  event.kind = Event::Kind::STOPPED;
  event.error = report.error;
  onEvent(event);
}

void ServiceLoop::answerFlushes(const CycleReport& report) {
  std::vector<Flush> rest;
  for (auto& flush : flushes) {
    bool final = report.error || report.stop || flush.tries >= MAX_FLUSH_TRIES;
    if (stopping || (flush.begun && (final || report.deferred == 0)))
      flush.fulfiller->fulfill(CycleReport(report));
    else
      rest.push_back(std::move(flush));
  }
  flushes = std::move(rest);
}

void ServiceLoop::tellConnection(const CycleReport& report) {
  bool isLost = report.error && report.error->code == ErrorCode::UNREACHABLE;
  if (isLost == lost) return;
  lost = isLost;
  if (!onEvent) return;
  Event event;
  event.kind = Event::Kind::CONNECTION;
  event.text = lost ? "the server cannot be reached; it is tried again" : "the server is there again";
  event.error = report.error;
  onEvent(event);
}

}  // namespace capstan::sync
