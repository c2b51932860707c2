#include "model-tree.h"

#include <algorithm>

namespace capstan::sync::model {
namespace {

using Kind = Operation::Kind;

const char* nameOf(Side side) { return side == Side::LOCAL ? "local" : "remote"; }

bool isAt(const Tree& tree, const std::string& path) { return tree.contains(path); }

bool isFolderAt(const Tree& tree, std::string_view path) {
  if (path.empty()) return true;
  auto found = tree.find(path);
  return found != tree.end() && found->second.node.type == EntryType::DIRECTORY;
}

bool isEmptyAt(const Tree& tree, const std::string& path) {
  auto next = tree.upper_bound(path);
  return next == tree.end() || !isWithin(next->first, path);
}

}  // namespace

std::string digestOf(uint64_t content) { return "digest-" + std::to_string(content); }

std::string describe(const Operation& operation) {
  return std::string(nameOf(operation.side)) + " " + std::string(sync::nameOf(operation.kind)) + " " + operation.path +
         (operation.source.empty() || operation.source == operation.path ? "" : " from " + operation.source);
}

uint64_t World::newIdentity() {
  if (freeIdentities.size() > 1 && lastStamp % 2 == 0) {
    uint64_t identity = freeIdentities.back();
    freeIdentities.pop_back();
    return identity;
  }
  return ++lastIdentity;
}

Node World::nodeOf(const Entry& entry) const {
  Node node = entry.node;
  if (knowsDigests && node.type == EntryType::FILE) node.digest = digestOf(entry.content);
  return node;
}

void World::displace(Tree& tree, const std::string& path) {
  auto found = tree.find(path);
  if (found == tree.end()) return;
  if (found->second.node.type == EntryType::FILE) trash.insert(found->second.content);
  freeIdentities.push_back(found->second.node.identity);
  tree.erase(found);
}

void World::write(Side side, const std::string& path, uint64_t content) {
  Entry& entry = tree(side)[path];
  if (entry.node.identity == 0) entry.node.identity = newIdentity();
  if (entry.node.mode == 0) entry.node.mode = 0644;
  entry.node.type = EntryType::FILE;
  entry.content = content;
  entry.node.size = 2000 + content % 3;
  entry.node.mtime = ++clock;
  stampAnew(entry.node);
}

void World::makeFolder(Side side, const std::string& path) {
  Entry& entry = tree(side)[path];
  entry.node.type = EntryType::DIRECTORY;
  entry.node.identity = newIdentity();
  entry.node.mode = 0755;
  stampAnew(entry.node);
}

void World::makeSymlink(Side side, const std::string& path, const std::string& target) {
  Entry& entry = tree(side)[path];
  entry = Entry();
  entry.node.type = EntryType::SYMLINK;
  entry.node.identity = newIdentity();
  entry.node.mode = 0777;
  entry.node.target = target;
  entry.node.mtime = ++clock;
  stampAnew(entry.node);
}

void World::moveEntries(Tree& tree, const std::string& from, const std::string& to) {
  std::vector<std::pair<std::string, Entry>> moved;
  for (auto at = tree.lower_bound(from); at != tree.end() && isWithin(at->first, from);) {
    moved.emplace_back(to + at->first.substr(from.size()), std::move(at->second));
    at = tree.erase(at);
  }
  stampAnew(moved.front().second.node);
  for (auto& [path, entry] : moved) tree[path] = std::move(entry);
}

void World::rename(Side side, const std::string& from, const std::string& to) {
  tree(side).erase(to);
  moveEntries(tree(side), from, to);
}

void World::copy(Side side, const std::string& from, const std::string& to) {
  Entry entry = tree(side).find(from)->second;
  entry.node.identity = newIdentity();
  stampAnew(entry.node);
  tree(side)[to] = std::move(entry);
}

void World::remove(Side side, const std::string& path) {
  Tree& here = tree(side);
  for (auto at = here.lower_bound(path); at != here.end() && isWithin(at->first, path);) {
    freeIdentities.push_back(at->second.node.identity);
    at = here.erase(at);
  }
}

void World::setMode(Side side, const std::string& path, uint32_t mode) {
  Node& node = tree(side)[path].node;
  node.mode = mode;
  stampAnew(node);
}

void World::setTime(Side side, const std::string& path) {
  Node& node = tree(side)[path].node;
  node.mtime = ++clock;
  stampAnew(node);
}

Changes World::changesOf(Side side) {
  Changes changes;
  for (const auto& [path, agreement] : agreed) {
    if (!isAt(tree(side), path)) changes[path] = std::nullopt;
  }
  for (const auto& [path, entry] : tree(side)) {
    auto known = agreed.find(path);
    Node node = nodeOf(entry);
    if (known == agreed.end() || !isAsAgreed(node, known->second.on(side))) changes[path] = std::move(node);
  }
  return changes;
}

std::vector<Difference> World::differences(PlanOptions& options) {
  options.agreedAt = [this](std::string_view path) {
    auto found = agreed.find(path);
    return found == agreed.end() ? std::nullopt : std::optional<Agreed>(found->second);
  };
  Changes local = changesOf(Side::LOCAL), remote = changesOf(Side::REMOTE);
  DigestsWanted wanted = digestsWanted(differencesOf(local, remote, options.agreedAt), options);
  auto fill = [&](Side side, Changes& changes, const std::vector<std::string>& paths) {
    for (const std::string& path : paths) changes[path]->digest = digestOf(tree(side)[path].content);
  };
  fill(Side::LOCAL, local, wanted.local);
  fill(Side::REMOTE, remote, wanted.remote);
  return differencesOf(local, remote, options.agreedAt);
}

void World::agreeAboutAll() {
  agreed.clear();
  tree(Side::REMOTE) = tree(Side::LOCAL);
  for (auto& [path, entry] : tree(Side::REMOTE)) {
    entry.node.identity = newIdentity();
    stampAnew(entry.node);
    agreed[path] = {nodeOf(tree(Side::LOCAL)[path]), nodeOf(entry)};
  }
}

std::string World::checkPlace(const Operation& operation) {
  Tree& here = tree(operation.side);
  std::string parent(parentOf(operation.path));
  if (!isFolderAt(here, parent)) return "its folder is not there";
  if (!parent.empty() && here[parent].isMade && (here[parent].node.mode & 0300) != 0300) {
    return "nobody may write in its folder";
  }
  bool isThere = isAt(here, operation.path);
  if (isThere != operation.expected.has_value()) return isThere ? "something is there" : "nothing is there";
  if (!isThere) return {};
  const Entry& entry = here[operation.path];
  if (entry.node.type != operation.expected->type) return "something else is there";
  bool hasStamp = !entry.isTouched && entry.node.type != EntryType::DIRECTORY;
  if (hasStamp && entry.node.stamp != operation.expected->stamp) return "another version is there";
  return {};
}

std::string World::check(const Operation& operation) {
  Tree& here = tree(operation.side);
  Tree& there = tree(other(operation.side));
  if (operation.kind == Kind::FORGET)
    return isAt(here, operation.path) || isAt(there, operation.path) ? "it is there" : "";
  if (std::string wrong = checkPlace(operation); !wrong.empty()) return wrong;
  bool overwrites = operation.expected.has_value();
  bool isFolder = isFolderAt(here, operation.path);
  switch (operation.kind) {
    case Kind::MAKE_FOLDER: return overwrites ? "something is in the way" : "";
    case Kind::PUT: {
      auto source = there.find(operation.source);
      if (source == there.end() || source->second.node.type != EntryType::FILE) return "its content is not there";
      if (!source->second.isTouched && source->second.node.stamp != operation.node.stamp) return "another content";
      return isFolder ? "a folder is in the way" : "";
    }
    case Kind::MAKE_SYMLINK: return isFolder ? "a folder is in the way" : "";
    case Kind::MOVE:
    case Kind::COPY: {
      auto source = here.find(operation.source);
      if (source == here.end() || !operation.sourceNode) return "its source is not there";
      bool hasStamp = !source->second.isTouched && source->second.node.type != EntryType::DIRECTORY;
      if (hasStamp && source->second.node.stamp != operation.sourceNode->stamp) return "another source";
      if (isFolder || (overwrites && source->second.node.type == EntryType::DIRECTORY))
        return "something is in the way";
      if (operation.kind == Kind::MOVE) return isWithin(operation.path, operation.source) ? "into itself" : "";
      auto wanted = there.find(operation.path);
      if (wanted == there.end() || wanted->second.content != source->second.content) return "not the same content";
      return {};
    }
    case Kind::REMOVE: return isEmptyAt(here, operation.path) ? "" : "the folder is not empty";
    case Kind::AGREE: {
      auto source = there.find(operation.path);
      if (source == there.end() || source->second.node.type != here[operation.path].node.type) return "not the same";
      return source->second.content == here[operation.path].content ? "" : "not the same content";
    }
    default: return {};
  }
}

std::string World::applyOne(const Operation& operation) {
  if (std::string wrong = check(operation); !wrong.empty()) return wrong;
  Tree& here = tree(operation.side);
  Tree& there = tree(other(operation.side));
  Entry made;
  made.node = operation.node;
  made.isTouched = made.isMade = true;
  switch (operation.kind) {
    case Kind::AGREE:
    case Kind::FORGET: return {};
    case Kind::REMOVE: displace(here, operation.path); return {};
    case Kind::SET_METADATA: {
      Entry& entry = here[operation.path];
      entry.node.mode = operation.node.mode;
      if (entry.node.type == EntryType::FILE) entry.node.mtime = operation.node.mtime;
      entry.isTouched = true;
      stampAnew(entry.node);
      return {};
    }
    case Kind::MOVE: {
      displace(here, operation.path);
      moveEntries(here, operation.source, operation.path);
      here[operation.path].isTouched = true;
      return {};
    }
    case Kind::PUT: made.content = there[operation.source].content; break;
    case Kind::COPY: made.content = here[operation.source].content; break;
    default: break;
  }
  displace(here, operation.path);
  made.node.digest.clear();
  made.node.identity = newIdentity();
  stampAnew(made.node);
  here[operation.path] = std::move(made);
  return {};
}

void World::record(const Operation& operation) {
  const std::string& path = operation.path;
  if (operation.kind == Kind::REMOVE || operation.kind == Kind::FORGET) {
    agreed.erase(path);
    return;
  }
  if (operation.kind == Kind::MOVE && operation.isConflict) return;
  if (operation.kind == Kind::MOVE) {
    std::vector<std::pair<std::string, Agreed>> moved;
    for (auto at = agreed.lower_bound(operation.source); at != agreed.end() && isWithin(at->first, operation.source);) {
      moved.emplace_back(path + at->first.substr(operation.source.size()), at->second);
      at = agreed.erase(at);
    }
    for (auto& [place, agreement] : moved) agreed[place] = agreement;
  }
  Agreed& agreement = agreed[path];
  Node& on = operation.side == Side::LOCAL ? agreement.local : agreement.remote;
  Node& from = operation.side == Side::LOCAL ? agreement.remote : agreement.local;
  on = nodeOf(tree(operation.side)[path]);
  from = operation.node;
  // What the plan itself has changed at the source is what was sent.
  auto source = tree(other(operation.side)).find(path);
  if (source != tree(other(operation.side)).end() && source->second.isTouched) {
    from = nodeOf(source->second);
    from.mode = operation.node.mode;  // a folder that is writable only for now is not yet what it is to be
  }
}

std::string World::apply(const Plan& plan, size_t count, size_t recorded) {
  for (Tree& tree : trees) {
    for (auto& [path, entry] : tree) entry.isTouched = entry.isMade = false;
  }
  for (size_t i = 0; i < std::min(count, plan.operations.size()); ++i) {
    const Operation& operation = plan.operations[i];
    if (std::string wrong = applyOne(operation); !wrong.empty()) return model::describe(operation) + ": " + wrong;
    if (i < recorded) record(operation);
  }
  return {};
}

std::string World::describe() const {
  std::string text;
  auto add = [&](const std::string& path, const Node& node, uint64_t content) {
    text += "  " + path + (node.type == EntryType::DIRECTORY ? "/" : "") + " content " + std::to_string(content) +
            " identity " + std::to_string(node.identity) + " mode " + std::to_string(node.mode) + " time " +
            std::to_string(node.mtime) + " stamp " + node.stamp + "\n";
  };
  text += "agreed (local)\n";
  for (const auto& [path, agreement] : agreed) add(path, agreement.local, 0);
  text += "agreed (remote)\n";
  for (const auto& [path, agreement] : agreed) add(path, agreement.remote, 0);
  for (int side = 0; side < 2; ++side) {
    text += side == 0 ? "local\n" : "remote\n";
    for (const auto& [path, entry] : trees[side]) add(path, entry.node, entry.content);
  }
  return text;
}

}  // namespace capstan::sync::model
