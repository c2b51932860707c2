#include <capstan/storage/names.h>

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <memory>

namespace capstan::storage {

namespace {

constexpr size_t BUFFER_BYTES = 64 << 10;

}  // namespace

Result<Names> Names::read(int folder, std::string_view path) {
  constexpr std::string_view DOING = "cannot list";
  Names names;
  struct stat status;
  if (fstat(folder, &status) < 0 || lseek(folder, 0, SEEK_SET) < 0) return errorFromErrno(errno, DOING, path);
  names.id = idOf(status);
  auto buffer = std::make_unique<char[]>(BUFFER_BYTES);
  while (true) {
    ssize_t size = getdents64(folder, buffer.get(), BUFFER_BYTES);
    // A folder that was removed has no entries; what is half read must not look like all there is.
    if (size < 0 && errno != ENOENT) return errorFromErrno(errno, DOING, path);
    if (size <= 0) break;
    for (char* at = buffer.get(); at < buffer.get() + size;) {
      auto* found = reinterpret_cast<dirent64*>(at);
      at += found->d_reclen;
      std::string_view name(found->d_name);
      if (name == "." || name == "..") continue;
      if (names.bytes.size() > std::numeric_limits<uint32_t>::max() - 512) {
        return errorAt(ErrorCode::TOO_LARGE, path, "", " has more entries than can be listed");
      }
      names.starts.push_back(uint32_t(names.bytes.size()));
      names.bytes.append(name.data(), name.size() + 1);
    }
  }
  const char* base = names.bytes.data();
  std::sort(names.starts.begin(), names.starts.end(),
            [base](uint32_t a, uint32_t b) { return std::string_view(base + a) < std::string_view(base + b); });
  auto isSame = [base](uint32_t a, uint32_t b) { return std::string_view(base + a) == std::string_view(base + b); };
  names.starts.erase(std::unique(names.starts.begin(), names.starts.end(), isSame), names.starts.end());
  names.bytes.shrink_to_fit();
  names.starts.shrink_to_fit();
  return names;
}

std::string_view Names::operator[](size_t position) const { return bytes.data() + starts[position]; }

size_t Names::lowerBound(std::string_view name) const {
  auto found = std::lower_bound(starts.begin(), starts.end(), name, [this](uint32_t start, std::string_view name) {
    return std::string_view(bytes.data() + start) < name;
  });
  return size_t(found - starts.begin());
}

}  // namespace capstan::storage
