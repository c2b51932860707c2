// Watching with inotify: one watch for each folder, added when the folder appears. The kernel names folders by watch,
// so that a tree of nodes keeps their paths; whatever the order of events, a node goes where its watch is found.
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <map>
#include <memory>
#include <unordered_map>

#include <kj/debug.h>

#include <capstan/base/folder-poll.h>
#include <capstan/base/path.h>
#include <capstan/base/watch-source.h>

namespace capstan {

namespace {

constexpr uint32_t MASK = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB |
                          IN_ONLYDIR | IN_EXCL_UNLINK;
constexpr size_t MAX_LATE = 10'000;  // then the move itself says enough: all below may have changed
constexpr uint32_t ROOT_MASK = MASK | IN_DELETE_SELF | IN_MOVE_SELF;

class InotifySource final : public WatchSource {
 public:
  InotifySource(const TreeWatcher::Options& options, kj::AutoCloseFd folder, kj::AutoCloseFd events)
      : options(options), top(kj::mv(folder)), events(kj::mv(events)) {}

  // False: not even the top can be watched.
  bool begin() {
    watchTree(nullptr, "");
    return root != nullptr && root->wd >= 0;
  }

  int descriptor() const override { return events; }
  // What could not be opened is tried again now and then.
  bool polls() const override { return !polled.empty() || lost; }
  WatchMethod method() const override { return WatchMethod::INOTIFY; }
  bool isPartial() const override { return partial.load(std::memory_order_relaxed); }

  bool drain(Gathered& gathered) override {
    alignas(inotify_event) char buffer[64 << 10];
    while (!gathered.full()) {
      ssize_t count = read(events, buffer, sizeof(buffer));
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) {
        dropMovedAway();
        if (lost) startOver(gathered);
        return true;
      }
      for (ssize_t at = 0; at < count;) {
        auto& event = *reinterpret_cast<const inotify_event*>(buffer + at);
        at += ssize_t(sizeof(event) + event.len);
        handle(event, gathered);
      }
    }
    return false;
  }

  void poll(Gathered& gathered) override {
    for (auto& difference : polled.compare(top)) {
      Node* parent = find(parentOf(difference.path));
      if (parent == nullptr) continue;
      std::string name(baseNameOf(difference.path));
      if (difference.wasFolder) drop(take(*parent, name));
      if (difference.isFolder) watchTree(parent, name);
      gathered.add({std::move(difference.path), difference.isFolder, difference.appeared});
    }
  }

 private:
  struct Node {
    Node* parent = nullptr;  // null: the root, or one that was moved away
    std::string name;
    int wd = -1;  // -1: polled
    std::map<std::string, std::unique_ptr<Node>, std::less<>> children;
  };

  // A folder that has left its place, and may turn up at another one with the next events.
  struct MovedAway {
    std::unique_ptr<Node> node;
    bool old;
  };

  bool isAttached(const Node& node) const {
    const Node* current = &node;
    while (current->parent != nullptr) current = current->parent;
    return current == root.get();
  }

  std::string pathOf(const Node& node) const {
    return node.parent == nullptr ? std::string() : joinPath(pathOf(*node.parent), node.name);
  }

  Node* find(std::string_view path) const {
    Node* current = root.get();
    for (std::string_view name : splitPath(path)) {
      auto found = current->children.find(name);
      if (found == current->children.end()) return nullptr;
      current = found->second.get();
    }
    return current;
  }

  // Takes the node out of the tree; null if there is none. What was polled below it is forgotten.
  std::unique_ptr<Node> take(Node& parent, std::string_view name) {
    auto found = parent.children.find(name);
    if (found == parent.children.end()) return nullptr;
    auto node = std::move(found->second);
    if (!polled.empty() && isAttached(parent)) polled.remove(joinPath(pathOf(parent), name));
    parent.children.erase(found);
    node->parent = nullptr;
    return node;
  }

  // Ends the watching of it and all below.
  void drop(std::unique_ptr<Node> node) {
    std::vector<std::unique_ptr<Node>> waiting;
    if (node != nullptr) waiting.push_back(std::move(node));
    while (!waiting.empty()) {
      auto next = std::move(waiting.back());
      waiting.pop_back();
      if (next->wd >= 0) {
        byWatch.erase(next->wd);
        inotify_rm_watch(events, next->wd);
      }
      for (auto& [name, child] : next->children) waiting.push_back(std::move(child));
    }
  }

