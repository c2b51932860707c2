#include <capstan/storage/usage.h>

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include <capstan/base/path.h>
#include <capstan/base/saturating.h>
#include <capstan/storage/version.h>

namespace capstan::storage {

namespace {

constexpr int OPEN_FOLDER = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

// Holds two descriptors, however deep the folders are.
class Counting {
 public:
  explicit Counting(int top) : top(top) {}

  uint64_t run(const std::string& name) {
    struct stat status;
    if (fstatat(top, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) return 0;
    count(status, name);
    while (!folders.empty()) {
      std::string path = std::move(folders.back());
      folders.pop_back();
      visit(path);
    }
    return bytes;
  }

 private:
  const int top;
  uint64_t bytes = 0;
  std::vector<std::string> folders;  // still to be visited
  std::set<std::pair<uint64_t, uint64_t>> seen;

  void count(const struct stat& status, std::string path) {
    if (S_ISDIR(status.st_mode)) {
      folders.push_back(std::move(path));
    } else if (status.st_nlink > 1 && !seen.emplace(status.st_dev, status.st_ino).second) {
      return;
    }
    bytes = saturatingSum(bytes, chargeOf(status));
  }

  void visit(const std::string& path) {
    kj::AutoCloseFd folder(openat(top, ".", OPEN_FOLDER));
    for (std::string_view name : splitPath(path)) {
      if (folder.get() < 0) return;
      folder = kj::AutoCloseFd(openat(folder, std::string(name).c_str(), OPEN_FOLDER));
    }
    DIR* dir = folder.get() < 0 ? nullptr : fdopendir(dup(folder));
    if (dir == nullptr) return;
    while (dirent* entry = readdir(dir)) {
      std::string name = entry->d_name;
      struct stat status;
      if (name == "." || name == ".." || fstatat(folder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) continue;
      count(status, joinPath(path, name));
    }
    closedir(dir);
  }
};

}  // namespace

uint64_t chargeOf(const struct stat& status) {
  return S_ISREG(status.st_mode) ? std::max(uint64_t(status.st_size), LEAST_CHARGE) : LEAST_CHARGE;
}

uint64_t contentIn(int folder, const std::string& name) { return Counting(folder).run(name); }

int64_t contentAt(const Root& root, const std::string& path) {
  auto status = root.stat(path);
  return status.ok() ? saturatingSigned(chargeOf(*status)) : 0;
}

int64_t parentsFor(const Root& root, const std::string& path) {
  int64_t bytes = 0;
  for (std::string_view folder = parentOf(path); !folder.empty(); folder = parentOf(folder)) {
    auto status = root.stat(std::string(folder));
    if (status.ok() || status.error().code != ErrorCode::NOT_FOUND) break;
    bytes += int64_t(LEAST_CHARGE);
  }
  return bytes;
}

}  // namespace capstan::storage
