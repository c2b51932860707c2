#include <capstan/sync/cycle.h>

#include <algorithm>
#include <chrono>

#include <kj/debug.h>

#include <capstan/base/path.h>
#include <capstan/sync/compare.h>
#include <capstan/sync/conflict-name.h>
#include <capstan/sync/cycle-impl.h>
#include <capstan/sync/execute.h>

namespace capstan::sync {

namespace {

using Phase = ServiceStatus::Phase;

Error errorOf(const kj::Exception& exception) {
  bool broken = exception.getType() == kj::Exception::Type::DISCONNECTED;
  return Error{
      broken ? ErrorCode::UNREACHABLE : ErrorCode::IO,
      std::string(broken ? "the connection broke: " : "the cycle failed: ") + exception.getDescription().cStr(),
      {}};
}

// Of the state: `again` of the last process, as the cursor does not name these paths any more. Each with a NUL behind.
constexpr std::string_view AGAIN = "again";
// And, by side, the folders that could not be looked into.
constexpr const char* UNREADABLE[] = {"unread-local", "unread-remote"};

void readPaths(std::string text, PathSet& paths) {
  while (!text.empty()) {
    size_t end = text.find('\0');
    paths.insert(text.substr(0, end));
    text.erase(0, end == std::string::npos ? text.size() : end + 1);
  }
}

std::string textOf(const PathSet& paths) {
  std::string text;
  for (auto& path : paths) text += path + '\0';
  return text;
}

}  // namespace

// Not too many, and none with other rules of what is ignored, for which everything has to be looked at.
bool mayGoOneByOne(const PathSet& paths) {
  constexpr size_t MAX_AGAIN = 1000;
  if (paths.size() > MAX_AGAIN) return false;
  return std::none_of(paths.begin(), paths.end(), [](auto& path) { return baseNameOf(path) == IGNORE_FILE; });
}

Cycle::Impl::Impl(Replica& local, Replica& remote, State& state, IgnoreRules& ignore, CycleOptions options,
                  OnEvent onEvent)
    : local(local),
      remote(remote),
      state(state),
      ignore(ignore),
      options(std::move(options)),
      onEvent(std::move(onEvent)),
      acceptDeletes(this->options.acceptDeletes) {
  readPaths(state.get(AGAIN), again);
  for (Side side : {Side::LOCAL, Side::REMOTE})
    readPaths(state.get(UNREADABLE[indexOf(side)]), unreadable[indexOf(side)]);
}

Cycle::Impl::~Impl() noexcept(false) {}

void Cycle::Impl::begin(const Request& request) {
  KJ_REQUIRE(pass == nullptr, "one cycle at a time");
  pass = std::make_unique<Pass>();
  pass->request = request;
  pass->report.began = options.now();
  pass->report.planned = request.dryRun;
  pass->firstRun = state.get("last-run").empty();
  cancelled = false;
  operations = operationsDone = bytes = bytesDone = 0;
  phase = Phase::LOOKING;
}

kj::Promise<CycleReport> Cycle::Impl::run(Request request) {
  begin(request);
  bool whole = request.whole || wholeNext || pass->firstRun || acceptDeletes;
  // Too many to go to each by itself.
  for (auto& folders : unreadable) whole = whole || !mayGoOneByOne(folders);
  auto paf = kj::newPromiseAndFulfiller<void>();
  cancelFulfiller = kj::mv(paf.fulfiller);
  // `this` outlives the promise, as Cycle says of its promises.
  return kj::evalNow([&]() { return look(whole); })
      .then([this](bool goOn) -> kj::Promise<void> {
        if (goOn && !cancelled) return planAndExecute();
        if (goOn) wholeNext = true;
        return kj::READY_NOW;
      })
      .catch_([this](kj::Exception&& exception) {
        pass->report.error = errorOf(exception);
        pass->failed = true;
        keepUnresolved();
        wholeNext = true;
      })
      .exclusiveJoin(kj::mv(paf.promise).then([this]() { breakOff(); }))
      .then([this]() { return takeReport(); })
      .attach(kj::defer([this]() {
        // Also when the promise is dropped in the middle: what was looked at is not known to be acted upon.
        if (pass != nullptr) wholeNext = true;
        execution = nullptr;
        pass = nullptr;
        phase = Phase::IDLE;
      }));
}

// The cycle was cancelled, and nothing of it is under way any more: neither a look nor an answer of the server is
// waited for.
void Cycle::Impl::breakOff() {
  execution = nullptr;
  pass->failed = true;
  keepUnresolved();
  wholeNext = true;
  pass->report.openConflicts = state.conflicts().size();
}

kj::Promise<void> Cycle::Impl::planAndExecute() {
  phase = Phase::PLANNING;
  pass->differences = differencesOf(pass->local.changes, pass->remote.changes, agreedAt());
  leaveUnread();
  dropKept();
  return readDigests().then([this]() -> kj::Promise<void> {
    makeThePlan();
    if (!checkPlan() || cancelled) {
      pass->failed = true;
      finish();
      return kj::READY_NOW;
    }
    if (pass->request.dryRun) {
      tellPlan();
      return kj::READY_NOW;
    }
    return executePlan();
  });
}

// What is left alone and was told of once is not told in each run: extras that nobody can explain, and folders that
// could not be removed because something ignored is in them. They come into play again where something is at their path
// on the other side, or where something happens in them.
void Cycle::Impl::dropKept() {
  auto& differences = pass->differences;
  auto isUnread = [this](const Difference& difference) { return pass->unread.count(difference.path) > 0; };
  if (!pass->unread.empty()) std::erase_if(differences, isUnread);
  if (acceptDeletes) return;
  std::vector<bool> drop(differences.size());
  std::string_view busy;     // the last difference that stays, in the order from the end
  std::string_view dropped;  // the last that does not
  for (size_t i = differences.size(); i-- > 0;) {
    auto& path = differences[i].path;
    drop[i] =
        isLeftAlone(differences[i], !busy.empty() && isWithin(busy, path), !dropped.empty() && isWithin(dropped, path));
    (drop[i] ? dropped : busy) = path;
  }
  size_t kept = 0;
  for (size_t i = 0; i < differences.size(); ++i)
    if (!drop[i] || isInTheWay(differences[i])) {
      if (kept != i) differences[kept] = std::move(differences[i]);
      ++kept;
    }
  differences.resize(kept);
}

// Whether nothing has happened to a kept path. `isBusy`: something in it stays different; `holdsKept`: something in it
// is left alone.
bool Cycle::Impl::isLeftAlone(const Difference& difference, bool isBusy, bool holdsKept) {
  if (difference.local.has_value() == difference.remote.has_value()) return false;
  Side has = difference.local ? Side::LOCAL : Side::REMOTE;
  if (options.mode == Mode::TWO_WAY) {
    bool wasChanged = difference.agreed && changeOf(*difference.on(has), *difference.agreed, has) != Change::NONE;
    return !isBusy && !wasChanged && state.isKept(difference.path);
  }
  if (has != (options.mode == Mode::PUSH ? Side::REMOTE : Side::LOCAL)) return false;
  // What was agreed upon may go once that has gone which came into it; what was not is there only because of what it
  // holds.
  if (difference.agreed) return !isBusy && state.isKept(difference.path);
  return holdsKept || state.isKept(difference.path);
}

// Whether the other side has something else where the folder of a kept path is.
bool Cycle::Impl::isInTheWay(const Difference& difference) const {
  Side without = difference.local ? Side::REMOTE : Side::LOCAL;
  for (auto folder = parentOf(difference.path); !folder.empty(); folder = parentOf(folder)) {
    auto& changes = (without == Side::LOCAL ? pass->local : pass->remote).changes;
    auto found = changes.find(folder);
    if (found != changes.end() && found->second) return found->second->type != EntryType::DIRECTORY;
  }
  return false;
}

PlanOptions Cycle::Impl::planOptions() {
  PlanOptions plan;
  plan.mode = options.mode;
  plan.checkContent = options.checkContent;
  plan.isUnexplained = [this](std::string_view path) { return isUnexplained(path) || state.isKept(path); };
  plan.isUnread = [this](std::string_view path) {
    return pass != nullptr && pass->unknown.find(path) != pass->unknown.end();
  };
  plan.agreedAt = agreedAt();
  plan.conflictPath = [this, taken = std::make_shared<PathSet>()](std::string_view path) {
    auto isTaken = [&](std::string_view name) {
      if (taken->find(name) != taken->end() || state.find(name)) return true;
      if (pass == nullptr) return false;
      return pass->local.changes.find(name) != pass->local.changes.end() ||
             pass->remote.changes.find(name) != pass->remote.changes.end();
    };
    auto name = conflictPath(path, options.now(), options.host, isTaken);
    taken->insert(name);
    return name;
  };
  plan.findContent = [this](Side side, const Node& node) -> std::string {
    if (pass == nullptr || node.digest.empty()) return {};
    auto path = state.findContent(node.size, node.digest);
    if (!path || pass->on(side).changes.find(*path) != pass->on(side).changes.end()) return {};
    if (ignore.isIgnored(*path, false)) return {};
    return *path;
  };
  return plan;
}

// Whether nobody knows since when something is there that was never agreed upon: there was no run before this one, or
// it could not see it.
bool Cycle::Impl::isUnexplained(std::string_view path) const {
  if (pass == nullptr ? state.get("last-run").empty() : pass->firstRun || pass->otherRules) return true;
  for (;; path = parentOf(path)) {
    for (auto& folders : unreadable)
      if (folders.find(path) != folders.end()) return true;
    if (path.empty()) return false;
  }
}

void Cycle::Impl::makeThePlan() {
  auto planning = planOptions();
  pass->plan = makePlan(pass->differences, planning);
  if (!acceptDeletes) return;
  // What nobody can explain goes only if exactly so many deletions were accepted as it takes.
  planning = planOptions();
  planning.acceptUnexplained = true;
  auto accepting = makePlan(pass->differences, planning);
  if (accepting.deletions == *acceptDeletes) pass->plan = std::move(accepting);
}

// Whether the plan may be carried out, or what is left of it.
bool Cycle::Impl::checkPlan() {
  Evidence evidence;
  evidence.agreedEntries = state.count();
  evidence.localRootReplaced = pass->localRootReplaced;
  evidence.remoteRootReplaced = pass->remoteRootReplaced;
  evidence.acceptDeletes = acceptDeletes;
  auto stop = checkSafety(pass->plan, evidence);
  bool goOn = !stop || !stop->wholly;
  if (stop && !stop->wholly && pass->plan.deletions > 0) {
    withholdDeletions(pass->plan, stop->sentence);
    pass->held = true;
  }
  for (auto& withheld : pass->plan.withheld) {
    // What cannot be told by name comes back when the folder can be read.
    bool isUnread = !withheld.isDeletion && !pass->unknown.empty();
    bool known = isUnexplained(withheld.path) || state.isKept(withheld.path);
    if (isUnread || (withheld.isDeletion && !known)) pass->held = true;
  }
  pass->report.withheld = pass->plan.withheld;
  if (stop && !goOn) phase = Phase::HALTED;
  pass->report.stop = std::move(stop);
  for (auto& operation : pass->plan.operations) {
    if (isVisible(operation)) ++operations;
    if (operation.kind == Operation::Kind::PUT) bytes += operation.node.size;
  }
  return goOn;
}

void Cycle::Impl::tellPlan() {
  for (auto& operation : pass->plan.operations) {
    countOperation(pass->report, operation, operation.node.size);
    if (!isVisible(operation)) continue;
    Event event;
    event.kind = Event::Kind::PLANNED;
    event.operation = &operation;
    event.bytes = operation.kind == Operation::Kind::PUT ? operation.node.size : 0;
    tell(event);
  }
  pass->report.conflicts = pass->plan.conflicts;
  wholeNext = true;  // the looks have told, and nothing has come of it
  pass->report.openConflicts = state.conflicts().size();
}

// Which folders the first agreements are about has to be known before there are any: a folder that is not mounted is
// noticed by that. And what is agreed about another folder must not count as looked at in the right one.
Status Cycle::Impl::rememberRoots() {
  for (Side side : {Side::LOCAL, Side::REMOTE}) {
    auto name = side == Side::LOCAL ? "local-root" : "remote-root";
    auto& now = pass->on(side);
    if (!now.rootExists || now.root.empty() || !state.get(name).empty()) continue;
    if (auto status = state.set(name, now.root); !status.ok()) return status;
  }
  if (pass->sawOtherRoot() && !state.get("cursor").empty()) return state.set("cursor", "");
  return okStatus();
}

kj::Promise<void> Cycle::Impl::executePlan() {
  if (auto status = rememberRoots(); !status.ok()) {
    pass->broken = status.error();
    finish();
    return kj::READY_NOW;
  }
  if (!pass->plan.operations.empty()) phase = Phase::APPLYING;
  if (operations > 0) {
    Event event;
    event.kind = Event::Kind::CYCLE_BEGAN;
    tell(event);
  }
  execution = std::make_unique<Execution>(*this, *pass);
  return execution->run()
      .then([this]() {
        execution = nullptr;
        // A number is accepted once, not for whatever comes to the same number some day.
        bool isUsed = pass->report.removed > 0 || !(pass->held || pass->broken);
        if (isUsed) acceptDeletes.reset();
        keepExtras();
        return lookForConflicts();
      })
      .then([this]() { finish(); });
}

// The extras of a first run are remembered, so that later runs know that nobody can explain them.
void Cycle::Impl::keepExtras() {
  std::vector<std::string> paths;
  for (auto& withheld : pass->plan.withheld) {
    bool isExtra = withheld.isDeletion && isUnexplained(withheld.path);
    if (isExtra && !state.isKept(withheld.path) && !state.find(withheld.path)) paths.push_back(withheld.path);
  }
  if (paths.empty()) return;
  auto status = state.setKept(paths, true);
  if (!status.ok()) pass->broken = status.error();
}

// A conflict is over when the kept content is gone or was given another name.
kj::Promise<void> Cycle::Impl::lookForConflicts() {
  auto asked = kj::heapArrayBuilder<kj::Promise<std::string>>(state.conflicts().size());
  for (auto& conflict : state.conflicts()) {
    if (pass->broken || state.find(conflict.kept)) {
      asked.add(kj::Promise<std::string>(std::string()));
      continue;
    }
    asked.add(local.stat(conflict.kept).then([kept = conflict.kept](Result<std::optional<Node>> now) {
      return now.ok() && !now->has_value() ? kept : std::string();
    }));
  }
  return kj::joinPromises(asked.finish()).then([this](kj::Array<std::string> gone) {
    for (auto& kept : gone)
      if (!kept.empty()) (void)state.closeConflict(kept).ok();
    pass->report.openConflicts = state.conflicts().size();
  });
}

void Cycle::Impl::finish() {
  auto& report = pass->report;
  if (!report.error && pass->broken) report.error = pass->broken;
  if (report.stop && report.stop->wholly) pass->failed = true;
  if (cancelled) pass->failed = true;
  keepUnresolved();
  noteUnreadable();
  if (pass->broken) return;
  // What one path fails at must not make every cycle a look at everything, nor each run the first.
  bool isNamed = !wholeNext && !cancelled && !report.error;
  if ((!pass->failed && pass->isPlain()) || isNamed) remember();
}

// Paths that were not brought into step are taken up again by the next cycle, whatever the looks say then.
void Cycle::Impl::keepUnresolved() {
  PathSet rest = std::move(pass->unread);
  pass->unread.clear();
  if (pass->failed || pass->held || pass->broken) {
    for (auto& difference : pass->differences) {
      if (pass->recorded.count(difference.path)) continue;
      rest.insert(difference.path);
    }
    for (auto& failure : pass->report.failures) rest.insert(failure.path);
    rest.erase(std::string());
  }
  // What is left to do in a folder that was moved is left to do at its new place.
  for (auto& [from, to] : pass->moved) {
    PathSet there;
    for (auto path = rest.lower_bound(from); path != rest.end() && isWithin(*path, from); ++path) {
      there.insert(to + path->substr(from.size()));
    }
    rest.merge(there);
  }
  // Once the right folder is there again, nothing tells what was taken for a change in the wrong one.
  bool stopped = pass->report.stop && pass->report.stop->wholly;
  wholeNext = !mayGoOneByOne(rest) || pass->sawMoves || pass->sawOtherRoot() || stopped;
  pass->unread = rest;
  again = wholeNext ? PathSet() : std::move(rest);
}

// A cycle that did not come to its end has not done what becomes possible when a folder can be read again.
void Cycle::Impl::noteUnreadable() {
  bool stopped = pass->report.stop && pass->report.stop->wholly;
  bool isOver = !pass->report.error && !pass->broken && !stopped && !cancelled;
  for (Side side : {Side::LOCAL, Side::REMOTE}) {
    auto& folders = unreadable[indexOf(side)];
    if (isOver) folders.clear();
    for (auto& [path, error] : pass->on(side).unread) folders.insert(path);
  }
}

// What is written at the end of a cycle that was complete, or whose rest is known by name; nothing if nothing is new.
void Cycle::Impl::remember() {
  auto keep = [this](std::string_view name, const std::string& value) {
    if (value.empty() || state.get(name) == value) return;
    auto status = state.set(name, value);
    if (!status.ok()) pass->report.error = status.error();
  };
  bool isOther = readRulesAgain();
  if (rulesAreUnreadable() || isOther) {
    wholeNext = true;
    return;
  }
  bool didSomething = pass->report.didSomething();
  // Before the cursor that leaves them behind.
  auto keepPaths = [this](std::string_view name, const PathSet& paths) {
    auto text = textOf(paths);
    return state.get(name) == text ? okStatus() : state.set(name, text);
  };
  auto status = keepPaths(AGAIN, again);
  for (Side side : {Side::LOCAL, Side::REMOTE})
    if (status.ok()) status = keepPaths(UNREADABLE[indexOf(side)], unreadable[indexOf(side)]);
  if (!status.ok()) {
    pass->report.error = status.error();
    return;
  }
  if (pass->local.rootExists) keep("local-root", pass->local.root);
  if (pass->remote.rootExists) {
    keep("cursor", pass->remote.cursor);
    keep("remote-root", pass->remote.root);
  }
  keep("ignore-rules", ignore.fingerprint());
  if (didSomething || pass->firstRun) keep("last-run", std::to_string(options.now()));
  // Those that are not agreed upon stay unsure.
  unsureRules.clear();
  noteRules();
}

CycleReport Cycle::Impl::takeReport() {
  auto report = std::move(pass->report);
  if (!pass->changedServer) report.run.clear();
  report.duration = static_cast<uint64_t>(std::max<int64_t>(0, options.now() - report.began));
  report.entries = pass->local.entries + pass->remote.entries;
  for (auto& path : pass->local.skipped) report.skipped.push_back(path);
  for (auto& path : pass->remote.skipped) report.skipped.push_back(path);
  for (Side side : {Side::LOCAL, Side::REMOTE})
    for (auto& [path, error] : pass->on(side).unread) report.unread.push_back({path, side, error});
  if (report.error && !pass->request.dryRun && report.openConflicts == 0)
    report.openConflicts = state.conflicts().size();
  pass = nullptr;
  if (report.didSomething() || !report.unread.empty() || report.error || report.stop) {
    Event event;
    event.kind = Event::Kind::CYCLE_ENDED;
    event.report = &report;
    tell(event);
  }
  return report;
}

Cycle::Cycle(Replica& local, Replica& remote, State& state, IgnoreRules& ignore, CycleOptions options, OnEvent onEvent)
    : impl(kj::heap<Impl>(local, remote, state, ignore, std::move(options), std::move(onEvent))) {}
Cycle::~Cycle() noexcept(false) {}

kj::Promise<CycleReport> Cycle::run(Request request) { return impl->run(request); }

void Cycle::cancel() {
  if (impl->pass == nullptr) return;
  impl->cancelled = true;
  if (impl->cancelFulfiller.get() != nullptr) impl->cancelFulfiller->fulfill();
}

ServiceStatus::Phase Cycle::phase() const { return impl->phase; }
uint64_t Cycle::operations() const { return impl->operations; }
uint64_t Cycle::operationsDone() const { return impl->operationsDone; }
uint64_t Cycle::bytes() const { return impl->bytes; }
uint64_t Cycle::bytesDone() const { return impl->bytesDone; }

}  // namespace capstan::sync
