// Content that an upload takes from the version before: shared blocks where the file system can, else copied, and
// hashed on the way in any case, so that the commit needs no second look at it.
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include <capstan/base/file.h>
#include <capstan/storage/extents.h>
#include <capstan/storage/staged-content.h>
#include <capstan/storage/version.h>

namespace capstan::storage {

namespace {

constexpr uint64_t BUFFER_BYTES = 1 << 20;
constexpr uint64_t BLOCK_BYTES = 4096;  // what shared ranges are aligned to, on the file systems that have them

Error changed() {
  return {ErrorCode::CONFLICT, "the file that the upload is based on was changed meanwhile; look at it again", {}};
}

// So much of the data that what is left begins with a block, which may be shared.
uint64_t withinBudget(uint64_t from, uint64_t count, uint64_t budget) {
  if (count <= budget) return count;
  uint64_t tail = (from + budget) % BLOCK_BYTES;
  return budget > tail ? budget - tail : budget;
}

}  // namespace

void StagedContent::setBase(kj::AutoCloseFd fd, Version version) {
  base = kj::mv(fd);
  baseVersion = std::move(version);
}

// Whether it is still the same, and reaches that far.
Status StagedContent::checkBase(uint64_t end) {
  struct stat status;
  if (fstat(base, &status) < 0) return failed(errno);
  if (versionOf(status) != baseVersion) return failure.emplace(changed());
  if (end <= uint64_t(status.st_size)) return okStatus();
  return failure.emplace(Error{ErrorCode::INVALID_ARGUMENT, "the range to be copied is not within the base file", {}});
}

// As much as the budget allows of what is not copied yet.
Status StagedContent::copy(const Piece& piece, uint64_t& copied, uint64_t& budget) {
  uint64_t end;
  if (base.get() < 0) {
    return failure.emplace(Error{ErrorCode::INVALID_ARGUMENT, "the upload has no base to copy from", {}});
  }
  if (__builtin_add_overflow(piece.copyFrom, piece.copyCount, &end)) end = UINT64_MAX;
  Status same = checkBase(end);
  if (!same.ok()) return same;
  uint64_t from = piece.copyFrom + copied;
  while (from < end && budget > 0) {
    Extent extent = extentAt(base, from, end);
    Status status = storeZeros(extent.hole);
    if (!status.ok()) return status;
    from += extent.hole;
    uint64_t data = extent.dataEnd > from ? extent.dataEnd - from : 0;
    uint64_t count = withinBudget(from, data, budget);
    if (count > 0) status = copyData(from, count);
    if (!status.ok()) return status;
    from += count;
    budget -= std::min(budget, std::max<uint64_t>(count, 1));
  }
  copied = from - piece.copyFrom;
  return checkBase(end);
}

Status StagedContent::copyData(uint64_t from, uint64_t count) {
  std::vector<char> buffer(std::min(count, BUFFER_BYTES));
  uint64_t shared = 0;  // bytes of it that are in the file already
  uint64_t whole = count / BLOCK_BYTES * BLOCK_BYTES;
  if (whole > 0 && share(from, whole)) shared = whole;
  for (uint64_t done = 0; done < count;) {
    uint64_t limit = done < shared ? shared : count;
    ssize_t n = readAt(base, buffer.data(), std::min<uint64_t>(buffer.size(), limit - done), from + done);
    if (n < 0) return failed(errno);
    if (n == 0) return failure.emplace(changed());
    std::string_view bytes(buffer.data(), size_t(n));
    if (done < shared) {
      if (!tooManyZeros()) running.update(bytes);
      position += bytes.size();
      length = position;
    } else {
      Status status = storeBytes(bytes);
      if (!status.ok()) return status;
    }
    done += uint64_t(n);
  }
  return okStatus();
}

bool StagedContent::share(uint64_t from, uint64_t count) {
  if (!shares || from % BLOCK_BYTES != 0 || position % BLOCK_BYTES != 0) return false;
  file_clone_range range{base.get(), from, count, position};
  if (ioctl(file->fd(), FICLONERANGE, &range) == 0) return true;
  shares = errno == EINVAL;  // for this range only; else never
  return false;
}

}  // namespace capstan::storage
