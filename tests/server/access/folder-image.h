// What a folder looks like, for tests of what must not change.
#pragma once

#include <filesystem>
#include <set>
#include <string>

#include <sys/stat.h>

namespace capstan::server {

// Everything in a folder but `without`: names, modes, times, contents.
inline std::string imageOf(const std::string& folder, const std::string& without = {}) {
  std::set<std::string> lines;
  auto end = std::filesystem::recursive_directory_iterator();
  for (auto each = std::filesystem::recursive_directory_iterator(folder); each != end; ++each) {
    std::string path = each->path(), name = each->path().filename();
    bool skipped = name == ".capstan" || path == without;
    if (skipped) {
      each.disable_recursion_pending();
      continue;
    }
    struct stat status {};
    lstat(path.c_str(), &status);
    std::string line = path + " " + std::to_string(status.st_mode) + " " + std::to_string(status.st_size) + " " +
                       std::to_string(status.st_ino) + " " + std::to_string(status.st_mtim.tv_nsec);
    if (S_ISLNK(status.st_mode)) line += " " + std::filesystem::read_symlink(path).string();
    lines.insert(line);
  }
  std::string image;
  for (auto& line : lines) image += line + "\n";
  return image;
}

}  // namespace capstan::server
