#include <capstan/base/path.h>

#include <algorithm>

#include <capstan/base/text.h>

namespace capstan {

namespace {

Error invalid(std::string_view path, std::string_view reason) {
  std::string shown = escapeForTerminal(path.substr(0, 200));
  if (path.size() > 200) shown += "...";
  return {ErrorCode::INVALID_PATH, "the path " + shown + " " + std::string(reason), std::string(path)};
}

}  // namespace

Status validatePath(std::string_view path) {
  if (path.empty()) return okStatus();
  if (path.size() > MAX_PATH_BYTES) return invalid(path, "is longer than 4,096 bytes");
  if (path.find('\0') != std::string_view::npos) return invalid(path, "holds a NUL byte");
  if (path.front() == '/') return invalid(path, "begins with a slash; paths are relative to the served folder");
  if (path.back() == '/') return invalid(path, "ends with a slash");
  for (std::string_view name : splitPath(path)) {
    if (name.empty()) return invalid(path, "holds an empty name; write single slashes");
    if (name == ".") return invalid(path, "holds the name \".\"");
    if (name == "..") return invalid(path, "holds the name \"..\"; write the path without it");
    if (name.size() > MAX_NAME_BYTES) return invalid(path, "holds a name longer than 255 bytes");
  }
  return okStatus();
}

bool isReserved(std::string_view path) { return isWithin(path, STATE_FOLDER); }

std::string_view parentOf(std::string_view path) {
  size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

std::string_view baseNameOf(std::string_view path) {
  size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::string joinPath(std::string_view folder, std::string_view name) {
  std::string result;
  result.reserve(folder.size() + name.size() + 1);
  result += folder;
  if (!folder.empty() && !name.empty()) result += '/';
  result += name;
  return result;
}

std::vector<std::string_view> splitPath(std::string_view path) {
  std::vector<std::string_view> names;
  if (path.empty()) return names;
  size_t begin = 0;
  while (true) {
    size_t slash = path.find('/', begin);
    if (slash == std::string_view::npos) break;
    names.push_back(path.substr(begin, slash - begin));
    begin = slash + 1;
  }
  names.push_back(path.substr(begin));
  return names;
}

bool isWithin(std::string_view path, std::string_view folder) {
  if (folder.empty()) return true;
  return path.starts_with(folder) && (path.size() == folder.size() || path[folder.size()] == '/');
}

int comparePaths(std::string_view a, std::string_view b) {
  size_t common = std::min(a.size(), b.size());
  for (size_t i = 0; i < common; ++i) {
    if (a[i] == b[i]) continue;
    // The end of a name sorts before every byte of a longer one.
    if (a[i] == '/') return -1;
    if (b[i] == '/') return 1;
    return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[i]) ? -1 : 1;
  }
  return a.size() == b.size() ? 0 : a.size() < b.size() ? -1 : 1;
}

}  // namespace capstan
