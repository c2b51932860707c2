#include "fake-disk.h"

namespace capstan::sync::sim {

std::optional<Node> FakeDisk::nodeAt(std::string_view path) const {
  auto item = find(path);
  if (item == nullptr) return std::nullopt;
  auto node = item->node;
  node.settled = node.type != EntryType::FILE || item->changed < tick;
  return node;
}

const Item* FakeDisk::find(std::string_view path) const {
  auto found = view().find(path);
  return found == view().end() ? nullptr : &found->second;
}

bool FakeDisk::hasChildren(std::string_view folder) const {
  auto next = items.upper_bound(folder);
  return next != items.end() && isWithin(next->first, folder);
}

bool FakeDisk::isUnreadable(std::string_view path) const {
  if (unreadable.empty() || path == unreadable || !isWithin(path, unreadable)) return false;
  auto folder = find(unreadable);
  return folder != nullptr && folder->node.type == EntryType::DIRECTORY;
}

bool FakeDisk::canHold(std::string_view path) const {
  auto parent = parentOf(path);
  if (!mounted) return false;
  if (parent.empty()) return true;
  auto item = find(parent);
  return item != nullptr && item->node.type == EntryType::DIRECTORY;
}

void FakeDisk::displace(const std::string& path, bool synchroniser) {
  for (auto at = items.lower_bound(path); at != items.end() && isWithin(at->first, path); at = items.erase(at))
    if (synchroniser && at->second.node.type == EntryType::FILE) trash.insert(at->second.content);
}

bool FakeDisk::write(const std::string& path, const std::string& content, uint64_t size, int64_t mtime, uint32_t mode,
                     bool synchroniser) {
  auto old = find(path);
  if (!canHold(path) || (old != nullptr && old->node.type == EntryType::DIRECTORY)) return false;
  Item item;
  item.node.type = EntryType::FILE;
  item.node.size = size;
  item.node.mtime = mtime;
  item.node.mode = mode;
  item.node.identity = ++identities;
  item.node.stamp = newStamp();
  if (old != nullptr && !synchroniser && old->node.type == EntryType::FILE) {
    // In place. Within one tick, nothing but the content tells of it.
    item.node.identity = old->node.identity;
    if (old->changed == tick && old->node.size == size) {
      item.node.stamp = old->node.stamp;
      item.node.mtime = old->node.mtime;
    }
  }
  item.content = content;
  item.changed = tick;
  bool appeared = old == nullptr || item.node.identity != old->node.identity;
  displace(path, synchroniser);
  items[path] = std::move(item);
  touched(path, appeared);
  return true;
}

bool FakeDisk::makeFolder(const std::string& path, uint32_t mode) {
  if (!canHold(path) || find(path) != nullptr) return false;
  Item item;
  item.node.type = EntryType::DIRECTORY;
  item.node.mode = mode;
  item.node.identity = ++identities;
  item.node.stamp = newStamp();
  items[path] = std::move(item);
  touched(path, true);
  return true;
}

bool FakeDisk::makeSymlink(const std::string& path, const std::string& target, bool synchroniser) {
  auto old = find(path);
  if (!canHold(path) || (old != nullptr && old->node.type == EntryType::DIRECTORY)) return false;
  displace(path, synchroniser);
  Item item;
  item.node.type = EntryType::SYMLINK;
  item.node.size = target.size();
  item.node.target = target;
  item.node.mode = 0777;
  item.node.identity = ++identities;
  item.node.stamp = newStamp();
  items[path] = std::move(item);
  touched(path, true);
  return true;
}

bool FakeDisk::setMetadata(const std::string& path, uint32_t mode, int64_t mtime) {
  auto found = items.find(path);
  if (!mounted || found == items.end() || found->second.node.type == EntryType::SYMLINK) return false;
  auto& node = found->second.node;
  node.mode = mode;
  if (node.type == EntryType::FILE) node.mtime = mtime;
  node.stamp = newStamp();
  found->second.changed = tick;
  touched(path, false);
  return true;
}

bool FakeDisk::move(const std::string& from, const std::string& to, bool synchroniser) {
  auto source = find(from);
  if (source == nullptr || isWithin(to, from) || isWithin(from, to) || !canHold(to)) return false;
  auto target = find(to);
  bool isFolder = source->node.type == EntryType::DIRECTORY;
  if (target != nullptr && (isFolder || target->node.type == EntryType::DIRECTORY)) return false;
  displace(to, synchroniser);
  ByPath<Item> moved;
  for (auto at = items.lower_bound(from); at != items.end() && isWithin(at->first, from); at = items.erase(at))
    moved.emplace(to + at->first.substr(from.size()), std::move(at->second));
  if (!isFolder) moved.at(to).node.stamp = newStamp();
  items.merge(moved);
  touched(from, false);
  touched(to, true);
  return true;
}

bool FakeDisk::remove(const std::string& path, bool synchroniser) {
  if (find(path) == nullptr) return false;
  displace(path, synchroniser);
  touched(path, false);
  return true;
}

void FakeDisk::touched(const std::string& path, bool appeared) {
  journal.push_back(path);
  bool& known = unnoticed[path];
  known = known || appeared;
}

void FakeDisk::notice() {
  using server::files::ChangeKind;
  if (!mounted) return;
  for (auto& [path, appeared] : unnoticed) {
    if (find(path) == nullptr) {
      noticed.push_back({ChangeKind::REMOVED, path, {}});
      continue;
    }
    noticed.push_back({appeared ? ChangeKind::CREATED : ChangeKind::CHANGED, path, {}});
    if (!appeared) continue;
    for (auto at = items.upper_bound(path); at != items.end() && isWithin(at->first, path); ++at)
      noticed.push_back({ChangeKind::CREATED, at->first, {}});
  }
  unnoticed.clear();
}

void FakeDisk::restart() {
  ++epoch;
  noticed.clear();
  unnoticed.clear();
}

bool FakeDisk::holds(const std::string& content) const {
  for (auto& [path, item] : items)
    if (item.content == content) return true;
  return false;
}

}  // namespace capstan::sync::sim
