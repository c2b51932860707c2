#include <capstan/sync/conflicts.h>

namespace capstan::sync {
namespace {

constexpr std::string_view BOTH_CHANGED = "it was changed on both sides";

// Whether anything in a folder of the side is not as it was agreed.
bool hasChangesIn(const Draft& draft, const std::string& folder, Side side) {
  for (auto at = draft.items.upper_bound(folder); at != draft.items.end() && isWithin(at->first, folder); ++at) {
    const Item& item = at->second;
    if (item.on(side) && changeOf(item.on(side), item.agreed, side) != Change::NONE) return true;
  }
  return false;
}

bool isContentChanged(const Draft& draft, const std::string& path, const Item& item, Side side) {
  if (changeOf(item.on(side), item.agreed, side) == Change::CONTENT) return true;
  return isFolder(item.on(side)) && hasChangesIn(draft, path, side);
}

bool isConflict(const Draft& draft, const std::string& path, const Item& item) {
  if (!item.local || !item.remote) return false;
  if (isSameContent(*item.local, *item.remote, draft.options.checkContent)) return false;
  if (isFolder(item.local) && isFolder(item.remote)) return false;
  return isContentChanged(draft, path, item, Side::LOCAL) && isContentChanged(draft, path, item, Side::REMOTE);
}

std::string freeName(const Draft& draft, const std::string& path) {
  const PlanOptions& options = draft.options;
  std::string name = path;
  do {
    name = options.conflictPath(name);
  } while (draft.items.contains(name) || (options.agreedAt && options.agreedAt(name)));
  return name;
}

void moveAside(Draft& draft, const std::string& path) {
  std::string kept = freeName(draft, path);
  Item& item = *draft.find(path);
  Operation operation;
  operation.kind = Operation::Kind::MOVE;
  operation.side = Side::LOCAL;
  operation.path = kept;
  operation.source = path;
  operation.node = *item.local;
  operation.sourceNode = item.local;
  operation.reason = BOTH_CHANGED;
  operation.isConflict = true;
  draft.moves.push_back(std::move(operation));
  draft.plan.conflicts.push_back({path, kept, std::string(BOTH_CHANGED)});
  for (const std::string& old : draft.pathsWithin(path)) {
    Item& from = draft.items[old];
    if (!from.local) continue;
    std::string to = kept + old.substr(path.size());
    draft.items[to].local = std::move(from.local);
    from.local.reset();
    draft.recordMoved(Side::LOCAL, old, to);
    if (old != path) draft.eraseIfEmpty(old);
  }
  // What was agreed is neither's any more; save a folder of which only the inside was changed: that what is not changed
  // in it is missing here means that it was removed.
  if (changeOf(item.remote, item.agreed, Side::REMOTE) == Change::CONTENT) item.agreed.reset();
}

}  // namespace

void moveConflictsAside(Draft& draft) {
  if (draft.options.mode != Mode::TWO_WAY) return;
  std::vector<std::string> paths;
  for (const auto& [path, item] : draft.items) {
    if (isConflict(draft, path, item)) paths.push_back(path);
  }
  for (const std::string& path : paths) moveAside(draft, path);
}

}  // namespace capstan::sync
