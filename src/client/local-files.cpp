#include <capstan/client/local-files.h>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/base/path.h>
#include <capstan/base/text.h>

namespace capstan::client {

namespace {

constexpr int FOLDER_FLAGS = O_PATH | O_DIRECTORY | O_CLOEXEC;

FolderHandle handleOf(int fd) { return std::make_shared<kj::AutoCloseFd>(fd); }

Error failure(std::string_view doing, const LocalPlace& place) { return errorFromErrno(errno, doing, place.shown); }

Error notAFolder(const std::string& shown) {
  return errorAt(ErrorCode::NOT_DIRECTORY, shown, "", " is no folder here; move it away, or take another target");
}

void setTimes(timespec (&times)[2], int64_t mtime) {
  times[0].tv_nsec = UTIME_OMIT;
  times[1] = toTimespec(mtime);
}

}  // namespace

Result<LocalPlace> openPlace(const std::string& path, bool makeParents) {
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  if (trimmed.empty()) return Error{ErrorCode::INVALID_ARGUMENT, "the local path is empty", {}};
  size_t slash = trimmed.rfind('/');
  std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : trimmed.substr(0, slash);
  std::string name = slash == std::string::npos ? trimmed : trimmed.substr(slash + 1);
  if (name.empty()) name = ".";
  int fd = open(folder.c_str(), FOLDER_FLAGS);
  if (fd < 0 && errno == ENOENT && makeParents) {
    Status made = makeDirectories(folder, 0777);
    if (!made.ok()) return std::move(made).error();
    fd = open(folder.c_str(), FOLDER_FLAGS);
  }
  if (fd < 0) return errorFromErrno(errno, "cannot open the folder", folder);
  return LocalPlace{handleOf(fd), std::move(name), path};
}

Result<FolderHandle> openFolder(const LocalPlace& place) {
  int fd = openat(*place.folder, place.name.c_str(), FOLDER_FLAGS | O_NOFOLLOW);
  if (fd >= 0) return handleOf(fd);
  if (errno == ENOTDIR || errno == ELOOP) return notAFolder(place.shown);
  return failure("cannot open the folder", place);
}

Result<FolderHandle> makeFolder(const LocalPlace& place, unsigned mode) {
  bool made = mkdirat(*place.folder, place.name.c_str(), (mode & 0777) | 0700) == 0;
  if (!made && errno != EEXIST) return failure("cannot make the folder", place);
  Result<FolderHandle> folder = openFolder(place);
  if (made || !folder.ok()) return folder;
  struct stat stat;
  if (fstat(**folder, &stat) == 0 && (stat.st_mode & 0700) != 0700 && stat.st_uid == geteuid()) {
    fchmodat(**folder, ".", (stat.st_mode & 07777) | 0700, 0);
  }
  return folder;
}

Result<LocalPlace> placeBelow(const FolderHandle& root, std::string_view relative, const std::string& shownRoot) {
  LocalPlace place{root, {}, shownRoot};
  for (std::string_view name : splitPath(relative)) {
    if (!place.name.empty()) {
      Result<FolderHandle> folder = openFolder(place);
      if (!folder.ok()) return std::move(folder).error();
      place.folder = std::move(*folder);
    }
    place.name = name;
    place.shown = joinPath(place.shown, name);
  }
  return place;
}

Status makeSymlink(const LocalPlace& place, const std::string& target, bool overwrite) {
  if (symlinkat(target.c_str(), *place.folder, place.name.c_str()) == 0) return okStatus();
  if (errno != EEXIST || !overwrite) return failure("cannot make the symlink", place);
  std::string temporary = partName(place.name, randomSuffix());
  if (symlinkat(target.c_str(), *place.folder, temporary.c_str()) != 0)
    return failure("cannot make the symlink", place);
  Status moved = moveIntoPlace(place, temporary, overwrite);
  if (!moved.ok()) unlinkat(*place.folder, temporary.c_str(), 0);
  return moved;
}

Status setFolderMetadata(const LocalPlace& place, const Entry& entry) {
  Result<FolderHandle> folder = openFolder(place);
  if (!folder.ok()) return std::move(folder).error();
  timespec times[2];
  setTimes(times, entry.mtime);
  // By "." because a descriptor made with O_PATH takes no fchmod; the time first, the mode may lock us out.
  if (utimensat(**folder, ".", times, 0) != 0 || fchmodat(**folder, ".", entry.mode & 07777, 0) != 0) {
    return failure("cannot set the metadata of", place);
  }
  return okStatus();
}

Status setLinkTime(const LocalPlace& place, int64_t mtime) {
  timespec times[2];
  setTimes(times, mtime);
  if (utimensat(*place.folder, place.name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) {
    return failure("cannot set the time of", place);
  }
  return okStatus();
}

Status setFileMetadata(int fd, const std::string& shown, const Entry& entry) {
  timespec times[2];
  setTimes(times, entry.mtime);
  // A file from elsewhere does not get to run with this user's rights.
  if (fchmod(fd, entry.mode & 01777) != 0 || futimens(fd, times) != 0) {
    return errorFromErrno(errno, "cannot set the metadata of", shown);
  }
  return okStatus();
}

Status moveIntoPlace(const LocalPlace& place, const std::string& from, bool overwrite) {
  int moved = -1;
  if (overwrite) {
    moved = ::renameat(*place.folder, from.c_str(), *place.folder, place.name.c_str());
  } else {
    moved = renameat2(*place.folder, from.c_str(), *place.folder, place.name.c_str(), RENAME_NOREPLACE);
    if (moved != 0 && (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)) {
      // A hard link refuses an existing name too, on file systems that do not know RENAME_NOREPLACE.
      moved = linkat(*place.folder, from.c_str(), *place.folder, place.name.c_str(), 0);
      if (moved == 0) unlinkat(*place.folder, from.c_str(), 0);
    }
  }
  if (moved == 0) return okStatus();
  if (errno == EISDIR)
    return errorAt(ErrorCode::IS_DIRECTORY, place.shown, "", " is a folder here; take another target");
  return failure("cannot write", place);
}

std::string partPrefix(std::string_view name) {
  constexpr std::string_view MARK = ".capstan-part-";
  constexpr size_t SUFFIX_BYTES = 16;
  std::string shortened(name);
  if (1 + name.size() + MARK.size() + SUFFIX_BYTES > MAX_NAME_BYTES) {
    std::string hash = toHex(digestOf(DigestAlgorithm::XXH3, name)).substr(0, 16);
    shortened = std::string(name.substr(0, MAX_NAME_BYTES - 2 - MARK.size() - SUFFIX_BYTES - hash.size())) + "~" + hash;
  }
  return "." + shortened + std::string(MARK);
}

std::string partName(std::string_view name, std::string_view suffix) { return partPrefix(name) + std::string(suffix); }

std::string randomSuffix() { return toHex(randomBytes(8)); }

}  // namespace capstan::client
