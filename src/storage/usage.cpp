#include <capstan/storage/usage.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include <capstan/base/path.h>
#include <capstan/base/saturating.h>
#include <capstan/storage/version.h>

namespace capstan::storage {

namespace {

constexpr int OPEN_FOLDER = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr const char* BEING_MEASURED = "how much is there is being measured; try again";

}  // namespace

void ContentWalk::begin() {
  begun = true;
  struct stat status;
  if (fstatat(top, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) return;
  count(status, {});
  if (S_ISDIR(status.st_mode)) enter(top, name);
}

void ContentWalk::count(const struct stat& status, const std::string& entry) {
  bool isFolder = S_ISDIR(status.st_mode);
  if (isFolder && !levels.empty()) levels.back().folders.push_back(entry);
  if (!isFolder && status.st_nlink > 1 && !seen.emplace(status.st_dev, status.st_ino).second) return;
  found = saturatingSum(found, chargeOf(status));
  if (isFolder) return;
  // Blocks may not be counted before they are written, nor in some file systems at all.
  uint64_t taken = uint64_t(status.st_blocks) * 512;
  blocks = saturatingSum(blocks, taken > 0 ? taken : std::min(uint64_t(status.st_size), LEAST_CHARGE));
}

void ContentWalk::enter(int parent, std::string entry) {
  kj::AutoCloseFd folder(openat(parent, entry.c_str(), OPEN_FOLDER));
  struct stat status;
  if (folder.get() < 0 || fstat(folder, &status) < 0) return;
  reading.reset(fdopendir(openat(folder, ".", OPEN_FOLDER)));
  if (reading == nullptr) return;
  levels.push_back({std::move(entry), status.st_dev, status.st_ino, {}});
  here = kj::mv(folder);
  at = levels.size() - 1;
}

void ContentWalk::read(size_t& budget) {
  while (budget > 0) {
    dirent* entry = readdir(reading.get());
    if (entry == nullptr) return reading.reset();
    std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    --budget;
    struct stat status;
    if (fstatat(here, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0) count(status, name);
  }
}

bool ContentWalk::isAt(int fd, const Level& level) const {
  struct stat status;
  return fd >= 0 && fstat(fd, &status) == 0 && status.st_dev == level.device && status.st_ino == level.inode;
}

// By the way that it came, or, where a folder on it was moved meanwhile, once more from the top.
bool ContentWalk::returnTo(size_t level) {
  kj::AutoCloseFd folder;
  for (; at > level; --at) {
    folder = kj::AutoCloseFd(openat(folder.get() < 0 ? here.get() : folder.get(), "..", OPEN_FOLDER));
    if (folder.get() < 0) break;
  }
  if (folder.get() >= 0) here = kj::mv(folder);
  at = level;
  if (isAt(here, levels[level])) return true;
  here = kj::AutoCloseFd(openat(top, levels[0].name.c_str(), OPEN_FOLDER));
  for (size_t i = 1; i <= level && here.get() >= 0; ++i) {
    here = kj::AutoCloseFd(openat(here, levels[i].name.c_str(), OPEN_FOLDER));
  }
  return isAt(here, levels[level]);
}

// False: there is nowhere to go any more.
bool ContentWalk::descend(size_t& budget) {
  while (!levels.empty() && levels.back().folders.empty()) levels.pop_back();
  if (levels.empty()) return false;
  size_t level = levels.size() - 1;
  --budget;
  budget -= std::min(budget, at - level);
  if (!returnTo(level)) {
    levels.back().folders.clear();
    return true;
  }
  std::string next = std::move(levels.back().folders.back());
  levels.back().folders.pop_back();
  enter(here, std::move(next));
  return true;
}

bool ContentWalk::step(size_t& budget) {
  if (!begun && budget > 0) {
    --budget;
    begin();
  }
  while (budget > 0) {
    if (reading != nullptr) {
      read(budget);
    } else if (!descend(budget)) {
      return true;
    }
  }
  return false;
}

Error beingMeasured() { return {ErrorCode::OVERLOADED, BEING_MEASURED, {}}; }

bool isBeingMeasured(const Error& error) {
  return error.code == ErrorCode::OVERLOADED && error.message == BEING_MEASURED;
}

uint64_t chargeOf(const struct stat& status) {
  return S_ISREG(status.st_mode) ? std::max(uint64_t(status.st_size), LEAST_CHARGE) : LEAST_CHARGE;
}

uint64_t contentIn(int folder, const std::string& name, const std::atomic<bool>* stop) {
  ContentWalk walk(folder, name);
  for (bool done = false; !done && (stop == nullptr || !*stop);) {
    size_t budget = ContentWalk::SLICE;
    done = walk.step(budget);
  }
  return walk.bytes();
}

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
