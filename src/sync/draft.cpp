#include <capstan/sync/draft.h>

namespace capstan::sync {

bool Item::isChangedOn(Side side) const {
  const std::optional<Node>& now = on(side);
  if (!now || !agreed) return now.has_value() || agreed.has_value();
  return !isAsAgreed(*now, agreed->on(side)) || changeOf(*now, *agreed, side) != Change::NONE;
}

Draft::Draft(const std::vector<Difference>& differences, const PlanOptions& options) : options(options) {
  for (const Difference& difference : differences) {
    Item item;
    item.agreed = difference.agreed;
    item.local = difference.local;
    item.remote = difference.remote;
    items.emplace_hint(items.end(), difference.path, std::move(item));
  }
}

Item* Draft::find(std::string_view path) {
  auto found = items.find(path);
  return found == items.end() ? nullptr : &found->second;
}

std::vector<std::string> Draft::pathsWithin(std::string_view folder) const {
  std::vector<std::string> paths;
  for (auto at = items.lower_bound(folder); at != items.end() && isWithin(at->first, folder); ++at) {
    paths.push_back(at->first);
  }
  return paths;
}

void Draft::eraseIfInStep(const std::string& path) {
  auto found = items.find(path);
  if (found != items.end() && found->second.isInStep()) items.erase(found);
}

void Draft::eraseIfEmpty(const std::string& path) {
  auto found = items.find(path);
  if (found == items.end()) return;
  const Item& item = found->second;
  if (!item.agreed && !item.local && !item.remote) items.erase(found);
}

Operation Draft::makeFolder(Side side, const std::string& path, const Node& node, std::string_view reason,
                            bool hasContent) {
  Operation operation;
  operation.kind = Operation::Kind::MAKE_FOLDER;
  operation.side = side;
  operation.path = path;
  operation.node = node;
  operation.reason = reason;
  constexpr uint32_t OWNER_MAY_CHANGE = 0700;
  constexpr uint32_t NEEDED_TO_CHANGE = 0300;
  if (hasContent && (node.mode & NEEDED_TO_CHANGE) != NEEDED_TO_CHANGE) {
    operation.node.mode |= OWNER_MAY_CHANGE;
    Operation late = operation;
    late.kind = Operation::Kind::SET_METADATA;
    late.expected = operation.node;
    late.node = node;
    lateMetadata.push_back(std::move(late));
  }
  return operation;
}

void Draft::recordMoved(Side side, const std::string& from, const std::string& to) {
  Places& of = places[indexOf(side)];
  std::string original = from;
  if (auto found = of.original.find(from); found != of.original.end()) {
    original = found->second;
    of.original.erase(found);
  }
  // What was at `to` was replaced.
  if (auto replaced = of.original.find(to); replaced != of.original.end()) of.nowAt[replaced->second].clear();
  of.original[to] = original;
  of.nowAt[original] = to;
}

std::string Draft::placeOf(Side side, const std::string& original) const {
  const Places& of = places[indexOf(side)];
  if (auto moved = of.nowAt.find(original); moved != of.nowAt.end()) return moved->second;
  // Something else was moved to where it was.
  return of.original.contains(original) ? std::string() : original;
}

std::vector<Side> sourcesOf(Mode mode) {
  if (mode == Mode::PUSH) return {Side::LOCAL};
  if (mode == Mode::PULL) return {Side::REMOTE};
  return {Side::LOCAL, Side::REMOTE};
}

}  // namespace capstan::sync
