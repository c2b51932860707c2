#include <capstan/sync/service.h>

#include <unistd.h>

#include <filesystem>

#include <kj/debug.h>

#include <capstan/base/blocking-pool.h>
#include <capstan/base/clock.h>
#include <capstan/base/digest.h>
#include <capstan/sync/cycle.h>
#include <capstan/sync/ignore-file.h>
#include <capstan/sync/local-replica.h>
#include <capstan/sync/overlap.h>
#include <capstan/sync/pacer.h>
#include <capstan/sync/remote-replica.h>
#include <capstan/sync/service-loop.h>

namespace capstan::sync {

namespace {

std::string hostName() {
  char name[256] = "";
  if (gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0') return "localhost";
  return name;
}

// Whether a way of watching tells of everything at once.
bool tellsEverything(const std::string& watching) {
  for (const char* doubtful : {"none", "poll", "part"})
    if (watching.find(doubtful) != std::string::npos) return false;
  return !watching.empty();
}

CycleReport failedReport(Error error) {
  CycleReport report;
  report.began = wallClock();
  report.error = std::move(error);
  return report;
}

// What no other try would change.
bool isFinal(ErrorCode code) {
  return code == ErrorCode::DENIED || code == ErrorCode::REVOKED || code == ErrorCode::EXPIRED ||
         code == ErrorCode::PROTOCOL_VERSION || code == ErrorCode::NOT_FOUND || code == ErrorCode::NOT_DIRECTORY ||
         code == ErrorCode::INVALID_PATH;
}

}  // namespace

struct Service::Impl {
  Impl(kj::Network& network, kj::Timer& timer, ServiceOptions given, OnEvent onEvent)
      : network(network), timer(timer), options(std::move(given)), onEvent(std::move(onEvent)) {
    options.local = std::filesystem::absolute(options.local).lexically_normal().string();
    while (options.local.size() > 1 && options.local.back() == '/') options.local.pop_back();
    if (options.host.empty()) options.host = hostName();
    if (options.bytesPerSecond > 0) pacer = kj::heap<Pacer>(timer, options.bytesPerSecond);
  }

  Status prepare(bool watching, bool readOnly);
  Status openState(bool readOnly);
  void makeSides(bool watching);
  void makeCycle();
  void makeLoop();
  kj::Promise<CycleReport> runCycle(Cycle::Request request);
  kj::Promise<CycleReport> single(Cycle::Request request);
  // Stops and drops the loop. Whether this call was the one that did.
  kj::Promise<bool> end();

  kj::Network& network;
  kj::Timer& timer;
  ServiceOptions options;
  const OnEvent onEvent;

