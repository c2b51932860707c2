// Folders that are compared with what they were, because nothing tells of their changes. Internal to the tree watcher.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace capstan {

// Each folder by itself, not what is below it: what is a folder in it is the caller's business. Not thread-safe.
class FolderPoll {
 public:
  struct Difference {
    std::string path;  // of what is another thing now
    bool appeared = false;
    bool wasFolder = false;
    bool isFolder = false;  // one that was not there before, is another one, or may be read by others
  };

  // Remembers what is in the folder now. False and errno: it cannot be read.
  bool add(int top, const std::string& path);
  // Forgets the folder and those below it.
  void remove(const std::string& path);
  bool empty() const { return folders.empty(); }

  // Compares all folders. The answer may lead to calls of add() and remove(). What cannot be read now is as it was;
  // a folder that is gone is forgotten (and told as a difference in the one that it was in, if that is here).
  std::vector<Difference> compare(int top);

 private:
  struct Stamp {
    ino_t inode = 0;
    int64_t mtime = 0, ctime = 0;
    off_t size = 0;
    mode_t mode = 0;
    bool operator==(const Stamp&) const = default;
    bool isFolder() const { return S_ISDIR(mode); }
  };
  struct Item {
    std::string name;
    Stamp stamp;
  };
  using Items = std::vector<Item>;  // sorted by name

  static bool read(int top, const std::string& path, Items& items);
  static void compare(const std::string& path, const Items& before, const Items& now, std::vector<Difference>& result);

  std::map<std::string, Items> folders;
};

}  // namespace capstan
