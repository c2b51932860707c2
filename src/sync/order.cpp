#include <capstan/sync/order.h>

#include <algorithm>

#include <capstan/sync/copies.h>

namespace capstan::sync {
namespace {

using Kind = Operation::Kind;

class Sequence {
 public:
  explicit Sequence(Draft& draft) : draft(draft) {}

  void run() {
    copies = findCopies(draft);
    make();
    remove();
    // Not by sides: a move names the path to which one on the other side may have brought what was agreed.
    draft.plan.operations = std::move(draft.moves);
    join(std::move(made));
    join(std::move(agreed));
    join(std::move(removed));
    std::reverse(draft.lateMetadata.begin(), draft.lateMetadata.end());
    join(std::move(draft.lateMetadata));
  }

 private:
  Draft& draft;
  std::vector<Copy> copies;
  std::vector<Operation> made;
  std::vector<Operation> agreed;
  std::vector<Operation> removed;

  void makeFolders();
  void make();
  void makeAt(const std::string& path, const Item& item);
  void remove();
  void clear(const std::string& path, const Item& item);
  void join(std::vector<Operation> operations);

  Operation begin(Kind kind, const std::string& path, const Item& item) const;
  Operation removal(const std::string& path, const Item& item, std::string_view reason) const;
};

Operation Sequence::begin(Kind kind, const std::string& path, const Item& item) const {
  Side side = item.decision.side;
  Operation operation;
  operation.kind = kind;
  operation.side = side;
  operation.path = path;
  operation.expected = item.on(side);
  if (item.on(other(side))) operation.node = *item.on(other(side));
  operation.reason = item.decision.reason;
  return operation;
}

Operation Sequence::removal(const std::string& path, const Item& item, std::string_view reason) const {
  Operation operation = begin(Kind::REMOVE, path, item);
  operation.node = Node();
  operation.reason = reason;
  return operation;
}

// What is in the way of a file or symlink is a folder, with everything in it; of a folder, a file or symlink.
void Sequence::clear(const std::string& path, const Item& item) {
  Side side = item.decision.side;
  std::vector<std::string> within = draft.pathsWithin(path);
  for (auto at = within.rbegin(); at != within.rend(); ++at) {
    Item& inside = *draft.find(*at);
    bool isItself = *at == path;
    if (!isItself && (inside.decision.kind != Decision::Kind::REMOVE || inside.decision.side != side)) continue;
    made.push_back(removal(*at, inside, isItself ? item.decision.reason : inside.decision.reason));
    if (isItself) continue;
    ++draft.plan.deletions;
    inside.decision.kind = Decision::Kind::NOTHING;
  }
}

void Sequence::makeAt(const std::string& path, const Item& item) {
  bool isReplaced = item.decision.kind == Decision::Kind::REPLACE;
  if (isReplaced) clear(path, item);
  Operation operation = begin(Kind::PUT, path, item);
  if (isReplaced) operation.expected.reset();
  if (operation.node.type == EntryType::DIRECTORY) {
    auto next = draft.items.upper_bound(path);
    bool hasContent = next != draft.items.end() && isWithin(next->first, path);
    made.push_back(draft.makeFolder(operation.side, path, operation.node, item.decision.reason, hasContent));
    return;
  }
  if (operation.node.type == EntryType::SYMLINK) operation.kind = Kind::MAKE_SYMLINK;
  if (operation.kind == Kind::PUT) operation.source = path;
  made.push_back(std::move(operation));
}

// Before the copies, which may lead into them.
void Sequence::makeFolders() {
  for (auto& [path, item] : draft.items) {
    if (item.decision.kind != Decision::Kind::CREATE) continue;
    if (!isFolder(item.on(other(item.decision.side))) || !canBeMadeEarly(draft, path, item.decision.side)) continue;
    makeAt(path, item);
    item.isMade = true;
  }
}

void Sequence::make() {
  makeFolders();
  for (const Copy& copy : copies) {
    Item& item = *draft.find(copy.path);
    Operation operation = begin(Kind::COPY, copy.path, item);
    operation.source = copy.source;
    operation.sourceNode = copy.sourceNode;
    made.push_back(std::move(operation));
    item.isMade = true;
  }
  constexpr uint32_t NEEDED_TO_CHANGE = 0300;
  for (auto& [path, item] : draft.items) {
    if (item.isMade) continue;
    switch (item.decision.kind) {
      case Decision::Kind::CREATE:
      case Decision::Kind::UPDATE:
      case Decision::Kind::REPLACE: makeAt(path, item); break;
      case Decision::Kind::SET_METADATA: {
        Operation operation = begin(Kind::SET_METADATA, path, item);
        bool isLate =
            operation.node.type == EntryType::DIRECTORY && (operation.node.mode & NEEDED_TO_CHANGE) != NEEDED_TO_CHANGE;
        (isLate ? draft.lateMetadata : made).push_back(std::move(operation));
        break;
      }
      case Decision::Kind::AGREE: agreed.push_back(begin(Kind::AGREE, path, item)); break;
      case Decision::Kind::FORGET: agreed.push_back(begin(Kind::FORGET, path, item)); break;
      case Decision::Kind::NOTHING:
      case Decision::Kind::REMOVE:
      case Decision::Kind::WITHHOLD: break;
    }
  }
}

void Sequence::remove() {
  for (auto at = draft.items.rbegin(); at != draft.items.rend(); ++at) {
    if (at->second.decision.kind != Decision::Kind::REMOVE) continue;
    removed.push_back(removal(at->first, at->second, at->second.decision.reason));
    ++draft.plan.deletions;
  }
}

// The sides do not depend on each other within one step, and are better served by few long stretches.
void Sequence::join(std::vector<Operation> operations) {
  auto isLocal = [](const Operation& operation) { return operation.side == Side::LOCAL; };
  if (!std::is_partitioned(operations.begin(), operations.end(), isLocal)) {
    std::stable_partition(operations.begin(), operations.end(), isLocal);
  }
  std::vector<Operation>& all = draft.plan.operations;
  if (all.empty()) {
    all = std::move(operations);
    return;
  }
  all.insert(all.end(), std::make_move_iterator(operations.begin()), std::make_move_iterator(operations.end()));
}

}  // namespace

void putInOrder(Draft& draft) { Sequence(draft).run(); }

}  // namespace capstan::sync
