// How much the files in a folder hold: what counts against a quota. Sizes as they are seen, holes included; and for
// each file, folder and symlink at least what it takes of the disk, so that many small ones count too.
#pragma once

#include <dirent.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <kj/io.h>

#include <capstan/storage/root.h>

namespace capstan::storage {

inline constexpr uint64_t LEAST_CHARGE = 4096;

// One thing, without what may be in it.
uint64_t chargeOf(const struct stat& status);

// All at and below `name` in a folder, whatever its depth; a file with several names counts once. What may not be read,
// or is moved away meanwhile, is left out. Goes on in slices, takes time in proportion to the things that it finds, and
// holds a few descriptors, however deep they are. Used by one thread at a time.
class ContentWalk {
 public:
  static constexpr size_t SLICE = 2000;  // things in a few milliseconds

  // The folder must outlive it.
  ContentWalk(int folder, std::string name) : top(folder), name(std::move(name)) {}
  KJ_DISALLOW_COPY(ContentWalk);

  // Goes on for so many things at most, which it takes from the budget; true when done. Blocks.
  bool step(size_t& budget);
  // What was found so far: what it counts, and what its files take on the disk.
  uint64_t bytes() const { return found; }
  uint64_t onDisk() const { return blocks; }

 private:
  // One of the folders from the first down to where it stands.
  struct Level {
    std::string name;
    dev_t device;
    ino_t inode;
    std::vector<std::string> folders;  // in it, still to be visited
  };
  struct CloseDir {
    void operator()(DIR* dir) const { closedir(dir); }
  };

  const int top;
  const std::string name;
  bool begun = false;
  uint64_t found = 0, blocks = 0;
  std::vector<Level> levels;
  kj::AutoCloseFd here;  // the folder of levels[at]
  size_t at = 0;
  std::unique_ptr<DIR, CloseDir> reading;  // the last level's, as long as that was not read to its end
  std::set<std::pair<uint64_t, uint64_t>> seen;

  void begin();
  void count(const struct stat& status, const std::string& entry);
  void enter(int parent, std::string entry);
  void read(size_t& budget);
  bool descend(size_t& budget);
  bool isAt(int fd, const Level& level) const;
  bool returnTo(size_t level);
};

// All of it at once; less than that if `stop` was set meanwhile. Blocks, for long where there is much.
uint64_t contentIn(int folder, const std::string& name, const std::atomic<bool>* stop = nullptr);

// What is answered instead of a figure that is not known yet, when finding it takes longer than a slice: somebody else
// is at it, and whoever can wait for them asks again then.
Error beingMeasured();
bool isBeingMeasured(const Error& error);

// What is at this path, without what may be in it; 0 if nothing is there. Blocks.
int64_t contentAt(const Root& root, const std::string& path);

// The folders that have to be made before something can be at this path. Blocks.
int64_t parentsFor(const Root& root, const std::string& path);

}  // namespace capstan::storage
