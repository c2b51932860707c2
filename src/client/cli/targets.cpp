#include <capstan/client/cli/targets.h>

#include <capstan/base/path.h>

namespace capstan::cli {

namespace {

std::string_view withoutSlashes(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  return path;
}

bool endsIn(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

}  // namespace

std::string remotePath(std::string_view typed) {
  std::string_view path = withoutSlashes(typed);
  if (path == "/" || path == ".") return "";
  return std::string(path);
}

Source localSource(std::string_view typed) {
  std::string_view path = withoutSlashes(typed);
  std::string_view name = path.substr(path.rfind('/') == std::string_view::npos ? 0 : path.rfind('/') + 1);
  if (name == "." || name == "..") name = {};
  return {std::string(path), std::string(name)};
}

Source remoteSource(std::string_view typed) {
  std::string_view path = withoutSlashes(typed);
  if (path.size() > 2 && endsIn(path, "/.")) return {std::string(withoutSlashes(path.substr(0, path.size() - 2))), {}};
  std::string plain = remotePath(path);
  std::string name(baseNameOf(plain));
  return {std::move(plain), std::move(name)};
}

std::optional<std::string> destinationOf(std::string_view path, std::string_view target) {
  if (target.empty() || target.front() == '/') return std::nullopt;
  std::string place(parentOf(path));
  while (!target.empty()) {
    size_t slash = target.find('/');
    std::string_view name = target.substr(0, slash);
    target.remove_prefix(slash == std::string_view::npos ? target.size() : slash + 1);
    if (name.empty() || name == ".") continue;
    if (name != "..") {
      place = joinPath(place, name);
    } else {
      if (place.empty()) return std::nullopt;
      place = std::string(parentOf(place));
    }
  }
  return place;
}

bool namesFolder(std::string_view typed) {
  return typed.empty() || typed == "." || typed == ".." || endsIn(typed, "/") || endsIn(typed, "/.") ||
         endsIn(typed, "/..");
}

Result<std::string> targetFor(const Source& source, std::string_view target, bool asFolder, TargetKind kind,
                              bool several) {
  bool folder = asFolder || kind == TargetKind::FOLDER;
  if (kind == TargetKind::OTHER && (asFolder || several)) {
    return errorAt(ErrorCode::NOT_DIRECTORY, target, "cannot write into ", ": it is not a folder");
  }
  if (several && !folder) {
    return errorAt(ErrorCode::NOT_DIRECTORY, target, "there is no folder ",
                   " to take several sources; write a / behind its name to have it made");
  }
  if (!folder || source.name.empty()) return std::string(target);
  if (target == "/") return "/" + source.name;
  return joinPath(target, source.name);
}

}  // namespace capstan::cli
