#include <capstan/client/local-source.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include <capstan/base/file.h>

namespace capstan::client {

Result<LocalSource> LocalSource::open(int folder, const std::string& relative, const std::string& shown, bool follow) {
  // O_NONBLOCK: opening a pipe must not wait for its writer.
  int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | (follow ? 0 : O_NOFOLLOW);
  int opened = openat(folder, relative.c_str(), flags);
  if (opened < 0) return errorFromErrno(errno, "cannot read", shown);
  LocalSource source;
  source.fd = kj::AutoCloseFd(opened);
  source.shown = shown;
  struct stat stat;
  if (fstat(opened, &stat) != 0) return errorFromErrno(errno, "cannot read", shown);
  if (S_ISDIR(stat.st_mode)) {
    return errorAt(ErrorCode::IS_DIRECTORY, shown, "", " is a folder; use -r to send it with all that is in it");
  }
  if (!S_ISREG(stat.st_mode)) {
    return errorAt(ErrorCode::UNSUPPORTED, shown, "",
                   " is no file, folder or symlink: devices, sockets and pipes are not transferred");
  }
  source.bytes = stat.st_size;
  if (stat.st_size == 0) {
    Status gathered = source.gather();
    if (!gathered.ok()) return gathered.error();
  }
  source.metadata = {uint32_t(stat.st_mode & 07777), toNanoseconds(stat.st_mtim)};
  source.changeTime = toNanoseconds(stat.st_ctim);
  source.device = stat.st_dev;
  source.inode = stat.st_ino;
  return source;
}

// Files of /proc say that they are empty, and are not; what they hold may be another thing at each reading.
Status LocalSource::gather() {
  constexpr size_t STEP = 64 << 10;
  constexpr size_t LARGEST = 64 << 20;
  std::string content;
  for (;;) {
    size_t have = content.size();
    content.resize(have + STEP);
    ssize_t count = readAt(fd, content.data() + have, STEP, have);
    if (count < 0) return errorFromErrno(errno, "cannot read", shown);
    content.resize(have + count);
    if (count == 0) break;
    if (content.size() > LARGEST)
      return errorAt(ErrorCode::TOO_LARGE, shown, "", " does not tell its size, and has more than 64 MiB");
  }
  bytes = content.size();
  if (bytes != 0) gathered = std::move(content);
  return okStatus();
}

LocalSource::Piece LocalSource::pieceAt(uint64_t position) {
  if (gathered) return {bytes - position, false};
  if (position >= dataBegin && position < dataEnd) return {dataEnd - position, false};
  off_t data = lseek(fd, position, SEEK_DATA);
  if (data < 0) {
    // ENXIO: nothing but a hole up to the end.
    return {bytes - position, errno == ENXIO};
  }
  if (uint64_t(data) > position) return {std::min<uint64_t>(data, bytes) - position, true};
  off_t hole = lseek(fd, position, SEEK_HOLE);
  uint64_t end = hole < 0 || uint64_t(hole) <= position ? bytes : std::min<uint64_t>(hole, bytes);
  dataBegin = position;
  dataEnd = end;
  return {end - position, false};
}

Status LocalSource::read(void* buffer, uint64_t size, uint64_t position) const {
  if (gathered) {
    if (size > bytes || position > bytes - size) return changed();
    memcpy(buffer, gathered->data() + position, size);
    return okStatus();
  }
  ssize_t count = readAt(fd, buffer, size, position);
  if (count < 0) return errorFromErrno(errno, "cannot read", shown);
  if (uint64_t(count) != size) return changed();
  return okStatus();
}

Status LocalSource::hash(Hasher& hasher, uint64_t from, uint64_t to) {
  std::vector<char> buffer;
  while (from < to) {
    Piece piece = pieceAt(from);
    uint64_t length = std::min(piece.length, to - from);
    if (piece.hole) {
      hasher.updateZeros(length);
    } else {
      length = std::min<uint64_t>(length, 1 << 20);
      buffer.resize(length);
      Status status = read(buffer.data(), length, from);
      if (!status.ok()) return status;
      hasher.update({buffer.data(), length});
    }
    from += length;
  }
  return okStatus();
}

Status LocalSource::checkUnchanged() const {
  if (gathered) return okStatus();
  struct stat stat;
  if (fstat(fd, &stat) != 0) return errorFromErrno(errno, "cannot read", shown);
  // Not the time of the last status change: a new name or link of the file is no new content.
  bool same = uint64_t(stat.st_size) == bytes && toNanoseconds(stat.st_mtim) == *metadata.mtime;
  if (!same) return changed();
  return okStatus();
}

std::string LocalSource::resumeKey(std::string_view remotePath, std::string_view salt) const {
  Hasher hasher(DigestAlgorithm::SHA256);
  for (uint64_t field : {device, inode, bytes, uint64_t(*metadata.mtime), uint64_t(changeTime)}) {
    hasher.update({reinterpret_cast<const char*>(&field), sizeof(field)});
  }
  hasher.update(salt);
  hasher.update(std::string_view("\0", 1));
  hasher.update(remotePath);
  return hasher.digest();
}

Error LocalSource::changed() const {
  return errorAt(ErrorCode::CHANGED, shown, "", " changes while it is being sent; try again when nothing writes to it");
}

}  // namespace capstan::client
