// What is remembered of a plan that was carried out: pairs of nodes about which both sides agree now.
#include <algorithm>

#include <capstan/base/path.h>
#include <capstan/sync/execute.h>

namespace capstan::sync {

namespace {

using Kind = Operation::Kind;

StateChange eraseOf(const std::string& path) {
  StateChange change;
  change.kind = StateChange::Kind::ERASE;
  change.path = path;
  return change;
}

}  // namespace

// What was to be agreed upon without doing anything may be so only because of something before it, as at the new place
// of something that was moved.
void Execution::agreeOnTheRest() {
  for (size_t index = sliceBegin; index < position; ++index) {
    if (isVisible(operations[index])) continue;
    if (isBlocked(operations[index]))
      pass.failed = true;
    else
      done[index - sliceBegin] = Replica::Done{};
  }
}

void Execution::recordSlice() {
  agreeOnTheRest();
  std::vector<StateChange> changes;
  for (size_t index = sliceBegin; index < position; ++index)
    if (done[index - sliceBegin]) record(index, changes);
  if (changes.empty()) return;
  auto status = cycle.state.apply(changes);
  if (!status.ok()) {
    pass.broken = status.error();
    pass.failed = true;
    return;
  }
  for (size_t index = sliceBegin; index < position; ++index)
    if (done[index - sliceBegin] && !changesLater(index)) pass.recorded.insert(operations[index].path);
  for (size_t index = sliceBegin; index < position; ++index) {
    auto& operation = operations[index];
    if (!done[index - sliceBegin] || operation.kind != Kind::MOVE) continue;
    // Unless something else takes the old place.
    auto& source = operation.source;
    if (isChangedAfter(Side::LOCAL, source, index) || isChangedAfter(Side::REMOTE, source, index)) continue;
    pass.recorded.insert(operation.source);
  }
  releaseKept(changes);
}

bool Execution::isChangedAfter(Side side, const std::string& path, size_t index) const {
  auto mention = mentions[indexOf(side)].find(path);
  return mention != mentions[indexOf(side)].end() && mention->second.lastChange > index;
}

bool Execution::changesLaterOn(Side side, size_t index) const {
  return isChangedAfter(side, operations[index].path, index);
}

bool Execution::changesLater(size_t index) const { return changesLaterOn(operations[index].side, index); }

StateChange Execution::setOf(const Operation& operation, Node own, Node others) const {
  StateChange change;
  change.path = operation.path;
  bool ownIsLocal = operation.side == Side::LOCAL;
  change.agreed.local = ownIsLocal ? own : others;
  change.agreed.remote = ownIsLocal ? std::move(others) : std::move(own);
  return change;
}

void Execution::record(size_t index, std::vector<StateChange>& changes) {
  auto& operation = operations[index];
  auto& result = *done[index - sliceBegin];
  if (operation.kind == Kind::REMOVE || operation.kind == Kind::FORGET) {
    changes.push_back(eraseOf(operation.path));
    return;
  }
  if (operation.kind == Kind::MOVE) return recordMove(index, changes);
  if (changesLater(index)) return;  // not in step before that is done too
  auto others = operation.node;
  if (auto node = latestAt(other(operation.side), operation.path)) others = *node;
  if (operation.kind == Kind::AGREE) {
    if (!operation.expected) return;
    auto own = *operation.expected;
    if (auto node = latestAt(operation.side, operation.path)) own = *node;
    if (own.digest.empty()) own.digest = others.digest;
    changes.push_back(setOf(operation, std::move(own), std::move(others)));
    return;
  }
  if (!result.node) return;
  // A content that comes from another path on the other side agrees with nothing there.
  if (operation.kind == Kind::PUT && operation.source != operation.path) return;
  if (result.source) others = *result.source;
  auto change = setOf(operation, *result.node, std::move(others));
  change.chunks = std::move(result.chunks);
  changes.push_back(std::move(change));
}

// What was agreed moves along with its path. Where one side's content is still to be brought to the other at the new
// path, that side's part stays what was agreed before, so that it is seen as changed until then.
void Execution::recordMove(size_t index, std::vector<StateChange>& changes) {
  auto& operation = operations[index];
  auto& result = *done[index - sliceBegin];
  if (operation.isConflict || !result.node) return;
  auto before = cycle.state.find(operation.source);
  if (before) {
    StateChange change;
    change.kind = StateChange::Kind::MOVE;
    change.path = operation.path;
    change.from = operation.source;
    changes.push_back(std::move(change));
    pass.moved.emplace_back(operation.source, operation.path);
  }
  auto others = operation.node;
  if (auto node = latestAt(other(operation.side), operation.path)) others = *node;
  bool ownPending = changesLaterOn(other(operation.side), index) || others.size != result.node->size;
  bool othersPending = changesLaterOn(operation.side, index);
  if (ownPending && othersPending) return;
  if ((ownPending || othersPending) && !before) return;
  auto own = *result.node;
  // A folder that got another mode on its way is moved all the same.
  if (own.type == EntryType::DIRECTORY && operation.sourceNode) own.mode = operation.sourceNode->mode;
  if (ownPending) own = before->on(operation.side);
  if (othersPending) others = before->on(other(operation.side));
  changes.push_back(setOf(operation, std::move(own), std::move(others)));
}

void Execution::releaseKept(const std::vector<StateChange>& changes) {
  std::vector<std::string> paths;
  for (auto& change : changes)
    if (cycle.state.isKept(change.path)) paths.push_back(change.path);
  if (paths.empty()) return;
  auto status = cycle.state.setKept(paths, false);
  if (!status.ok()) pass.broken = status.error();
}

}  // namespace capstan::sync
