#include <capstan/sync/remote-place.h>

namespace capstan::sync {

Result<std::string> RemotePlace::within(std::string_view path) const {
  Status valid = validatePath(path);
  if (!valid.ok()) return Error{ErrorCode::CORRUPT, "the server names what is no path: " + valid.error().message, {}};
  if (!isWithin(path, folder)) {
    return errorAt(ErrorCode::CORRUPT, path, "the server names ", ", which is not in what it was asked for");
  }
  if (folder.empty()) return std::string(path);
  return std::string(path.substr(std::min(folder.size() + 1, path.size())));
}

}  // namespace capstan::sync
