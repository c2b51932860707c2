#include <capstan/client/cli/sync-run.h>

#include <ctime>

#include <capstan/base/log.h>
#include <capstan/base/text.h>
#include <capstan/client/cli/sync-report.h>

namespace capstan::cli {

namespace {

constexpr size_t WITHHELD_SHOWN = 10;
constexpr size_t FAILURES_SHOWN = 20;  // all of them with -v and --json

std::string watchersOf(const sync::ServiceStatus& status) {
  return "local changes: " + status.localWatching + ", remote changes: " + status.remoteWatching;
}

}  // namespace

SyncRun::SyncRun(Context& context, SyncWish wish, WhenSignalled signalled)
    : context(context),
      wish(std::move(wish)),
      whenSignalled(signalled ? std::move(signalled) : []() -> kj::Promise<int> { return kj::NEVER_DONE; }),
      service(context.network(), context.timer(), this->wish.options,
              [this](const sync::Event& event) { onEvent(event); }) {}

kj::Promise<int> SyncRun::run() {
  if (wish.once || wish.dryRun) {
    // What is cut off here goes on where it was with the next run.
    return runOnce().exclusiveJoin(whenSignalled());
  }
  return keepInStep();
}

kj::Promise<int> SyncRun::runOnce() {
  auto running = wish.dryRun ? service.plan() : service.runOnce();
  return running.then([this](sync::CycleReport&& report) { return finish(report); });
}

int SyncRun::finish(const sync::CycleReport& report) {
  endProgress();
  if (context.output.json()) {
    context.output.line(cycleAsJson(report));
  } else if (!context.output.quiet() && !report.error) {
    context.output.line(cycleLine(report, wish.options.mode));
  }
  tellTroubles(report);
  if (report.deferred > 0 && !wish.dryRun) {
    bool one = report.deferred == 1;
    context.output.note(std::to_string(report.deferred) + (one ? " path" : " paths") +
                        " changed meanwhile, here or at the server, and " + (one ? "was" : "were") +
                        " put off; run it again");
  }
  return exitStatusOf(report);
}

kj::Promise<int> SyncRun::keepInStep() {
  auto paf = kj::newPromiseAndFulfiller<int>();
  over = kj::mv(paf.fulfiller);
  // `this` is held by whoever holds the promise.
  auto working = service.start().then([this](Status&& started) -> kj::Promise<int> {
    if (!started.ok()) return context.output.fail(started.error());
    return kj::NEVER_DONE;
  });
  auto signalled = whenSignalled().then([this](int status) {
    context.output.note(log::isInJournal() ? "ending" : "ending; interrupt again to end at once");
    return service.stop().then([status]() { return status; }).exclusiveJoin(whenSignalled());
  });
  // A share that has ended was told of when the cycle ended.
  auto ended = kj::mv(paf.promise);
  return working.exclusiveJoin(kj::mv(ended)).exclusiveJoin(kj::mv(signalled)).then([this](int status) {
    endProgress();
    return status;
  });
}

void SyncRun::onEvent(const sync::Event& event) {
  using Kind = sync::Event::Kind;
  switch (event.kind) {
    case Kind::STARTED: onStarted(event); break;
    case Kind::CYCLE_BEGAN:
    case Kind::PROGRESS: showProgress(event); break;
    case Kind::PLANNED: onOperation("planned", event); break;
    case Kind::OPERATION:
      onOperation("operation", event);
      showProgress(event);
      break;
    case Kind::CYCLE_ENDED:
      // The report of a single cycle is what its promise answers.
      if (event.report != nullptr && !wish.once && !wish.dryRun) onCycleEnded(*event.report);
      break;
    case Kind::CONNECTION: onConnection(event); break;
    case Kind::STOPPED:
      if (event.error) over->fulfill(exitStatusOf(event.error->code));
      break;
  }
  context.output.flush();
}

void SyncRun::onStarted(const sync::Event& event) {
  if (wish.once || wish.dryRun) return;
  std::string text = event.text.empty() ? watchersOf(service.status()) : event.text;
  if (context.output.json()) {
    context.output.line(eventAsJson("started", text, nullptr));
  } else {
    context.output.note("keeping " + escapeForTerminal(wish.options.local) + " and " +
                        escapeForTerminal("/" + wish.options.remote) + " in step (" + escapeForTerminal(text) +
                        "); end with Ctrl-C");
  }
}

void SyncRun::onOperation(const char* name, const sync::Event& event) {
  if (event.operation == nullptr || !isVisible(*event.operation)) return;
  const Error* error = event.error ? &*event.error : nullptr;
  bool wanted = wish.dryRun || context.output.verbose();
  if (!wanted) return;
  if (context.output.json()) {
    context.output.line(operationAsJson(name, *event.operation, error));
  } else if (error == nullptr) {
    context.output.line(operationLine(*event.operation));
  }
}

void SyncRun::onCycleEnded(const sync::CycleReport& report) {
  endProgress();
  bool worthTelling = report.didSomething() || !report.unread.empty() || report.stop || report.error;
  if (context.output.json()) {
    if (worthTelling) context.output.line(cycleAsJson(report));
  } else if (report.didSomething() && !context.output.quiet()) {
    context.output.line(timeOfDay(report.began + int64_t(report.duration)) + " " +
                        cycleLine(report, wish.options.mode));
  }
  tellTroubles(report);
}

// What went wrong, once, however often it goes wrong again in the same way.
void SyncRun::tellTroubles(const sync::CycleReport& report) {
  std::string trouble;
  for (auto& failure : report.failures) trouble += failure.path + "\n" + failure.error.message + "\n";
  for (auto& unread : report.unread) trouble += unread.path + "\n" + unread.error.message + "\n";
  if (report.stop) trouble += report.stop->sentence + "\n";
  if (report.error) trouble += report.error->message + "\n";
  for (auto& conflict : report.conflicts) trouble += conflict.kept + "\n";
  for (auto& path : report.skipped) trouble += path + "\n";
  if (trouble == lastTrouble) return;
  lastTrouble = std::move(trouble);
  tellFailures(report);
  tellUnread(report);
  if (report.stop) {
    size_t shown = 0;
    for (auto& withheld : report.withheld) {
      if (!withheld.isDeletion) continue;
      if (++shown > WITHHELD_SHOWN) break;
      context.output.note("left alone: " + escapeForTerminal(withheld.path) + ": " +
                          escapeForTerminal(withheld.reason));
    }
    context.output.complain(SAFETY_STOP_CODE, report.stop->sentence);
  }
  // Of a connection that is gone for now there is a line already.
  bool isKnown = report.error && report.error->code == ErrorCode::UNREACHABLE && !wish.once && !wish.dryRun;
  if (report.error && !isKnown) context.output.fail(*report.error);
  for (auto& conflict : report.conflicts) {
    context.output.note("conflict: " + escapeForTerminal(conflict.path) + ": " + escapeForTerminal(conflict.reason) +
                        "; the other content is " + escapeForTerminal(conflict.kept));
  }
  for (auto& path : report.skipped) context.output.note("skipped: " + escapeForTerminal(path) + " is a special file");
}

void SyncRun::tellFailures(const sync::CycleReport& report) {
  bool all = context.output.json() || context.output.verbose();
  size_t shown = 0;
  for (auto& failure : report.failures) {
    if (!all && shown == FAILURES_SHOWN) break;
    ++shown;
    Error error = failure.error;
    if (error.path.empty()) error.path = failure.path;
    if (error.message.find(escapeForTerminal(failure.path)) == std::string::npos)
      error.message = escapeForTerminal(failure.path) + ": " + error.message;
    context.output.fail(error);
  }
  size_t rest = report.failures.size() - shown;
  if (rest > 0) context.output.note("and " + std::to_string(rest) + " more failed; -v names all of them");
}

void SyncRun::tellUnread(const sync::CycleReport& report) {
  bool all = context.output.json() || context.output.verbose();
  size_t shown = 0;
  for (auto& unread : report.unread) {
    if (!all && shown == FAILURES_SHOWN) break;
    ++shown;
    Error error = unread.error;
    error.path = unread.path;
    auto where = unread.side == sync::Side::LOCAL ? " here" : " at the server";
    auto name = unread.path.empty() ? std::string("the folder") : escapeForTerminal(unread.path);
    error.message = name + where + " was left alone, with all that is in it on both sides: " + error.message;
    context.output.fail(error);
  }
  size_t rest = report.unread.size() - shown;
  if (rest > 0) context.output.note("and " + std::to_string(rest) + " more could not be read; -v names all of them");
}

void SyncRun::onConnection(const sync::Event& event) {
  endProgress();
  if (context.output.json()) {
    context.output.line(eventAsJson("connection", event.text, event.error ? &*event.error : nullptr));
    return;
  }
  std::string line = event.text;
  if (event.error) line += (line.empty() ? "" : ": ") + event.error->message;
  context.output.note(timeOfDay(int64_t(time(nullptr)) * 1'000'000'000) + " " + line);
}

void SyncRun::showProgress(const sync::Event& event) {
  if (!context.showsProgress() || wish.dryRun) return;
  auto status = service.status();
  if (share == nullptr) {
    context.meter.startOver(false);
    share = context.meter.share();
    progressLine = context.startProgress();
    shownBytes = 0;
  }
  share->total(status.operations, status.bytes, true);
  if (status.bytesDone > shownBytes) share->advanced(status.bytesDone - shownBytes);
  shownBytes = status.bytesDone;
  if (event.kind == sync::Event::Kind::OPERATION && event.operation != nullptr)
    share->fileDone(event.operation->path, event.operation->node.size);
}

void SyncRun::endProgress() {
  progressLine = nullptr;
  share = nullptr;
}

}  // namespace capstan::cli
