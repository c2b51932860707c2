#include <capstan/base/folder-poll.h>

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <kj/common.h>

#include <capstan/base/file.h>
#include <capstan/base/path.h>
#include <capstan/base/watch-source.h>

namespace capstan {

bool FolderPoll::read(int top, const std::string& path, Items& items) {
  auto fd = openFolderBelow(top, path);
  int copy = fd.get() < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
  DIR* dir = copy < 0 ? nullptr : fdopendir(copy);
  if (dir == nullptr) return false;
  KJ_DEFER(closedir(dir));
  while (true) {
    errno = 0;
    dirent* entry = readdir(dir);
    if (entry == nullptr) break;
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    struct stat status;
    if (fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0) continue;
    Stamp stamp{status.st_ino, 0, 0, 0, status.st_mode};
    if (!stamp.isFolder()) {
      // A folder's times and size change with what is in it, and that is told by itself.
      stamp.mtime = toNanoseconds(status.st_mtim);
      stamp.ctime = toNanoseconds(status.st_ctim);
      stamp.size = status.st_size;
    }
    items.push_back({entry->d_name, stamp});
  }
  if (errno != 0) return false;
  std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) { return a.name < b.name; });
  return true;
}

bool FolderPoll::add(int top, const std::string& path) {
  Items items;
  if (!read(top, path, items)) return false;
  folders[path] = std::move(items);
  return true;
}

void FolderPoll::remove(const std::string& path) {
  if (path.empty()) return folders.clear();
  folders.erase(path);
  // '0' is the byte after '/': all that begins with "path/".
  folders.erase(folders.lower_bound(path + "/"), folders.lower_bound(path + "0"));
}

std::vector<FolderPoll::Difference> FolderPoll::compare(int top) {
  std::vector<Difference> result;
  for (auto current = folders.begin(); current != folders.end();) {
    Items now;
    bool done = read(top, current->first, now);
    bool gone = !done && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP);
    if (done) {
      compare(current->first, current->second, now, result);
      current->second = std::move(now);
    }
    current = gone ? folders.erase(current) : std::next(current);
  }
  return result;
}

void FolderPoll::compare(const std::string& path, const Items& before, const Items& now,
                         std::vector<Difference>& result) {
  auto old = before.begin();
  auto next = now.begin();
  while (old != before.end() || next != now.end()) {
    int order = old == before.end() ? 1 : next == now.end() ? -1 : old->name.compare(next->name);
    if (order < 0) {
      result.push_back({joinPath(path, old->name), false, old->stamp.isFolder(), false});
      ++old;
    } else if (order > 0) {
      result.push_back({joinPath(path, next->name), true, false, next->stamp.isFolder()});
      ++next;
    } else {
      if (old->stamp != next->stamp) {
        result.push_back({joinPath(path, next->name), false, old->stamp.isFolder(), next->stamp.isFolder()});
      }
      ++old;
      ++next;
    }
  }
}

}  // namespace capstan
