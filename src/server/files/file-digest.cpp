#include <capstan/server/files/file-digest.h>

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <vector>

#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/server/files/cache.h>
#include <capstan/storage/extents.h>
#include <capstan/storage/version.h>

namespace capstan::server::files {

namespace {

// What one job hashes: some ten milliseconds, so that others get their turn on the pool.
constexpr uint64_t SLICE_BYTES = 16 << 20;
constexpr size_t BUFFER_BYTES = 256 << 10;

// Belongs to one job at a time.
class Digesting {
 public:
  Digesting(FolderState& folder, std::shared_ptr<const OpenFile> file, DigestAlgorithm algorithm)
      : folder(folder), file(std::move(file)), hasher(algorithm) {}

  // The digest, once it is done.
  Result<std::optional<FileDigest>> work() {
    if (!begun) {
      if (auto status = begin(); !status.ok()) return status.error();
    }
    uint64_t sliceEnd = std::min(size, position + SLICE_BYTES);
    while (position < sliceEnd) {
      if (auto status = advance(sliceEnd); !status.ok()) return status.error();
    }
    if (position < size) return std::optional<FileDigest>();
    auto entry = folder.entryOf(file->fd, file->path);
    if (!entry.ok()) return entry.error();
    if (entry->version != version) return changed();
    return std::optional<FileDigest>(FileDigest{hasher.digest(), std::move(*entry)});
  }

 private:
  FolderState& folder;
  const std::shared_ptr<const OpenFile> file;
  Hasher hasher;
  bool begun = false;
  Version version;
  uint64_t size = 0;
  uint64_t position = 0;
  uint64_t dataEnd = 0;  // up to here there is no hole
  uint64_t holeEnd = 0;  // up to here there is nothing else
  std::vector<char> buffer;

  Error changed() const {
    return errorAt(ErrorCode::CHANGED, file->path, "", " changed while it was being read; try again");
  }

  Status begin() {
    begun = true;
    struct stat status;
    if (fstat(file->fd, &status) < 0) return errorFromErrno(errno, "cannot look at", file->path);
    version = versionOf(status);
    size = uint64_t(status.st_size);
    if (auto held = folder.cache->find(status)) {
      hasher.update(held->view());
      position = size;
      return okStatus();
    }
    dataEnd = mayHaveHoles(status) ? 0 : size;
    posix_fadvise(file->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    buffer.resize(size_t(std::min<uint64_t>(size, BUFFER_BYTES)));
    return okStatus();
  }

  Status advance(uint64_t end) {
    if (position < holeEnd) {
      // A hole may be longer than any file that could be read: it goes in slices like data.
      uint64_t part = std::min(end, holeEnd) - position;
      hasher.updateZeros(part);
      position += part;
      return okStatus();
    }
    if (position >= dataEnd) {
      Extent extent = extentAt(file->fd, position, size);
      dataEnd = extent.dataEnd;
      holeEnd = position + extent.hole;
      return okStatus();
    }
    size_t part = size_t(std::min<uint64_t>(std::min(end, dataEnd) - position, buffer.size()));
    ssize_t got = readAt(file->fd, buffer.data(), part, position);
    if (got < 0) return errorFromErrno(errno, "cannot read", file->path);
    if (size_t(got) < part) return changed();
    hasher.update({buffer.data(), part});
    position += part;
    return okStatus();
  }
};

kj::Promise<Result<FileDigest>> goOn(FolderState& folder, ConnectionScope& scope,
                                     std::shared_ptr<Digesting> digesting) {
  return folder.run(scope, [digesting]() { return digesting->work(); })
      .then([&folder, &scope, digesting](Result<std::optional<FileDigest>> done) -> kj::Promise<Result<FileDigest>> {
        if (!done.ok()) return Result<FileDigest>(std::move(done.error()));
        if (!done->has_value()) return goOn(folder, scope, digesting);
        return Result<FileDigest>(std::move(**done));
      });
}

}  // namespace

kj::Promise<Result<FileDigest>> digestFile(FolderState& folder, ConnectionScope& scope,
                                           std::shared_ptr<const OpenFile> file, DigestAlgorithm algorithm) {
  return goOn(folder, scope, std::make_shared<Digesting>(folder, std::move(file), algorithm));
}

}  // namespace capstan::server::files
