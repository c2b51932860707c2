#include <capstan/storage/staged-content.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include <capstan/base/file.h>
#include <capstan/storage/place-file.h>

namespace capstan::storage {

namespace {

constexpr uint64_t WRITE_BACK_BYTES = 8 << 20;
constexpr uint64_t READ_BYTES = 1 << 20;
constexpr uint64_t SLICE_BYTES = 32 << 20;
constexpr uint64_t COPY_SLICE_BYTES = 16 << 20;  // copied from the base in one slice
// A few bytes on the wire can ask for a hole of terabytes. Hashing so many zeros is left to checkStep(), in slices.
constexpr uint64_t MAX_RUNNING_ZEROS = 256 << 20;
constexpr uint64_t SLICE_ZEROS_XXH3 = 128 << 20, SLICE_ZEROS_SHA256 = 16 << 20;
// Larger content is flushed by its own job, so that the committer's thread, which all connections share, need not wait.
constexpr uint64_t GROUP_FLUSH_BYTES = 256 << 10;

std::string_view asView(const kj::Array<kj::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.begin()), bytes.size()};
}

}  // namespace

StagedContent::StagedContent(std::shared_ptr<StagedFile> file) : file(std::move(file)) {}

Status StagedContent::failed(int number) {
  failure = errorFromErrno(number, "cannot store the content");
  return *failure;
}

Result<bool> StagedContent::resumeStep() {
  auto use = file->tryUse();
  if (!use.ok()) return use.error();
  struct stat status;
  if (fstat(file->fd(), &status) < 0) return failed(errno).error();
  position = length = writtenBack = uint64_t(status.st_size);
  return hashStep(running);
}

Result<bool> StagedContent::hashStep(Hasher& hasher) {
  uint64_t end = std::min(position, hashed + SLICE_BYTES);
  std::vector<char> buffer(std::min(READ_BYTES, end - hashed));
  while (hashed < end) {
    off_t data = lseek(file->fd(), off_t(hashed), SEEK_DATA);
    uint64_t next = data >= 0 ? uint64_t(data) : errno == ENXIO ? position : hashed;
    if (next > hashed) {
      uint64_t slice = hasher.algorithm() == DigestAlgorithm::XXH3 ? SLICE_ZEROS_XXH3 : SLICE_ZEROS_SHA256;
      uint64_t hole = std::min(std::min(next, position) - hashed, slice);
      hasher.updateZeros(hole);
      hashed += hole;
      break;
    }
    size_t count = std::min<uint64_t>(buffer.size(), end - hashed);
    ssize_t n = readAt(file->fd(), buffer.data(), count, hashed);
    if (n < 0) return failed(errno).error();
    if (n == 0) return failed(EIO).error();
    hasher.update({buffer.data(), size_t(n)});
    hashed += uint64_t(n);
  }
  return hashed >= position;
}

Result<bool> StagedContent::append(const std::vector<Piece>& pieces, Progress& progress) {
  if (failure) return *failure;
  auto use = file->tryUse();
  if (!use.ok()) {
    failure = use.error();
    return *failure;
  }
  Status status = okStatus();
  uint64_t budget = COPY_SLICE_BYTES;
  while (status.ok() && progress.next < pieces.size() && budget > 0) {
    const Piece& piece = pieces[progress.next];
    status = piece.copyCount > 0 ? copy(piece, progress.copied, budget) : store(piece);
    if (progress.copied < piece.copyCount) continue;
    ++progress.next;
    progress.copied = 0;
  }
  // A hole at the end counts; half a piece, after an error, does not.
  if (length != position || !status.ok()) {
    if (ftruncate(file->fd(), off_t(position)) < 0 && status.ok()) status = failed(errno);
    length = position;
  }
  startWriteBack();
  if (!status.ok()) return status.error();
  return progress.next == pieces.size();
}

Status StagedContent::append(const std::vector<Piece>& pieces) {
  Progress progress;
  while (true) {
    auto done = append(pieces, progress);
    if (!done.ok()) return done.error();
    if (*done) return okStatus();
  }
}

Status StagedContent::store(const Piece& piece) {
  Status status = storeZeros(piece.zeros);
  if (!status.ok() || piece.bytes.size() == 0) return status;
  return storeBytes(asView(piece.bytes));
}

bool StagedContent::tooManyZeros() const { return zeros > MAX_RUNNING_ZEROS; }

Status StagedContent::storeZeros(uint64_t count) {
  if (count > uint64_t(INT64_MAX) - position) return failed(EFBIG);
  if (count == 0) return okStatus();
  position += count;
  zeros = std::min(zeros, MAX_RUNNING_ZEROS + 1) + count;
  if (!tooManyZeros()) running.updateZeros(count);
  return okStatus();
}

Status StagedContent::storeBytes(std::string_view bytes) {
  if (!writeAt(file->fd(), bytes.data(), bytes.size(), position)) return failed(errno);
  position += bytes.size();
  length = position;
  if (!tooManyZeros()) running.update(bytes);
  return okStatus();
}

// So that the flush at the end finds little left to do.
void StagedContent::startWriteBack() {
  if (position - writtenBack < WRITE_BACK_BYTES) return;
  sync_file_range(file->fd(), off_t(writtenBack), off_t(position - writtenBack), SYNC_FILE_RANGE_WRITE);
  writtenBack = position;
}

Result<bool> StagedContent::checkStep(const ContentCheck& expected) {
  if (failure) return *failure;
  auto use = file->tryUse();
  if (!use.ok()) return use.error();
  if (expected.size && *expected.size != position) {
    return Error{ErrorCode::CORRUPT,
                 std::to_string(position) + " bytes arrived where " + std::to_string(*expected.size) +
                     " were announced; the upload is discarded",
                 {}};
  }
  if (expected.algorithm == DigestAlgorithm::UNSET) return true;
  std::string found;
  if (expected.algorithm == DigestAlgorithm::XXH3 && !tooManyZeros()) {
    found = running.digest();
  } else {
    if (!check) {
      check.emplace(expected.algorithm);
      hashed = 0;
    }
    auto done = hashStep(*check);
    if (!done.ok() || !*done) return done;
    found = check->digest();
    check.reset();
  }
  if (found == expected.digest) return true;
  return Error{ErrorCode::CORRUPT, "what arrived is not what its digest announced; the upload is discarded", {}};
}

Result<bool> StagedContent::seal(const Attributes& attributes, Disk& disk) {
  if (failure) return *failure;
  auto use = file->tryUse();
  if (!use.ok()) return use.error();
  Status set = setStagedAttributes(*file, attributes);
  if (!set.ok()) return set.error();
  bool flushed = false;
  if (position > GROUP_FLUSH_BYTES) {
    if (disk.fsync(file->fd()) < 0) return errorFromErrno(errno, "cannot store the content");
    flushed = true;
  }
  file->beginCommit();
  return flushed;
}

void StagedContent::discard() {
  auto use = file->tryUse();
  if (use.ok()) file->discard();
}

}  // namespace capstan::storage
