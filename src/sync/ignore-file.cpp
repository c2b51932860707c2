#include <capstan/sync/ignore-file.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include <capstan/base/path.h>
#include <capstan/sync/ignore.h>
#include <capstan/sync/local-folder.h>

namespace capstan::sync {

namespace {

constexpr size_t MAX_BYTES = 1 << 20;
constexpr std::string_view DOING = "cannot read the ignore rules in";

}  // namespace

Result<std::optional<std::string>> readIgnoreFile(const std::string& root, std::string_view folder) {
  using Text = std::optional<std::string>;
  auto top = openLocalFolder(root);
  if (!top.ok()) {
    bool absent = top.error().code == ErrorCode::NOT_FOUND || top.error().code == ErrorCode::NOT_DIRECTORY;
    return absent ? Result<Text>(Text()) : Result<Text>(top.error());
  }
  auto path = joinPath(folder, IGNORE_FILE);
  auto fd = openBelow(*top, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  struct stat info;
  if (fd.get() < 0) {
    int number = errno;
    // ENXIO: a socket. Where the folder itself cannot be entered, nothing in it can be read either, and the look tells.
    if (saysAbsent(number) || number == ELOOP || number == ENXIO) return Text();
    if (number == EACCES && statBelow(*top, path, info) == EACCES) return Text();
    return errorFromErrno(number, DOING, path);
  }
  if (fstat(fd, &info) != 0) return errorFromErrno(errno, DOING, path);
  if (!S_ISREG(info.st_mode)) return Text();
  std::string text(MAX_BYTES + 1, '\0');
  size_t have = 0;
  while (have < text.size()) {
    ssize_t count = read(fd, text.data() + have, text.size() - have);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errorFromErrno(errno, DOING, path);
    if (count == 0) break;
    have += static_cast<size_t>(count);
  }
  if (have > MAX_BYTES) return errorAt(ErrorCode::TOO_LARGE, path, std::string(DOING) + " ", ": more than 1 MiB");
  text.resize(have);
  text.shrink_to_fit();
  return Text(std::move(text));
}

}  // namespace capstan::sync
