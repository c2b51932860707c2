#include <capstan/client/part-file.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/base/text.h>

namespace capstan::client {

PartFile::PartFile(LocalPlace place, Settings settings) : place(std::move(place)), settings(settings) {}

PartFile::~PartFile() noexcept(false) {
  if (name.empty() || keep) return;
  unlinkat(*place.folder, name.c_str(), 0);
}

Result<uint64_t> PartFile::begin(const Entry& entry) {
  if (entry.size > FIRST_READ && settings.resume) return openResumable(entry);
  Status opened = openFresh();
  if (!opened.ok()) return std::move(opened).error();
  return uint64_t(0);
}

Status PartFile::openFresh() {
  name = partName(place.name, randomSuffix());
  constexpr int FLAGS = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  int opened = openat(*place.folder, name.c_str(), FLAGS, modeUntilDone());
  if (opened < 0) {
    name.clear();
    return errorFromErrno(errno, "cannot write", place.shown);
  }
  fd = kj::AutoCloseFd(opened);
  // So that another transfer to the same name does not take it for a leftover.
  flock(fd, LOCK_EX | LOCK_NB);
  return okStatus();
}

Result<uint64_t> PartFile::openResumable(const Entry& entry) {
  // The path is part of it because a version says nothing about another path.
  std::string identity = entry.version + '/' + entry.path;
  name = partName(place.name, toHex(digestOf(DigestAlgorithm::XXH3, identity)).substr(0, 16));
  removeOthers();
  constexpr int FLAGS = O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
  int opened = openat(*place.folder, name.c_str(), FLAGS, modeUntilDone());
  if (opened < 0) {
    name.clear();
    return errorFromErrno(errno, "cannot write", place.shown);
  }
  fd = kj::AutoCloseFd(opened);
  struct stat stat;
  if (!lockedHere(stat)) {
    // Another process is at it, or it is nothing that we have made: this transfer gets a file of its own.
    Status fresh = openFresh();
    if (!fresh.ok()) return std::move(fresh).error();
    return uint64_t(0);
  }
  keep = true;
  if (uint64_t(stat.st_size) > entry.size && ftruncate(fd, 0) != 0) return failure("cannot write");
  size = uint64_t(stat.st_size) > entry.size ? 0 : stat.st_size;
  resumed = size;
  return size;
}

// Whether the open part file is ours alone, and still the one that has the name.
bool PartFile::lockedHere(struct stat& stat) {
  struct stat named;
  return flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode) && stat.st_nlink == 1 &&
         fstatat(*place.folder, name.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 && named.st_ino == stat.st_ino &&
         named.st_dev == stat.st_dev;
}

// Part files of other versions of this file are of no use any more.
void PartFile::removeOthers() {
  int folder = openat(*place.folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  DIR* listing = fdopendir(folder);
  if (listing == nullptr) {
    close(folder);
    return;
  }
  KJ_DEFER(closedir(listing));
  std::string prefix = partPrefix(place.name);
  std::vector<std::string> stale;
  while (dirent* entry = readdir(listing)) {
    std::string_view found = entry->d_name;
    if (found.size() == prefix.size() + 16 && found.starts_with(prefix) && found != name) stale.emplace_back(found);
  }
  for (const std::string& found : stale) {
    int opened = openat(*place.folder, found.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (opened < 0) continue;
    kj::AutoCloseFd other(opened);
    // One that is locked belongs to a transfer under way.
    if (flock(other, LOCK_EX | LOCK_NB) == 0) unlinkat(*place.folder, found.c_str(), 0);
  }
}

kj::Promise<Status> PartFile::write(std::string_view bytes) {
  if (!writeAt(fd, bytes.data(), bytes.size(), size)) return Status(failure("cannot write"));
  size += bytes.size();
  return okStatus();
}

kj::Promise<Status> PartFile::skip(uint64_t zeros) {
  // The size is the position, so that a later run knows where to go on behind a hole.
  if (ftruncate(fd, size + zeros) != 0) return Status(failure("cannot write"));
  size += zeros;
  return okStatus();
}

kj::Promise<Result<std::string>> PartFile::digest() {
  auto hasher = kj::heap<Hasher>(DigestAlgorithm::XXH3);
  auto promise = digestFrom(*hasher, 0);
  return promise.attach(kj::mv(hasher));
}

kj::Promise<Result<std::string>> PartFile::digestFrom(Hasher& hasher, uint64_t offset) {
  std::vector<char> buffer(1 << 20);
  ssize_t count = readAt(fd, buffer.data(), buffer.size(), offset);
  if (count < 0) return Result<std::string>(failure("cannot read back"));
  if (count == 0) return Result<std::string>(hasher.digest());
  hasher.update({buffer.data(), size_t(count)});
  // The loop gets a turn after each piece.
  return kj::evalLater([this, &hasher, next = offset + count]() { return digestFrom(hasher, next); });
}

Status PartFile::finish(const Entry& entry) {
  if (settings.keepMetadata) {
    Status set = setFileMetadata(fd, place.shown, entry);
    if (!set.ok()) return set;
  }
  Status moved = moveIntoPlace(place, name, settings.overwrite);
  if (moved.ok()) name.clear();
  return moved;
}

void PartFile::discard() {
  if (!name.empty()) unlinkat(*place.folder, name.c_str(), 0);
  name.clear();
  fd = nullptr;
  size = resumed = 0;
  keep = false;
}

Error PartFile::failure(std::string_view doing) const {
  Error error = errorFromErrno(errno, doing, place.shown);
  if (error.code == ErrorCode::NO_SPACE || error.code == ErrorCode::QUOTA) {
    error.message +=
        keep ? "; make room and repeat the command: it goes on where it stopped" : "; make room and repeat the command";
  }
  return error;
}

}  // namespace capstan::client
