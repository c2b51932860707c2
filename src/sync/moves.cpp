#include <capstan/sync/moves.h>

#include <algorithm>
#include <unordered_set>

namespace capstan::sync {
namespace {

// What is looked for by which: folders first, because with one of them all that is in it is found.
enum class Stage { FOLDERS, BY_IDENTITY, BY_CONTENT };

constexpr size_t MAX_TRIES = 16;    // of origins with the same identity (hard links) or content, for each arrival
constexpr size_t MAX_SAMPLES = 64;  // of a folder's children that are looked at to believe in its identity
constexpr int MAX_ROUNDS = 16;      // of moves that become possible by others

// Finds what was moved on the side `source`, for one stage.
class MoveFinder {
 public:
  MoveFinder(Draft& draft, Side source, Stage stage)
      : draft(draft), source(source), target(other(source)), stage(stage) {}

  // Whether it found anything.
  bool run();

 private:
  Draft& draft;
  const Side source;
  const Side target;
  const Stage stage;
  std::unordered_map<std::string, std::vector<std::string>> origins;  // paths by key, in tree order
  std::unordered_set<std::string> arrivals;                           // that have an origin by their key
  std::unordered_map<std::string, size_t> awaited;                    // how many of them, by key
  bool mayOverwriteAwaited = false;

  std::string keyOf(const Node& node, const Agreed* agreed) const;
  std::string originKey(const Item& item) const;
  std::string arrivalKey(const Item& item) const;

  bool moveAll(const std::vector<std::string>& inOrder);
  // Where something was moved to this path: does it, and answers from where.
  std::optional<std::string> tryArrival(const std::string& to);
  bool canMove(const std::string& from, const Item& origin, const std::string& to, const Item& arrival);
  bool looksTheSame(const std::string& from, const Item& origin, const std::string& to, const Item& arrival) const;
  bool hasKnownChild(const std::string& from, const std::string& to) const;
  bool mayReplace(const Item& arrival) const;
  // The folders above it that have to be made first, outermost first; nothing if it cannot be done.
  std::optional<std::vector<std::string>> missingFolders(const std::string& path);

