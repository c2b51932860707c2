// What people do to folders while the synchroniser runs.
#include "simulation.h"

namespace capstan::sync::sim {

namespace {

constexpr const char* FILES[] = {"a", "b", "c", "d.o", "e.txt"};
constexpr const char* FOLDERS[] = {"a", "b", "dir"};
constexpr uint64_t SIZES[] = {0, 10, 10, 20'000, 20'000, 400'000};

bool isObject(std::string_view path) { return path.size() > 2 && path.substr(path.size() - 2) == ".o"; }

}  // namespace

std::string Simulation::pickFolder(FakeDisk& disk) {
  std::vector<std::string> folders{""};
  for (auto& [path, item] : disk.view())
    if (item.node.type == EntryType::DIRECTORY && std::count(path.begin(), path.end(), '/') < 2)
      folders.push_back(path);
  return folders[chance.below(folders.size())];
}

std::string Simulation::pickPath(FakeDisk& disk) {
  return joinPath(pickFolder(disk), FILES[chance.below(std::size(FILES))]);
}

std::string Simulation::pickExisting(FakeDisk& disk) {
  if (disk.view().empty()) return {};
  auto at = disk.view().begin();
  std::advance(at, static_cast<ptrdiff_t>(chance.below(disk.view().size())));
  return at->first;
}

void Simulation::forgetTokens(FakeDisk& disk, const std::string& path) {
  for (auto at = disk.view().lower_bound(path); at != disk.view().end() && isWithin(at->first, path); ++at)
    live.erase(at->second.content);
}

void Simulation::edit(FakeDisk& disk) {
  if (!disk.mounted) return;
  switch (chance.below(12)) {
    case 0:
    case 1: {
      auto path = joinPath(pickFolder(disk), FOLDERS[chance.below(std::size(FOLDERS))]);
      if (disk.makeFolder(path, chance.oneIn(5) ? 0700 : 0755)) note("user makes " + disk.name + " " + path);
      break;
    }
    case 2: {
      auto path = pickPath(disk);
      auto old = disk.find(path);
      if (isObject(path) || (old != nullptr && old->node.type == EntryType::DIRECTORY)) break;
      forgetTokens(disk, path);
      if (disk.makeSymlink(path, "to-" + std::to_string(++tokens), false)) note("user links " + disk.name + " " + path);
      break;
    }
    case 3:
    case 4: userRemoves(disk); break;
    case 5:
    case 6: userMoves(disk); break;
    case 7: {
      auto path = pickExisting(disk);
      if (!path.empty() && disk.setMetadata(path, chance.oneIn(2) ? 0700 : 0755, time()))
        note("user touches " + disk.name + " " + path);
      break;
    }
    default: userWrites(disk);
  }
}

void Simulation::userWrites(FakeDisk& disk) {
  auto path = chance.oneIn(2) ? pickPath(disk) : pickExisting(disk);
  if (path.empty() || baseNameOf(path) == IGNORE_FILE) return;
  auto old = disk.find(path);
  if (old != nullptr && old->node.type != EntryType::FILE) return;
  std::string before = old == nullptr ? "" : old->content;
  auto stamp = old == nullptr ? "" : old->node.stamp;
  auto size = old != nullptr && chance.oneIn(2) ? old->node.size : SIZES[chance.below(std::size(SIZES))];
  // Copies of what is there already: moves and conflicts have to tell equal contents.
  std::string content = "t" + std::to_string(++tokens);
  auto other = pickExisting(disk);
  bool copy = chance.oneIn(6) && !other.empty() && disk.find(other)->node.type == EntryType::FILE &&
              baseNameOf(other) != IGNORE_FILE;
  if (copy) {
    content = disk.find(other)->content;
    size = disk.find(other)->node.size;
  }
  if (size == 0) content = "";
  if (!disk.write(path, content, size, time(), chance.oneIn(4) ? 0600 : 0644, false)) return;
  note("user writes " + disk.name + " " + path + " " + content);
  live.erase(before);
  bool racy = disk.find(path)->node.stamp == stamp;
  if (racy) writtenUnseen.insert(content);
  if (copy || content.empty()) return;
  live[content] = Token{twoWayOnly && !racy, isObject(path) ? &disk : nullptr};
}

void Simulation::userMoves(FakeDisk& disk) {
  auto from = pickExisting(disk);
  if (from.empty() || baseNameOf(from) == IGNORE_FILE) return;
  auto to = chance.oneIn(2) ? joinPath(pickFolder(disk), baseNameOf(from)) : pickPath(disk);
  if (isObject(from) != isObject(to) || isWithin(to, from) || isWithin(from, to)) return;
  auto target = disk.find(to);
  if (target != nullptr && target->node.type == EntryType::DIRECTORY) return;
  std::string displaced = target == nullptr ? "" : target->content;
  if (!disk.move(from, to, false)) return;
  live.erase(displaced);
  note("user moves " + disk.name + " " + from + " " + to);
}

void Simulation::userRemoves(FakeDisk& disk) {
  auto path = pickExisting(disk);
  if (path.empty()) return;
  forgetTokens(disk, path);
  disk.remove(path, false);
  note("user removes " + disk.name + " " + path);
}

void Simulation::userChangesRules() {
  constexpr const char* RULES[] = {"", "b\n", "dir/\n", "a/c\n", "e.txt\n"};
  auto& client = *clients[chance.below(clients.size())];
  auto& disk = client.mode == Mode::PULL ? server : client.local;
  std::string path(IGNORE_FILE);
  forgetTokens(disk, path);
  auto content = "# " + std::to_string(++tokens) + "\n" + RULES[chance.below(std::size(RULES))];
  if (disk.write(path, content, content.size(), time(), 0644, false)) note("user changes rules " + content);
}

}  // namespace capstan::sync::sim