  // In the order of construction; destroyed in reverse.
  kj::Own<Pacer> pacer;
  kj::Own<BlockingPool> pool;
  std::unique_ptr<State> state;
  std::unique_ptr<IgnoreRules> ignore;
  kj::Own<client::Client> client;
  kj::Own<Replica> local, remote;
  kj::Own<Cycle> cycle;
  kj::Own<ServiceLoop> loop;
  bool isWatching = false;
  bool isApart = false;  // the two folders are known not to contain each other
  CycleReport last;
  uint64_t cycles = 0;
};

Status Service::Impl::openState(bool readOnly) {
  auto opened = State::open(options.stateFolder, {options.local, options.server.address.toString(), options.remote});
  if (!opened.ok() && readOnly && opened.error().code == ErrorCode::CONFLICT)
    opened = State::openToRead(options.stateFolder, options.local);
  if (!opened.ok()) return opened.error();
  state = std::move(*opened);
  return okStatus();
}

Status Service::Impl::prepare(bool watching, bool readOnly) {
  if (state == nullptr) {
    auto status = openState(readOnly);
    if (!status.ok()) return status;
  }
  if (ignore == nullptr) {
    ignore = std::make_unique<IgnoreRules>(
        options.exclude, [root = options.local](std::string_view folder) { return readIgnoreFile(root, folder); });
  }
  if (cycle.get() == nullptr || (watching && !isWatching)) makeSides(watching);
  return okStatus();
}

void Service::Impl::makeSides(bool watching) {
  cycle = nullptr;
  local = nullptr;
  remote = nullptr;
  client = nullptr;
  isWatching = watching;
  if (pool.get() == nullptr) pool = kj::heap<BlockingPool>(BlockingPool::Options{4, 4096, 0, "sync"});
  auto server = options.server;
  // A running service tries again by itself, and tells.
  if (watching) server.retryFor = 0;
  client = kj::heap<client::Client>(network, timer, std::move(server));
  LocalOptions here;
  here.folder = options.local;
  here.watch = watching && options.watch;
  here.mayChange = options.mode != Mode::PUSH;
  here.pollInterval = options.interval;
  local = newLocalReplica(*pool, std::move(here));
  RemoteOptions there;
  there.path = options.remote;
  there.watch = watching && options.watch;
  there.mayMake = options.mode != Mode::PULL;
  remote = newRemoteReplica(*client, timer, std::move(there));
  makeCycle();
}

void Service::Impl::makeCycle() {
  CycleOptions settings;
  settings.mode = options.mode;
  settings.checkContent = options.checkContent;
  settings.acceptDeletes = options.acceptDeletes;
  settings.host = options.host;
  settings.now = wallClock;
  settings.random = randomBytes;
  if (pacer.get() != nullptr) settings.pace = [this](uint64_t bytes) { return pacer->take(bytes); };
  cycle = kj::heap<Cycle>(*local, *remote, *state, *ignore, std::move(settings), onEvent);
}

void Service::Impl::makeLoop() {
  loop = nullptr;
  ServiceLoop::Options settings;
  settings.interval = options.interval;
  settings.cycle = [this](Cycle::Request request) { return runCycle(request); };
  settings.cancelCycle = [this]() {
    if (cycle.get() != nullptr) cycle->cancel();
  };
  settings.changed = [this]() { return local->onChange().exclusiveJoin(remote->onChange()); };
  settings.isWatchedWell = [this]() {
    return options.watch && tellsEverything(local->watching()) && tellsEverything(remote->watching());
  };
  loop = kj::heap<ServiceLoop>(timer, std::move(settings), onEvent);
}

kj::Promise<CycleReport> Service::Impl::runCycle(Cycle::Request request) {
  if (!isApart) {
    return checkOverlap(*client, options.local, options.remote)
        .then([this, request](Status apart) -> kj::Promise<CycleReport> {
          if (!apart.ok()) return failedReport(apart.error());
          isApart = true;
          return runCycle(request);
        });
  }
  // A state that proves damaged on the way is begun anew, at once and once: then everything is new, and nothing was
  // deleted.
  auto again = [this, request]() -> kj::Promise<CycleReport> {
    auto status = openState(false);
    if (!status.ok()) return failedReport(status.error());
    makeCycle();
    return cycle->run(request);
  };
  if (cycle.get() == nullptr) return again();
  return cycle->run(request).then([this, again](CycleReport report) -> kj::Promise<CycleReport> {
    bool damaged = report.error && report.error->code == ErrorCode::CORRUPT && state->isDamaged();
    if (!damaged) return report;
    cycle = nullptr;
    state = nullptr;
    return again();
  });
}

kj::Promise<CycleReport> Service::Impl::single(Cycle::Request request) {
  auto status = prepare(false, false);
  if (!status.ok()) return failedReport(status.error());
  return runCycle(request).then([this](CycleReport report) {
    ++cycles;
    last = report;
    return report;
  });
}

Service::Service(kj::Network& network, kj::Timer& timer, ServiceOptions options, OnEvent onEvent)
    : impl(kj::heap<Impl>(network, timer, std::move(options), std::move(onEvent))) {}
Service::~Service() noexcept(false) {}

kj::Promise<CycleReport> Service::runOnce() {
  if (impl->loop.get() != nullptr) return impl->loop->flush();
  return impl->single({});
}

kj::Promise<CycleReport> Service::plan() {
  KJ_REQUIRE(impl->loop.get() == nullptr, "a running service has no plan to show: it carries it out");
  Cycle::Request request;
  request.dryRun = true;
  return impl->single(request);
}

kj::Promise<Status> Service::start() {
  KJ_REQUIRE(impl->loop.get() == nullptr, "it runs already");
  auto status = impl->prepare(true, false);
  if (!status.ok()) return status;
  impl->makeLoop();
  return impl->loop->start().then([inside = impl.get()](CycleReport report) -> kj::Promise<Status> {
    if (report.error && isFinal(report.error->code)) {
      auto error = *report.error;
      return inside->end().then([error](bool) -> Status { return error; });
    }
    if (inside->loop.get() == nullptr) return okStatus();  // stopped in the meantime
    Event event;
    event.kind = Event::Kind::STARTED;
    event.text =
        "watching by " + inside->local->watching() + " here, and by " + inside->remote->watching() + " at the server";
    if (inside->onEvent) inside->onEvent(event);
    return okStatus();
  });
}

// Whoever comes first takes the loop away; the others find it gone.
kj::Promise<bool> Service::Impl::end() {
  if (loop.get() == nullptr) return false;
  return loop->stop().then([this, ending = loop.get()]() {
    if (loop.get() != ending) return false;
    cycles += loop->cycles();
    last = loop->last();
    loop = nullptr;
    return true;
  });
}

kj::Promise<void> Service::stop() {
  auto* inside = impl.get();
  if (inside->loop.get() == nullptr) {
    if (inside->cycle.get() != nullptr) inside->cycle->cancel();
    return kj::READY_NOW;
  }
  return inside->end().then([inside](bool wasFirst) {
    Event event;
    event.kind = Event::Kind::STOPPED;
    if (wasFirst && inside->onEvent) inside->onEvent(event);
  });
}

void Service::pause() {
  if (impl->loop.get() != nullptr) impl->loop->pause();
}

void Service::resume() {
  if (impl->loop.get() != nullptr) impl->loop->resume();
}

kj::Promise<CycleReport> Service::flush() {
  if (impl->loop.get() == nullptr) return impl->single({});
  return impl->loop->flush();
}

ServiceStatus Service::status() const {
  ServiceStatus status;
  status.cycles = impl->cycles;
  status.last = impl->last;
  if (impl->loop.get() != nullptr) {
    auto& loop = *impl->loop;
    status.phase = loop.phase();
    status.cycles += loop.cycles();
    status.lastCycle = loop.lastCycle();
    if (loop.cycles() > 0) status.last = loop.last();
    status.localWatching = impl->local->watching();
    status.remoteWatching = impl->remote->watching();
  }
  if (impl->cycle.get() == nullptr) return status;
  auto& cycle = *impl->cycle;
  bool busy = cycle.phase() != ServiceStatus::Phase::IDLE && cycle.phase() != ServiceStatus::Phase::HALTED;
  if (busy) status.phase = cycle.phase();
  status.operations = cycle.operations();
  status.operationsDone = cycle.operationsDone();
  status.bytes = cycle.bytes();
  status.bytesDone = cycle.bytesDone();
  status.entriesAgreed = impl->state->count();
  status.openConflicts = impl->state->conflicts().size();
  return status;
}

kj::Promise<Result<std::string>> Service::explain(std::string path) {
  auto status = impl->prepare(false, true);
  if (!status.ok()) return Result<std::string>(status.error());
  return impl->cycle->explain(std::move(path));
}

}  // namespace capstan::sync