  // Those that did not turn up within a whole round of events are outside now.
  void dropMovedAway() {
    std::vector<MovedAway> kept;
    for (auto& moved : movedAway) {
      if (moved.node == nullptr) continue;
      if (moved.old) {
        drop(std::move(moved.node));
      } else {
        kept.push_back({std::move(moved.node), true});
      }
    }
    movedAway = std::move(kept);
  }

  // A watch for the folder, through the descriptor: no path is followed again. -1 and errno.
  int addWatch(int folder, bool isRoot) {
    std::string proc = "/proc/self/fd/" + std::to_string(folder);
    int wd = inotify_add_watch(events, proc.c_str(), isRoot ? ROOT_MASK : MASK);
    if (wd >= 0 && !byWatch.contains(wd) && byWatch.size() >= options.maxWatches) {
      inotify_rm_watch(events, wd);
      errno = ENOSPC;
      return -1;
    }
    return wd;
  }

  // The node that has this watch, out of wherever it was; a new one if there is none. Null: it stands above its new
  // place, so that the tree here is not the one on disk any more.
  std::unique_ptr<Node> nodeOf(int wd, const Node* parent) {
    auto found = byWatch.find(wd);
    if (found == byWatch.end()) return std::make_unique<Node>();
    Node* node = found->second;
    for (const Node* above = parent; above != nullptr; above = above->parent) {
      if (above == node) return nullptr;
    }
    if (node->parent != nullptr) return take(*node->parent, std::string(node->name));
    for (auto& moved : movedAway) {
      if (moved.node.get() == node) return std::move(moved.node);
    }
    return nullptr;
  }

  // Watches one folder, or polls it. Answers its node; null if it is gone or cannot be read.
  Node* watchFolder(Node* parent, const std::string& name, const std::string& path, int folder) {
    int wd = addWatch(folder, parent == nullptr);
    bool isFull = wd < 0 && (errno == ENOSPC || errno == ENOMEM);
    if (wd < 0 && !isFull) return nullptr;
    std::unique_ptr<Node> node;
    if (wd >= 0) {
      auto standing = byWatch.find(wd);
      if (standing != byWatch.end() && standing->second->parent == parent && standing->second->name == name &&
          (parent != nullptr || standing->second == root.get())) {
        return standing->second;
      }
      node = nodeOf(wd, parent);
      if (node == nullptr) {
        lost = true;
        return nullptr;
      }
    } else {
      node = std::make_unique<Node>();
    }
    node->parent = parent;
    node->name = name;
    node->wd = wd;
    Node* result = node.get();
    if (parent == nullptr) {
      root = std::move(node);
    } else {
      drop(take(*parent, name));
      parent->children[name] = std::move(node);
    }
    if (wd >= 0) {
      byWatch[wd] = result;
    } else {
      partial = true;
      if (!polled.add(top, path) && isShortage(errno)) lost = true;
    }
    return result;
  }

  // Watches the folder and all below it. Each is read after it is watched: what comes later makes an event.
  void watchTree(Node* parent, const std::string& name) {
    struct Waiting {
      Node* parent;
      std::string name, path;
    };
    std::vector<Waiting> waiting;
    waiting.push_back({parent, name, parent == nullptr ? std::string() : joinPath(pathOf(*parent), name)});
    while (!waiting.empty() && !lost) {
      Waiting next = std::move(waiting.back());
      waiting.pop_back();
      if (!next.path.empty() && isLeftOut(options, next.path)) continue;
      auto folder = openFolderBelow(top, next.path);
      if (folder.get() < 0) {
        lost = isShortage(errno);
        continue;
      }
      Node* node = watchFolder(next.parent, next.name, next.path, folder);
      if (node == nullptr) continue;
      std::vector<std::string> names;
      if (!readSubfolders(folder, names) && isShortage(errno)) lost = true;
      for (auto& below : names) waiting.push_back({node, below, joinPath(next.path, below)});
    }
  }

