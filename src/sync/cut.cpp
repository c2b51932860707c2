#include <capstan/sync/cut.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <unordered_map>

#include <sys/stat.h>

#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/storage/extents.h>

namespace capstan::sync {

namespace {

// Read at once; stays in the processor's cache until all of it is hashed.
constexpr size_t READ_BYTES = 512 << 10;

struct ChunkHash {
  size_t operator()(const Chunk& chunk) const { return size_t(chunk.low); }
};

Error changed(const std::string& path) {
  return errorAt(ErrorCode::CHANGED, path, "", " changes while it is read; it is left for the next time");
}

// A window that goes over the content from its beginning to its end. Holes are zeros that nobody reads.
class Window {
 public:
  Window(int fd, uint64_t size, const std::string& path, const std::atomic<bool>* cancelled)
      : fd(fd), size(size), path(path), cancelled(cancelled), buffer(new char[CAPACITY]) {
    struct stat status;
    sparse = fstat(fd, &status) == 0 && storage::mayHaveHoles(status);
    dataEnd = sparse ? 0 : size;
  }

  uint64_t position() const { return begin; }
  bool atEnd() const { return begin == size; }
  // What follows the position: at least `wanted` bytes, or all up to the end. `wanted` is at most MAX_CHUNK_BYTES.
  std::string_view bytes() const { return {buffer.get() + at, filled - at}; }
  bool reachesEnd() const { return begin + (filled - at) == size; }

  Status fill(size_t wanted) {
    if (filled - at >= wanted || reachesEnd()) return okStatus();
    if (cancelled != nullptr && cancelled->load(std::memory_order_relaxed)) {
      return Error{ErrorCode::CANCELLED, "reading was cancelled", path};
    }
    memmove(buffer.get(), buffer.get() + at, filled - at);
    filled -= at;
    at = 0;
    while (filled < wanted && !reachesEnd()) {
      Status status = readMore();
      if (!status.ok()) return status;
    }
    return okStatus();
  }

  void advance(size_t count) {
    at += count;
    begin += count;
  }

  // Of what was passed and what is in the window: all that was read up to now, for a digest of the whole.
  std::string takeDigest() { return hasher.digest(); }

 private:
  static constexpr size_t CAPACITY = READ_BYTES + MAX_CHUNK_BYTES;

  Status readMore() {
    uint64_t from = begin + filled;
    if (from >= dataEnd && from >= holeEnd) {
      auto extent = storage::extentAt(fd, from, size);
      holeEnd = from + extent.hole;
      dataEnd = extent.dataEnd;
    }
    bool isHole = from < holeEnd;
    uint64_t stretchEnd = isHole ? holeEnd : dataEnd;
    size_t count = size_t(std::min<uint64_t>(stretchEnd - from, CAPACITY - filled));
    char* to = buffer.get() + filled;
    if (isHole) {
      memset(to, 0, count);
      hasher.updateZeros(count);
    } else {
      ssize_t got = readAt(fd, to, count, from);
      if (got < 0) return errorFromErrno(errno, "cannot read", path);
      if (size_t(got) != count) return changed(path);
      hasher.update({to, count});
    }
    filled += count;
    return okStatus();
  }

  const int fd;
  const uint64_t size;
  const std::string& path;
  const std::atomic<bool>* cancelled;
  std::unique_ptr<char[]> buffer;
  size_t at = 0;       // of the position in the buffer
  size_t filled = 0;   // bytes in the buffer
  uint64_t begin = 0;  // the position in the content
  bool sparse = false;
  uint64_t holeEnd = 0, dataEnd = 0;  // of the stretch that is known
  Hasher hasher{DigestAlgorithm::XXH3};
};

class Cutter {
 public:
  Cutter(Window& window, const std::vector<Chunk>& known) : window(window), known(known) {}

  Status run(std::vector<Chunk>& chunks) {
    while (!window.atEnd()) {
      Status status = window.fill(MAX_CHUNK_BYTES);
      if (!status.ok()) return status;
      Chunk chunk = takeNext();
      window.advance(chunk.length);
      chunks.push_back(chunk);
    }
    return okStatus();
  }

 private:
  Chunk takeNext() {
    if (next < known.size()) {
      const Chunk& expected = known[next];
      if (mayBe(expected) && chunkOf(window.bytes().substr(0, expected.length)) == expected) {
        ++next;
        return expected;
      }
    }
    Chunk chunk = chunkOf(window.bytes().substr(0, chunkLength(window.bytes())));
    next = followerOf(chunk);
    return chunk;
  }

  // Where a chunk ends depends on nothing but its own bytes, unless the content ended there: the last one that is known
  // is a chunk at the end only.
  bool mayBe(const Chunk& expected) const {
    size_t available = window.bytes().size();
    if (expected.length == 0 || expected.length > available) return false;
    return next + 1 < known.size() || (window.reachesEnd() && expected.length == available);
  }

  // The place behind the known chunk that this one is; that nearest to where it went out of step, for content with
  // repetitions.
  size_t followerOf(const Chunk& chunk) {
    if (known.empty()) return 0;
    if (places.empty()) {
      places.reserve(known.size());
      for (size_t i = known.size(); i-- > 0;) places[known[i]] = i;
    }
    if (next < known.size() && known[next] == chunk) return next + 1;
    auto found = places.find(chunk);
    return found == places.end() ? known.size() : found->second + 1;
  }

  Window& window;
  const std::vector<Chunk>& known;
  size_t next = 0;                                      // of known, expected at the position
  std::unordered_map<Chunk, size_t, ChunkHash> places;  // made at the first difference
};

}  // namespace

Result<Content::Cut> cutFile(int fd, uint64_t size, const std::vector<Chunk>& known, const std::string& path,
                             const std::atomic<bool>* cancelled) {
  Content::Cut cut;
  cut.chunks.reserve(known.empty() ? size / MEAN_CHUNK_BYTES + 1 : known.size() + 16);
  Window window(fd, size, path, cancelled);
  Status status = Cutter(window, known).run(cut.chunks);
  if (!status.ok()) return status.error();
  cut.digest = window.takeDigest();
  return cut;
}

Result<std::string> digestOfFile(int fd, uint64_t size, const std::string& path, const std::atomic<bool>* cancelled) {
  Window window(fd, size, path, cancelled);
  while (!window.atEnd()) {
    Status status = window.fill(1);
    if (!status.ok()) return status.error();
    window.advance(window.bytes().size());
  }
  return window.takeDigest();
}

}  // namespace capstan::sync
