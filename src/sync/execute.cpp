#include <capstan/sync/execute.h>

#include <algorithm>

#include <kj/debug.h>

#include <capstan/base/path.h>

namespace capstan::sync {

namespace {

using Kind = Operation::Kind;

// Whether an operation has a source, and on which side.
std::optional<Side> sourceSide(const Operation& operation) {
  if (operation.kind == Kind::PUT) return other(operation.side);
  if (operation.kind == Kind::MOVE || operation.kind == Kind::COPY) return operation.side;
  return std::nullopt;
}

bool isOutOfRoom(ErrorCode code) {
  return code == ErrorCode::NO_SPACE || code == ErrorCode::QUOTA || code == ErrorCode::IO;
}

// Somebody changed something between the look and the operation: the next cycle sees what it is.
bool isOvertaken(ErrorCode code) {
  return code == ErrorCode::CHANGED || code == ErrorCode::CONFLICT || code == ErrorCode::EXISTS ||
         code == ErrorCode::NOT_FOUND || code == ErrorCode::NOT_EMPTY || code == ErrorCode::NOT_DIRECTORY ||
         code == ErrorCode::IS_DIRECTORY;
}

// Whether one of the paths is this one or a folder above it.
bool coversAbove(const PathSet& paths, std::string_view path) {
  if (paths.empty()) return false;
  for (; !path.empty(); path = parentOf(path))
    if (paths.find(path) != paths.end()) return true;
  return false;
}

bool coversBelow(const PathSet& paths, std::string_view folder) {
  auto first = paths.lower_bound(folder);
  return first != paths.end() && isWithin(*first, folder);
}

}  // namespace

Execution::Execution(Cycle::Impl& cycle, Pass& pass) : cycle(cycle), pass(pass), operations(pass.plan.operations) {
  for (size_t i = 0; i < operations.size(); ++i) {
    auto& operation = operations[i];
    auto& own = mentions[indexOf(operation.side)][operation.path];
    ++own.count;
    own.lastChange = i;
    if (!isVisible(operation)) ++mentions[indexOf(other(operation.side))][operation.path].count;
    if (auto side = sourceSide(operation)) {
      auto& source = mentions[indexOf(*side)][operation.source];
      ++source.count;
      if (operation.kind == Kind::MOVE) source.lastChange = i;
    }
  }
  auto mayFollow = [](const Operation& operation) {
    return operation.kind == Kind::REMOVE || operation.kind == Kind::SET_METADATA || !isVisible(operation);
  };
  deletionsBegin = operations.size();
  for (size_t i = operations.size(); i > 0 && mayFollow(operations[i - 1]); --i)
    if (operations[i - 1].kind == Kind::REMOVE) deletionsBegin = i - 1;
}

kj::Promise<void> Execution::nextSlice() {
  if (position == operations.size() || pass.broken || cycle.cancelled) return kj::READY_NOW;
  sliceBegin = position;
  sliceEnd = endOfSlice(position);
  done.assign(sliceEnd - sliceBegin, std::nullopt);
  return nextGroup().then([this]() {
    recordSlice();
    return nextSlice();
  });
}

// A slice ends where the state is to be written, and before an operation on what the slice itself has changed: that
// one's expectation is known only then.
size_t Execution::endOfSlice(size_t from) const {
  uint64_t bytes = 0;
  std::set<std::string_view> changed[2];
  PathSet moved;  // folders, at their new places: what was agreed about what is in them is not there yet
  size_t end = from;
  for (; end < operations.size() && end - from < std::max<uint64_t>(1, cycle.options.operationsAtOnce); ++end) {
    auto& operation = operations[end];
    auto wasChanged = [&](Side side, const std::string& path) { return changed[indexOf(side)].count(path) > 0; };
    auto side = sourceSide(operation);
    bool again = wasChanged(operation.side, operation.path) || (side && wasChanged(*side, operation.source));
    if (!isVisible(operation)) again = again || wasChanged(other(operation.side), operation.path);
    again = again || coversAbove(moved, operation.path) || coversAbove(moved, operation.source);
    if (again) break;
    if (operation.kind == Kind::PUT) bytes += operation.node.size;
    if (end > from && bytes > cycle.options.bytesAtOnce) break;
    auto note = [&](Side side, const std::string& path) {
      auto mention = mentions[indexOf(side)].find(path);
      if (mention != mentions[indexOf(side)].end() && mention->second.count > 1) changed[indexOf(side)].insert(path);
    };
    if (!isVisible(operation)) continue;
    note(operation.side, operation.path);
    if (operation.kind != Kind::MOVE) continue;
    note(operation.side, operation.source);
    if (operation.node.type == EntryType::DIRECTORY) moved.insert(operation.path);
  }
  return end;
}

// Consecutive operations of one side are sent together, save the deletions, which wait for what came of the rest. What
// is only to be recorded needs no sending.
kj::Promise<void> Execution::nextGroup() {
  std::vector<size_t> group;
  Side side = Side::LOCAL;
  for (; position < sliceEnd; ++position) {
    auto& operation = operations[position];
    if (!isVisible(operation)) continue;
    if (!group.empty() && (operation.side != side || position == deletionsBegin)) break;
    if (isHeldBack(position)) {
      holdBack(operation);
      continue;
    }
    auto& stay = left[indexOf(operation.side)];
    if (operation.kind == Kind::REMOVE && coversBelow(stay, operation.path)) {
      leaveStubborn(position);
      continue;
    }
    if (stay.count(operation.path) > 0) continue;
    if (isBlocked(operation)) {
      auto message = "not done, because what it depends on failed";
      fail(position, Error{ErrorCode::CONFLICT, message, operation.path});
      continue;
    }
    side = operation.side;
    refresh(operation);
    group.push_back(position);
  }
  if (group.empty()) return kj::READY_NOW;
  return send(side, std::move(group)).then([this]() -> kj::Promise<void> {
    if (pass.broken || cycle.cancelled) return kj::READY_NOW;
    return nextGroup();
  });
}

kj::Promise<void> Execution::send(Side side, std::vector<size_t> group) {
  std::vector<Operation> batch;
  batch.reserve(group.size());
  for (size_t index : group) batch.push_back(operations[index]);
  Replica::ApplyOptions options;
  options.run = pass.report.run;
  if (options.run.empty()) options.run = pass.report.run = cycle.options.random(16);
  auto& pair = cycle.state.pair();
  options.label = "sync " + std::string(nameOf(cycle.options.mode)) + " from " + cycle.options.host + ":" + pair.local;
  options.chunksOf = chunksOf(group);
  options.pace = cycle.options.pace;
  options.holdsChunks = side == Side::LOCAL;
  options.onMoved = [this](const Operation&, uint64_t bytes) {
    cycle.bytesDone += bytes;
    Event event;
    event.kind = Event::Kind::PROGRESS;
    cycle.tell(event);
  };
  return cycle.on(side)
      .apply(std::move(batch), cycle.on(other(side)), options)
      .then([this, group = std::move(group)](std::vector<Done> results) { take(group, std::move(results)); });
}

// Remembered chunks are those of the agreed content; they are of use where that is what will be replaced.
std::function<std::optional<std::vector<Chunk>>(const std::string&)> Execution::chunksOf(
    const std::vector<size_t>& group) {
  auto usable = std::make_shared<std::set<std::string>>();
  for (size_t index : group) {
    auto& operation = operations[index];
    if (operation.kind != Kind::PUT || !operation.expected || operation.node.size <= SMALL_FILE_BYTES) continue;
    auto agreed = cycle.state.find(operation.path);
    if (agreed && agreed->on(operation.side).stamp == operation.expected->stamp) usable->insert(operation.path);
  }
  return [this, usable](const std::string& path) -> std::optional<std::vector<Chunk>> {
    if (usable->count(path) == 0) return std::nullopt;
    return cycle.state.chunks(path);
  };
}

void Execution::take(const std::vector<size_t>& group, std::vector<Done> results) {
  KJ_ASSERT(results.size() == group.size(), "a replica answers for each operation");
  for (size_t i = 0; i < group.size(); ++i) takeOne(group[i], std::move(results[i]));
}

void Execution::takeOne(size_t index, Done result) {
  auto& operation = operations[index];
  if (!result.ok()) return fail(index, std::move(result).error());
  ++cycle.operationsDone;
  if (operation.side == Side::REMOTE) pass.changedServer = true;
  countOperation(pass.report, operation, operation.kind == Kind::PUT ? operation.node.size : 0);
  if (operation.kind == Kind::MOVE) noteMove(operation.side, operation);
  setLatest(operation.side, operation.path, result->node);
  if (operation.isConflict) noteConflict(operation);
  // Rules that come from the other side count from the next cycle on.
  if (operation.side == Side::LOCAL && baseNameOf(operation.path) == IGNORE_FILE) {
    cycle.unsureRules.insert(std::string(parentOf(operation.path)));
    pass.sawMoves = true;
  }
  Event event;
  event.kind = Event::Kind::OPERATION;
  event.operation = &operation;
  event.bytes = operation.kind == Kind::PUT ? operation.node.size : 0;
  cycle.tell(event);
  done[index - sliceBegin] = std::move(*result);
}

void Execution::fail(size_t index, Error error) {
  auto& operation = operations[index];
  bool isNotEmpty = operation.kind == Kind::REMOVE && error.code == ErrorCode::NOT_EMPTY;
  if (isNotEmpty && !coversBelow(blocked[indexOf(operation.side)], operation.path)) return leaveStubborn(index);
  pass.failed = true;
  if (error.code == ErrorCode::UNREACHABLE || error.code == ErrorCode::SHUTTING_DOWN) pass.broken = error;
  if (isOutOfRoom(error.code) && !outOfRoom) outOfRoom = error;
  auto& places = blocked[indexOf(operation.side)];
  // A folder whose mode cannot be set is there all the same.
  bool isFolder = operation.node.type == EntryType::DIRECTORY;
  if (operation.kind != Kind::SET_METADATA || !isFolder) places.insert(operation.path);
  if (operation.kind == Kind::MOVE) {
    places.insert(operation.source);
    if (isFolder) pass.sawMoves = true;
  }
  Event event;
  event.kind = Event::Kind::OPERATION;
  event.operation = &operation;
  event.error = error;
  cycle.tell(event);
  if (isOvertaken(error.code))
    ++pass.report.deferred;
  else
    pass.report.failures.push_back({operation.path, std::move(error)});
}

// Something that is ignored is in the folder: it stays, and is not spoken of again until something happens to it; but
// that nothing can take its place is told.
void Execution::leaveStubborn(size_t index) {
  auto& operation = operations[index];
  left[indexOf(operation.side)].insert(operation.path);
  if (changesLater(index)) {
    pass.held = true;
    Withheld withheld{operation.path, operation.side, "something ignored is in the folder that is to be replaced",
                      false};
    pass.report.withheld.push_back(std::move(withheld));
    return;
  }
  auto status = cycle.state.setKept({operation.path}, true);
  if (!status.ok()) pass.broken = status.error();
  pass.recorded.insert(operation.path);
}

// Whether something that the operation needs has failed: at its path or above it, on this side, and on the other, to
// which it is fitted; at its source, and of what is removed below it too.
bool Execution::isBlocked(const Operation& operation) const {
  auto& places = blocked[indexOf(operation.side)];
  if (coversAbove(places, operation.path)) return true;
  if (coversAbove(blocked[indexOf(other(operation.side))], operation.path)) return true;
  if (operation.kind == Kind::REMOVE && coversBelow(places, operation.path)) return true;
  auto side = sourceSide(operation);
  return side && coversAbove(blocked[indexOf(*side)], operation.source);
}

// Deletions wait for the next run when there is no room, or a disk is failing: it may be that what was to be kept could
// not be kept. What is replaced is removed, or the replacement fails with it.
bool Execution::isHeldBack(size_t index) const { return outOfRoom && operations[index].kind == Kind::REMOVE; }

void Execution::holdBack(const Operation& operation) {
  pass.held = pass.failed = true;
  blocked[indexOf(operation.side)].insert(operation.path);
  Withheld withheld{operation.path, operation.side, "something before it failed: " + outOfRoom->message, true};
  pass.report.withheld.push_back(std::move(withheld));
  if (pass.report.stop) return;
  pass.report.stop =
      SafetyStop{"nothing was removed, because " + outOfRoom->message + "; the next run goes on", 0, false};
}

const Node* Execution::latestAt(Side side, const std::string& path) const {
  auto found = latest[indexOf(side)].find(path);
  return found == latest[indexOf(side)].end() || !found->second ? nullptr : &*found->second;
}

void Execution::setLatest(Side side, const std::string& path, std::optional<Node> node) {
  auto mention = mentions[indexOf(side)].find(path);
  if (mention == mentions[indexOf(side)].end() || mention->second.count < 2) return;
  latest[indexOf(side)][path] = std::move(node);
}

// What is known of places below a folder goes with it.
void Execution::noteMove(Side side, const Operation& operation) {
  auto& places = latest[indexOf(side)];
  ByPath<std::optional<Node>> moved;
  auto at = places.lower_bound(operation.source);
  while (at != places.end() && isWithin(at->first, operation.source)) {
    moved.emplace(operation.path + at->first.substr(operation.source.size()), std::move(at->second));
    at = places.erase(at);
  }
  for (auto& [path, node] : moved) places[path] = std::move(node);
  setLatest(side, operation.source, std::nullopt);
}

// What was seen before the plan was begun, replaced by what it has made of it since.
void Execution::refresh(Operation& operation) const {
  if (auto node = latestAt(operation.side, operation.path); node && operation.expected) operation.expected = *node;
  if (operation.kind == Kind::MOVE || operation.kind == Kind::COPY)
    if (auto node = latestAt(operation.side, operation.source); node && operation.sourceNode)
      operation.sourceNode = *node;
  if (operation.kind == Kind::PUT)
    if (auto node = latestAt(other(operation.side), operation.source)) operation.node = *node;
}

void Execution::noteConflict(const Operation& operation) {
  for (auto& conflict : pass.plan.conflicts) {
    if (conflict.kept != operation.path) continue;
    auto status = cycle.state.addConflict({conflict.path, conflict.kept, cycle.options.now(), conflict.reason});
    if (!status.ok()) pass.broken = status.error();
    pass.report.conflicts.push_back(conflict);
  }
}

}  // namespace capstan::sync
