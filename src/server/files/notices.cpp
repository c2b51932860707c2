#include <capstan/server/files/notices.h>

#include <algorithm>

#include <capstan/base/path.h>

namespace capstan::server::files {

std::optional<Change> narrowed(Change change, const std::string& path) {
  if (path.empty()) return change;
  bool inside = isWithin(change.path, path);
  bool above = !inside && isWithin(path, change.path);
  if (change.kind == ChangeKind::MOVED) {
    bool leaves = isWithin(change.from, path);
    if (inside && leaves) return change;
    if (inside) return Change{ChangeKind::SUBTREE, std::move(change.path), {}};
    if (leaves) return Change{ChangeKind::REMOVED, std::move(change.from), {}};
    if (above) return Change{ChangeKind::SUBTREE, path, {}};
    if (isWithin(path, change.from)) return Change{ChangeKind::REMOVED, path, {}};
    return std::nullopt;
  }
  if (inside) return change;
  if (above && (change.kind == ChangeKind::REMOVED || change.kind == ChangeKind::SUBTREE)) {
    return Change{change.kind, path, {}};
  }
  return std::nullopt;
}

void Coalescing::add(const Change& change) {
  if (change.kind == ChangeKind::MOVED) {
    move(change.from, change.path);
  } else {
    set(change.path, change.kind);
  }
}

void Coalescing::set(const std::string& path, ChangeKind kind) {
  if (kind == ChangeKind::REMOVED || kind == ChangeKind::SUBTREE) coverBelow(path);
  auto [found, isNew] = items.try_emplace(path, Item{kind, {}, kind == ChangeKind::REMOVED, ++count});
  if (isNew) return;
  Item& item = found->second;
  item.order = count;
  if (item.kind == ChangeKind::MOVED) {
    // Told as what happened to both paths: whoever hears "moved" may take it for the same thing as before.
    std::string from = std::move(item.from);
    item = {kind == ChangeKind::REMOVED ? kind : ChangeKind::SUBTREE, {}, kind == ChangeKind::REMOVED, count};
    set(from, ChangeKind::REMOVED);
    return;
  }
  switch (kind) {
    case ChangeKind::REMOVED:
      // Also of what only came and went, as it seems: "created" is said too of what took the place of something that
      // was there, and an earlier notice may have told already what was there when it looked.
      item.kind = ChangeKind::REMOVED;
      item.wasGone = true;
      return;
    case ChangeKind::CREATED:
    case ChangeKind::CHANGED:
      if (item.kind == ChangeKind::REMOVED) item.kind = ChangeKind::CHANGED;
      return;
    default: item.kind = ChangeKind::SUBTREE;
  }
}

void Coalescing::move(const std::string& from, const std::string& to) {
  auto next = items.lower_bound(from);
  bool touched = next != items.end() && isWithin(next->first, from);
  for (; !touched && next != items.end() && next->first.starts_with(from); ++next) {
    touched = isWithin(next->first, from);
  }
  coverBelow(to);
  if (touched) {
    // The move alone would hide what else had changed there.
    set(from, ChangeKind::REMOVED);
    set(to, ChangeKind::SUBTREE);
    return;
  }
  auto found = items.find(to);
  std::string displaced;
  if (found != items.end() && found->second.kind == ChangeKind::MOVED) displaced = found->second.from;
  if (!displaced.empty()) set(displaced, ChangeKind::REMOVED);
  items[to] = Item{ChangeKind::MOVED, from, false, ++count};
}

void Coalescing::coverBelow(const std::string& path) {
  std::vector<std::string> sources;
  std::string prefix = path.empty() ? std::string() : path + "/";
  auto next = items.lower_bound(prefix);
  while (next != items.end() && next->first.starts_with(prefix)) {
    if (next->first == path) {
      ++next;
      continue;
    }
    if (next->second.kind == ChangeKind::MOVED && !isWithin(next->second.from, path)) {
      sources.push_back(next->second.from);
    }
    next = items.erase(next);
  }
  for (auto& source : sources) set(source, ChangeKind::REMOVED);
}

std::vector<Change> Coalescing::take() {
  std::vector<std::pair<uint64_t, Change>> sorted;
  for (auto& [path, item] : items) {
    // Another thing than before, maybe a folder with other things in it.
    bool isOther = item.wasGone && item.kind == ChangeKind::CHANGED;
    ChangeKind kind = isOther ? ChangeKind::SUBTREE : item.kind;
    sorted.emplace_back(item.order, Change{kind, path, std::move(item.from)});
  }
  items.clear();
  std::sort(sorted.begin(), sorted.end(), [](auto& a, auto& b) { return a.first < b.first; });
  std::vector<Change> result;
  for (auto& [order, change] : sorted) result.push_back(std::move(change));
  return result;
}

std::vector<FilledNotice> fillIn(std::vector<Change> changes, Lookup& lookup) {
  std::vector<FilledNotice> result;
  for (auto& change : changes) {
    auto entry = lookup.entryAt(change.path);
    if (!entry) {
      Entry nothing;
      nothing.path = change.path;
      if (change.kind == ChangeKind::MOVED) {
        Entry source;
        source.path = change.from;
        result.push_back({{ChangeKind::REMOVED, change.from, {}}, std::move(source)});
      }
      // What came and went was never told, and its end is on its way.
      if (change.kind == ChangeKind::CREATED) continue;
      change = {ChangeKind::REMOVED, std::move(change.path), {}};
      result.push_back({std::move(change), std::move(nothing)});
      continue;
    }
    bool isFolder = entry->type == EntryType::DIRECTORY;
    if (change.kind == ChangeKind::REMOVED) change.kind = ChangeKind::SUBTREE;  // it is there again
    if (change.kind == ChangeKind::SUBTREE && !isFolder) change.kind = ChangeKind::CHANGED;
    result.push_back({std::move(change), std::move(*entry)});
  }
  return result;
}

}  // namespace capstan::server::files