  // After events that were lost: all watches are found again, and those that lead nowhere are dropped.
  void startOver(Gathered& gathered) {
    gathered.overflow();
    lost = false;
    polled.remove("");
    auto before = std::move(root);
    // All watches stay while the tree is walked, so that nothing is missed; their nodes are new.
    auto stale = std::move(byWatch);
    byWatch.clear();
    movedAway.clear();
    watchTree(nullptr, "");
    for (auto& [wd, node] : stale) {
      if (!byWatch.contains(wd)) inotify_rm_watch(events, wd);
    }
  }

  void handle(const inotify_event& event, Gathered& gathered) {
    if (event.mask & IN_Q_OVERFLOW) {
      lost = true;
      return;
    }
    auto found = byWatch.find(event.wd);
    if (found == byWatch.end()) return;
    Node& node = *found->second;
    if (event.mask & IN_IGNORED) return forget(node, gathered);
    if (event.len == 0 || event.name[0] == '\0') return handleSelf(node, event, gathered);
    if (!isAttached(node)) {
      if (late.size() < MAX_LATE) late.push_back({event.wd, event.name});
      return;
    }
    handleEntry(node, event, gathered);
  }

  // The kernel has ended the watch: the folder is gone, or its file system.
  void forget(Node& node, Gathered& gathered) {
    byWatch.erase(node.wd);
    node.wd = -1;
    if (&node == root.get()) {
      gathered.overflow();
    } else if (node.parent != nullptr) {
      Node& parent = *node.parent;
      std::string name = node.name;
      bool attached = isAttached(parent);
      std::string path = attached ? joinPath(pathOf(parent), name) : std::string();
      drop(take(parent, name));
      if (!attached) return;
      gathered.add({path, true});
      watchTree(&parent, name);  // below a file system that was taken away there may be something else
    }
  }

  void handleSelf(const Node& node, const inotify_event& event, Gathered& gathered) {
    if (&node != root.get()) return;  // told by the folder that it is in
    if (event.mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT)) {
      gathered.overflow();
    } else if (event.mask & IN_ATTRIB) {
      gathered.add({""});
    }
  }

  void handleEntry(Node& node, const inotify_event& event, Gathered& gathered) {
    std::string name = event.name;
    bool appeared = (event.mask & (IN_CREATE | IN_MOVED_TO)) != 0;
    bool isFolder = (event.mask & IN_ISDIR) != 0;
    gathered.add({joinPath(pathOf(node), name), isFolder && appeared, appeared});
    if (!isFolder) return;
    if (event.mask & IN_DELETE) drop(take(node, name));
    if (event.mask & IN_MOVED_FROM) {
      auto moved = take(node, name);
      if (moved != nullptr) movedAway.push_back({std::move(moved), false});
    }
    // After a change of its mode it may be readable.
    bool opened = (event.mask & IN_ATTRIB) != 0 && !node.children.contains(name);
    if (appeared || opened) watchTree(&node, name);
    if (event.mask & IN_MOVED_TO) tellLate(gathered);
  }

  // What happened in a folder between the two events of its move.
  void tellLate(Gathered& gathered) {
    for (auto& [wd, name] : late) {
      auto found = byWatch.find(wd);
      if (found == byWatch.end() || !isAttached(*found->second)) continue;
      std::string path = joinPath(pathOf(*found->second), name);
      // Maybe a folder that has no watch yet.
      watchTree(found->second, name);
      gathered.add({std::move(path), true});
    }
    late.clear();
  }

  const TreeWatcher::Options options;
  const kj::AutoCloseFd top;
  const kj::AutoCloseFd events;
  std::unique_ptr<Node> root;
  std::unordered_map<int, Node*> byWatch;
  std::vector<MovedAway> movedAway;
  std::vector<std::pair<int, std::string>> late;  // events in folders that were moved away, by watch
  FolderPoll polled;                              // folders that could not be watched
  bool lost = false;                              // the nodes are not what is on disk any more
  std::atomic<bool> partial{false};
};

}  // namespace

OpenedSource openInotify(const TreeWatcher::Options& options) {
  auto folder = openWatchedFolder(options.folder);
  if (!folder.ok()) return folder.error();
  kj::AutoCloseFd events(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  Error refused{ErrorCode::UNSUPPORTED, "inotify cannot be used here", options.folder};
  if (events.get() < 0) return refused;
  auto source = std::make_unique<InotifySource>(options, kj::mv(*folder), kj::mv(events));
  if (!source->begin()) return refused;
  return std::unique_ptr<WatchSource>(std::move(source));
}

}  // namespace capstan
