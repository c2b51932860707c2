// What was promised: nothing is lost, nothing ignored is touched, both sides are equal in the end.
#include <capstan/base/text.h>

#include "simulation.h"

namespace capstan::sync::sim {

namespace {

std::string describe(const Item* item) {
  if (item == nullptr) return "nothing";
  auto& node = item->node;
  switch (node.type) {
    case EntryType::DIRECTORY: return "a folder of mode " + std::to_string(node.mode);
    case EntryType::SYMLINK: return "a link to " + node.target;
    default:
      return "the file " + escapeForTerminal(item->content) + " of " + std::to_string(node.size) + " bytes, mode " +
             std::to_string(node.mode) + ", time " + std::to_string(node.mtime);
  }
}

}  // namespace

std::unique_ptr<IgnoreRules> Simulation::rulesOf(FakeDisk& local) const {
  std::vector<IgnoreRules::Rule> given{{"*.o", "--exclude", 0}};
  return std::make_unique<IgnoreRules>(given, [&local](std::string_view folder) -> std::optional<std::string> {
    auto item = local.find(joinPath(folder, IGNORE_FILE));
    if (item == nullptr || item->node.type != EntryType::FILE) return std::nullopt;
    return item->content;
  });
}

void Simulation::checkTokens() {
  for (auto& [content, token] : live) {
    if (token.ignoredOn != nullptr && !token.ignoredOn->holds(content))
      complain("something ignored was touched: " + content + " on " + token.ignoredOn->name);
    bool held = server.holds(content), trashed = server.trashed(content);
    for (auto& client : clients) {
      held = held || client->local.holds(content);
      trashed = trashed || client->local.trashed(content);
    }
    if (held || (trashed && !token.onlyAtPath)) continue;
    complain("lost: " + escapeForTerminal(content) + (trashed ? ", it is in the trash" : ""));
  }
}

// Whether the sides may differ at a path: something in it is ignored or was left alone, or it lies in such a thing.
bool Simulation::mayDiffer(Client& client, const IgnoreRules& rules, const std::string& path) {
  auto stays = [&](FakeDisk& disk, const std::string& folder) {
    for (auto at = disk.view().lower_bound(folder); at != disk.view().end() && isWithin(at->first, folder); ++at) {
      if (client.state->isKept(at->first)) return true;
      if (rules.isIgnored(at->first, at->second.node.type == EntryType::DIRECTORY)) return true;
    }
    return false;
  };
  if (stays(client.local, path) || stays(server, path)) return true;
  for (std::string folder(parentOf(path)); !folder.empty(); folder = parentOf(folder)) {
    auto here = client.local.find(folder), there = server.find(folder);
    bool bothFolders = here != nullptr && there != nullptr && here->node.type == EntryType::DIRECTORY &&
                       there->node.type == EntryType::DIRECTORY;
    if (!bothFolders && (stays(client.local, folder) || stays(server, folder))) return true;
  }
  return false;
}

void Simulation::checkSides(Client& client) {
  auto rules = rulesOf(client.local);
  std::set<std::string> paths;
  for (auto* disk : {&client.local, &server})
    for (auto& [path, item] : disk->view())
      if (!rules->isIgnored(path, item.node.type == EntryType::DIRECTORY)) paths.insert(path);
  for (auto& path : paths) {
    auto here = describe(client.local.find(path)), there = describe(server.find(path));
    auto one = client.local.find(path), two = server.find(path);
    bool looksEqual = one != nullptr && two != nullptr && one->node.type == EntryType::FILE &&
                      two->node.type == EntryType::FILE && one->node.size == two->node.size &&
                      one->node.mtime == two->node.mtime && one->node.mode == two->node.mode;
    bool unseen = looksEqual && (writtenUnseen.count(one->content) > 0 || writtenUnseen.count(two->content) > 0);
    if (looksEqual && (stateWasLost || (mayHaveForgotten && unseen))) continue;
    if (here != there && !mayDiffer(client, *rules, path))
      complain(client.local.name + " (" + std::string(nameOf(client.mode)) + ") and server differ at " + path + ": " +
               here + ", " + there);
  }
}

}  // namespace capstan::sync::sim
