// A folder that exists only in memory, with what the synchroniser depends on: stamps that may be too young, identities,
// a trash, a journal of changes, and troubles: unmounted, full, unreadable; and with the way in which a server notices
// what happens in such a folder.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include <capstan/base/error.h>
#include <capstan/server/files/change-journal.h>
#include <capstan/sync/node.h>
#include <capstan/sync/plan.h>

namespace capstan::sync::sim {

struct Item {
  Node node;
  std::string content;   // unique for each write of a user: what must not be lost
  uint64_t changed = 0;  // the disk's tick of the last change
};

class FakeDisk {
 public:
  explicit FakeDisk(std::string name) : name(std::move(name)) {}

  // What is there now; nothing while it is not mounted.
  const ByPath<Item>& view() const { return mounted ? items : nothing; }
  std::optional<Node> nodeAt(std::string_view path) const;
  const Item* find(std::string_view path) const;
  bool hasChildren(std::string_view folder) const;
  // Whether it lies in the folder that cannot be read, if that is there.
  bool isUnreadable(std::string_view path) const;
  std::string root() const { return mounted ? name + "-root" : name + "-mount-point"; }

  // What users and the synchroniser do. No expectation is checked here; the parent must be a folder (else nothing is
  // done and false is answered). What is displaced by `synchroniser` goes to the trash.
  bool write(const std::string& path, const std::string& content, uint64_t size, int64_t mtime, uint32_t mode,
             bool synchroniser);
  bool makeFolder(const std::string& path, uint32_t mode);
  bool makeSymlink(const std::string& path, const std::string& target, bool synchroniser);
  bool setMetadata(const std::string& path, uint32_t mode, int64_t mtime);
  bool move(const std::string& from, const std::string& to, bool synchroniser);
  bool remove(const std::string& path, bool synchroniser);  // a folder with all that is in it

  // The server looks at what the kernel has told it since the last time, as Noticing does: at each path once, at what
  // is there by now.
  void notice();
  // The server starts again, and knows nothing of before.
  void restart();

  // Between ticks the clock of the file system stands still: stamps are too young.
  void advance() { ++tick; }

  bool holds(const std::string& content) const;  // at a path
  bool trashed(const std::string& content) const { return trash.count(content) > 0; }

  const std::string name;
  bool mounted = true;
  bool exists = true;  // while not mounted: whether the mount point is there
  bool full = false;
  std::string unreadable;                      // a folder that cannot be listed; empty: none
  std::vector<std::string> journal;            // paths at or below which something has changed
  std::vector<server::files::Change> noticed;  // by the server
  uint64_t epoch = 1;                          // of `noticed`: another one after a restart of the server
  std::set<std::string> trash;
  ByPath<Item> items;

 private:
  bool canHold(std::string_view path) const;
  void displace(const std::string& path, bool synchroniser);
  // `appeared`: something was made there or moved there, maybe over something else.
  void touched(const std::string& path, bool appeared);
  std::string newStamp() { return name + std::to_string(++stamps); }

  const ByPath<Item> nothing;
  uint64_t tick = 1, stamps = 0, identities = 0;
  std::map<std::string, bool> unnoticed;  // since the last notice(): whether it appeared
};

}  // namespace capstan::sync::sim
