#include <capstan/storage/file-copy.h>

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include <capstan/base/file.h>

namespace capstan::storage {

namespace {

constexpr uint64_t SLICE_BYTES = 16 << 20;
constexpr uint64_t BUFFER_BYTES = 1 << 20;

}  // namespace

FileCopy::FileCopy(kj::AutoCloseFd from, kj::AutoCloseFd to, std::string path)
    : source(kj::mv(from)), target(kj::mv(to)), path(std::move(path)) {}

Error FileCopy::failed() const { return errorFromErrno(errno, "cannot copy", path); }

Result<bool> FileCopy::step() {
  if (!begun) {
    begun = true;
    if (ioctl(target, FICLONE, source.get()) == 0) return true;
    struct stat status;
    if (fstat(source, &status) < 0) return failed();
    size = uint64_t(status.st_size);
    if (ftruncate(target, status.st_size) < 0) return failed();  // a hole at the end counts
  }
  if (position >= size) return true;
  if (position >= dataEnd) {
    off_t data = lseek(source, off_t(position), SEEK_DATA);
    if (data < 0 && errno == ENXIO) return true;  // nothing but a hole up to the end
    off_t hole = data < 0 ? -1 : lseek(source, data, SEEK_HOLE);
    bool known = hole >= 0;  // else the file system cannot tell holes
    position = known ? std::max(position, uint64_t(data)) : position;
    dataEnd = known ? std::min(uint64_t(hole), size) : size;
    if (position >= size) return true;
  }
  return copyRange(std::min(dataEnd, position + SLICE_BYTES));
}

Result<bool> FileCopy::copyRange(uint64_t end) {
  while (position < end) {
    if (byHand) return copyByHand(end - position);
    off_t in = off_t(position), out = off_t(position);
    ssize_t n = copy_file_range(source, &in, target, &out, end - position, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS)) {
      byHand = true;
      continue;
    }
    if (n < 0) return failed();
    if (n == 0) {  // shorter than it was; or a file of /proc's kind, which only read() understands
      byHand = true;
      continue;
    }
    position += uint64_t(n);
  }
  return position >= size;
}

Result<bool> FileCopy::copyByHand(uint64_t count) {
  std::vector<char> buffer(std::min(count, BUFFER_BYTES));
  uint64_t end = position + count;
  while (position < end) {
    ssize_t n = readAt(source, buffer.data(), std::min<uint64_t>(buffer.size(), end - position), position);
    if (n < 0) return failed();
    if (n == 0) {
      if (ftruncate(target, off_t(position)) < 0) return failed();
      return true;
    }
    if (!writeAt(target, buffer.data(), size_t(n), position)) return failed();
    position += uint64_t(n);
  }
  return position >= size;
}

}  // namespace capstan::storage
