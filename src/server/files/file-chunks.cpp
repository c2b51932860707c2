#include <capstan/server/files/file-chunks.h>

#include <cerrno>
#include <cstring>

#include <capstan/base/file.h>
#include <capstan/storage/version.h>

namespace capstan::server::files {

namespace {

constexpr uint64_t PAGE_BYTES = 64 << 20;
constexpr size_t BUFFER_BYTES = 1 << 20;
static_assert(BUFFER_BYTES >= 2 * MAX_CHUNK_BYTES);

}  // namespace

Result<ChunkPage> readChunks(const OpenFile& file, uint64_t offset, uint32_t max) {
  auto failed = [&]() { return errorFromErrno(errno, "cannot read", file.path); };
  struct stat before, after;
  if (fstat(file.fd, &before) < 0) return failed();
  uint64_t size = uint64_t(before.st_size);
  if (offset > size) {
    return errorAt(ErrorCode::INVALID_ARGUMENT, file.path, "no chunk of ", " begins behind its end");
  }
  ChunkPage page;
  uint64_t end = std::min(size, offset + PAGE_BYTES + MAX_CHUNK_BYTES);
  std::vector<char> buffer(BUFFER_BYTES);
  size_t filled = 0;           // bytes in the buffer,
  size_t used = 0;             // and of them in chunks already
  uint64_t position = offset;  // of the buffer's end
  uint64_t total = 0;
  while (page.chunks.size() < max && total < PAGE_BYTES) {
    if (filled - used < MAX_CHUNK_BYTES && position < end) {
      memmove(buffer.data(), buffer.data() + used, filled - used);
      filled -= std::exchange(used, 0);
      size_t count = size_t(std::min<uint64_t>(buffer.size() - filled, end - position));
      ssize_t n = readAt(file.fd, buffer.data() + filled, count, position);
      if (n < 0) return failed();
      if (n == 0) break;  // shorter than it was
      filled += size_t(n);
      position += uint64_t(n);
      continue;
    }
    if (filled == used) break;
    std::string_view rest(buffer.data() + used, filled - used);
    size_t length = chunkLength(rest);
    page.chunks.push_back(chunkOf(rest.substr(0, length)));
    used += length;
    total += length;
  }
  page.atEnd = offset + total == size;
  if (fstat(file.fd, &after) < 0) return failed();
  if (storage::versionOf(after) != storage::versionOf(before)) {
    return errorAt(ErrorCode::CHANGED, file.path, "", " changed while it was being read; begin again");
  }
  page.entry = entryFrom(after);
  page.entry.path = file.path;
  return page;
}

}  // namespace capstan::server::files