  void move(const std::string& from, const std::string& to);
  void makeMissingFolders(const std::string& path);
  void moveFolder(const std::string& from, const std::string& to);
  void moveFile(const std::string& from, const std::string& to);
};

std::string MoveFinder::keyOf(const Node& node, const Agreed* agreed) const {
  if (stage == Stage::BY_CONTENT) {
    if (node.type != EntryType::FILE || node.size == 0) return {};
    return agreed != nullptr ? agreedDigest(*agreed) : node.digest;
  }
  bool isWanted = (node.type == EntryType::DIRECTORY) == (stage == Stage::FOLDERS);
  return isWanted && node.identity != 0 ? std::to_string(node.identity) : std::string();
}

// Empty unless the source does not have it there any more, while the target still has.
std::string MoveFinder::originKey(const Item& item) const {
  if (!item.agreed || !item.on(target)) return {};
  const std::optional<Node>& now = item.on(source);
  const Node& before = item.agreed->on(source);
  if (now) {
    // Something else is there now. Of folders, what is in them cannot be told apart then.
    if (stage == Stage::BY_CONTENT || isFolder(now)) return {};
    if (now->type == before.type && now->identity == before.identity) return {};
  }
  return keyOf(before, &*item.agreed);
}

std::string MoveFinder::arrivalKey(const Item& item) const {
  const std::optional<Node>& now = item.on(source);
  if (!now) return {};
  if (item.agreed && item.agreed->on(source).type == now->type && item.agreed->on(source).identity == now->identity) {
    return {};
  }
  return keyOf(*now, nullptr);
}

bool MoveFinder::run() {
  for (const auto& [path, item] : draft.items) {
    if (std::string key = originKey(item); !key.empty()) origins[key].push_back(path);
  }
  if (origins.empty()) return false;
  std::vector<std::string> inOrder;
  for (const auto& [path, item] : draft.items) {
    std::string key = arrivalKey(item);
    if (key.empty() || !origins.contains(key)) continue;
    inOrder.push_back(path);
    ++awaited[key];
  }
  arrivals.insert(inOrder.begin(), inOrder.end());
  if (moveAll(inOrder)) return true;
  // Only rings are left: one of each is overwritten, and has to be sent.
  mayOverwriteAwaited = true;
  return moveAll(inOrder);
}

bool MoveFinder::moveAll(const std::vector<std::string>& inOrder) {
  bool found = false;
  for (const std::string& path : inOrder) {
    // What was moved away may have made place for something else, as with a.1 -> a.2 after a.2 -> a.3.
    std::optional<std::string> next = path;
    while (next && arrivals.contains(*next)) {
      next = tryArrival(*next);
      if (next) found = true;
    }
  }
  return found;
}

std::optional<std::string> MoveFinder::tryArrival(const std::string& to) {
  const Item* arrival = draft.find(to);
  if (arrival == nullptr) return std::nullopt;
  auto candidates = origins.find(arrivalKey(*arrival));
  if (candidates == origins.end()) return std::nullopt;
  std::vector<std::string>& paths = candidates->second;
  for (size_t i = 0; i < std::min(paths.size(), MAX_TRIES); ++i) {
    const Item* origin = draft.find(paths[i]);
    if (origin == nullptr || originKey(*origin) != candidates->first) continue;
    if (!canMove(paths[i], *origin, to, *arrival)) continue;
    std::string from = paths[i];
    paths.erase(paths.begin() + i);
    arrivals.erase(to);
    --awaited[candidates->first];
    move(from, to);
    return from;
  }
  return std::nullopt;
}

bool MoveFinder::canMove(const std::string& from, const Item& origin, const std::string& to, const Item& arrival) {
  if (isWithin(to, from) || isWithin(from, to)) return false;
  const Node& there = *origin.on(target);
  // What was changed there is not moved: what is there after the move is agreed upon, and the change would be
  // forgotten. Save what is in a folder, which keeps its own agreement.
  if (stage == Stage::FOLDERS ? changeOf(there, *origin.agreed, target) != Change::NONE : origin.isChangedOn(target)) {
    return false;
  }
  if (!looksTheSame(from, origin, to, arrival)) return false;
  if (stage == Stage::FOLDERS ? arrival.agreed || arrival.on(target) : !mayReplace(arrival)) return false;
  return missingFolders(to).has_value();
}

bool MoveFinder::looksTheSame(const std::string& from, const Item& origin, const std::string& to,
                              const Item& arrival) const {
  const Node& before = origin.agreed->on(source);
  const Node& now = *arrival.on(source);
  if (now.type != before.type) return false;
  if (now.type == EntryType::DIRECTORY) return hasKnownChild(from, to);
  if (now.type == EntryType::SYMLINK) return now.target == before.target;
  if (now.size != before.size) return false;
  const std::string& digest = agreedDigest(*origin.agreed);
  if (!now.digest.empty() && !digest.empty()) return now.digest == digest;
  return now.mtime == before.mtime && before.settled && !draft.options.checkContent;
}

// File systems give a removed folder's identity to the next new one. So something in it must have come along.
bool MoveFinder::hasKnownChild(const std::string& from, const std::string& to) const {
  bool isEmpty = true;
  size_t samples = 0;
  for (auto at = draft.items.upper_bound(from); at != draft.items.end() && isWithin(at->first, from); ++at) {
    const std::optional<Agreed>& agreed = at->second.agreed;
    if (!agreed) continue;
    isEmpty = false;
    if (++samples > MAX_SAMPLES) return false;
    auto there = draft.items.find(to + at->first.substr(from.size()));
    if (there == draft.items.end() || !there->second.on(source)) continue;
    const Node& before = agreed->on(source);
    const Node& now = *there->second.on(source);
    if (now.type == before.type && now.identity == before.identity && now.identity != 0 &&
        (now.type == EntryType::DIRECTORY || (now.size == before.size && now.mtime == before.mtime))) {
      return true;
    }
  }
  return isEmpty;
}

// Whether what the target has at the place of a file may be replaced by a move.
bool MoveFinder::mayReplace(const Item& arrival) const {
  const std::optional<Node>& there = arrival.on(target);
  if (!there) return draft.options.mode != Mode::TWO_WAY || !arrival.agreed;
  if (there->type == EntryType::DIRECTORY) return false;
  // What is there may be on its way to somewhere else itself.
  if (!mayOverwriteAwaited && arrival.agreed) {
    if (auto others = awaited.find(originKey(arrival)); others != awaited.end() && others->second > 0) return false;
  }
  return draft.options.mode != Mode::TWO_WAY || (arrival.agreed && !arrival.isChangedOn(target));
}

std::optional<std::vector<std::string>> MoveFinder::missingFolders(const std::string& path) {
  std::vector<std::string> missing;
  for (std::string folder(parentOf(path)); !folder.empty(); folder = parentOf(folder)) {
    const Item* item = draft.find(folder);
    if (item == nullptr || isFolder(item->on(target))) break;
    // Where the target had a folder, and has none now, it may have been moved there: that comes first, if at all.
    if (item->on(target) || item->agreed || !isFolder(item->on(source))) return std::nullopt;
    missing.push_back(folder);
  }
  std::reverse(missing.begin(), missing.end());
  return missing;
}

void MoveFinder::makeMissingFolders(const std::string& path) {
  const std::optional<std::vector<std::string>> missing = missingFolders(path);
  for (const std::string& folder : *missing) {
    Item& item = *draft.find(folder);
    Node node = *item.on(source);
    draft.moves.push_back(draft.makeFolder(target, folder, node,
                                           source == Side::LOCAL ? "it is new here" : "it is new at the server", true));
    draft.items.erase(folder);
  }
}

void MoveFinder::move(const std::string& from, const std::string& to) {
  makeMissingFolders(to);
  const Item& origin = *draft.find(from);
  const Item& arrival = *draft.find(to);
  Operation operation;
  operation.kind = Operation::Kind::MOVE;
  operation.side = target;
  operation.path = to;
  operation.source = from;
  operation.expected = arrival.on(target);
  operation.sourceNode = origin.on(target);
  operation.reason = source == Side::LOCAL ? "it was moved here" : "it was moved at the server";
  size_t at = draft.moves.size();
  draft.moves.push_back(std::move(operation));
  // With this node it is agreed upon from then on. Where more is to be done it is the old one, so that the rest is
  // still seen if it fails.
  Node before = origin.agreed->on(source);
  Node now = *arrival.on(source);
  stage == Stage::FOLDERS ? moveFolder(from, to) : moveFile(from, to);
  const Item* rest = draft.find(to);
  bool isWhole = rest == nullptr || changeOf(rest->on(source), rest->agreed, source) == Change::NONE;
  draft.moves[at].node = isWhole ? std::move(now) : std::move(before);
  draft.eraseIfInStep(to);
  draft.eraseIfEmpty(from);
}

void MoveFinder::moveFolder(const std::string& from, const std::string& to) {
  for (const std::string& path : draft.pathsWithin(from)) {
    Item& old = draft.items[path];
    std::string newPath = to + path.substr(from.size());
    Item& item = draft.items[newPath];
    item.agreed = std::move(old.agreed);
    item.on(target) = std::move(old.on(target));
    old.agreed.reset();
    old.on(target).reset();
    if (item.on(target)) draft.recordMoved(target, path, newPath);
    // Moved on, out of the moved folder.
    if (std::string key = originKey(item); !key.empty()) origins[key].push_back(newPath);
    if (path != from) {
      draft.eraseIfInStep(newPath);
      draft.eraseIfEmpty(newPath);
      draft.eraseIfEmpty(path);
    }
  }
}

void MoveFinder::moveFile(const std::string& from, const std::string& to) {
  Item& old = *draft.find(from);
  Item& item = *draft.find(to);
  Agreed agreed = std::move(*old.agreed);
  // Its stamp is another one because it was renamed; its content is known to be the same.
  Node now = *item.on(source);
  const Node& before = agreed.on(source);
  now.mode = before.mode;
  now.mtime = before.mtime;
  (source == Side::LOCAL ? agreed.local : agreed.remote) = std::move(now);
  item.agreed = std::move(agreed);
  item.on(target) = std::move(old.on(target));
  old.agreed.reset();
  old.on(target).reset();
  draft.recordMoved(target, from, to);
}

}  // namespace

void recogniseMoves(Draft& draft) {
  const std::vector<Side> sources = sourcesOf(draft.options.mode);
  for (int round = 0; round < MAX_ROUNDS; ++round) {
    bool found = false;
    for (Stage stage : {Stage::FOLDERS, Stage::BY_IDENTITY, Stage::BY_CONTENT}) {
      for (Side source : sources) {
        if (MoveFinder(draft, source, stage).run()) found = true;
      }
      if (found && stage == Stage::FOLDERS) break;  // until no folder is left that can be moved as a whole
    }
    if (!found) return;
  }
}

}  // namespace capstan::sync
