#include <capstan/storage/delete-tree.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <vector>

#include <kj/io.h>

namespace capstan::storage {

namespace {

struct CloseDir {
  void operator()(DIR* dir) const { closedir(dir); }
};

// A folder that its owner may not write cannot be emptied before it is made so.
int openFolder(int folder, const std::string& name) {
  constexpr int FLAGS = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  struct stat status;
  if (fstatat(folder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode) &&
      (status.st_mode & 0700) != 0700) {
    fchmodat(folder, name.c_str(), 0700, 0);
  }
  return openat(folder, name.c_str(), FLAGS);
}

}  // namespace

bool deleteTree(int folder, const std::string& name, const std::function<std::string()>& newName,
                const std::atomic<bool>& stop) {
  if (unlinkat(folder, name.c_str(), 0) == 0 || errno == ENOENT) return true;
  if (errno != EISDIR && errno != EPERM) return false;
  std::vector<std::string> folders{name};
  bool whole = true;
  while (!folders.empty()) {
    std::string current = std::move(folders.back());
    folders.pop_back();
    kj::AutoCloseFd fd(openFolder(folder, current));
    if (fd.get() < 0) {
      whole = false;
      continue;
    }
    std::unique_ptr<DIR, CloseDir> dir(fdopendir(dup(fd)));
    while (dirent* entry = dir == nullptr ? nullptr : readdir(dir.get())) {
      if (stop.load(std::memory_order_relaxed)) return false;
      std::string child = entry->d_name;
      if (child == "." || child == "..") continue;
      if (unlinkat(fd, child.c_str(), 0) == 0) continue;
      fchmodat(fd, child.c_str(), 0700, AT_SYMLINK_NOFOLLOW);  // moving a folder needs the right to write into it
      std::string lifted = newName();
      if (renameat(fd, child.c_str(), folder, lifted.c_str()) == 0) folders.push_back(std::move(lifted));
    }
    if (unlinkat(folder, current.c_str(), AT_REMOVEDIR) < 0) whole = false;
  }
  return whole;
}

}  // namespace capstan::storage
