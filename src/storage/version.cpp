#include <capstan/storage/version.h>

#include <time.h>

#include <array>
#include <cstring>

#include <xxhash.h>

#include <capstan/base/file.h>

namespace capstan::storage {

namespace {

// The clock that the kernel stamps files with moves at most 10 ms at a time (HZ=100).
constexpr int64_t CLOCK_TICK = 50'000'000;
// File systems that keep whole seconds only (ext3, HFS+), or two seconds (FAT).
constexpr int64_t COARSE_TICK = 2'100'000'000;

EntryType typeFrom(mode_t mode) {
  if (S_ISREG(mode)) return EntryType::FILE;
  if (S_ISDIR(mode)) return EntryType::DIRECTORY;
  if (S_ISLNK(mode)) return EntryType::SYMLINK;
  return EntryType::OTHER;
}

template <size_t COUNT>
Version hashOf(const std::array<uint64_t, COUNT>& words) {
  // Hosts of another byte order see other versions, which costs them a comparison of content and nothing else.
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(words.data(), sizeof(words)));
  return Version(reinterpret_cast<const char*>(canonical.digest), sizeof(canonical.digest));
}

}  // namespace

Entry entryFrom(const struct stat& status) {
  Entry entry;
  entry.type = typeFrom(status.st_mode);
  bool sized = entry.type == EntryType::FILE || entry.type == EntryType::SYMLINK;
  entry.size = sized ? uint64_t(status.st_size) : 0;
  entry.mtime = toNanoseconds(status.st_mtim);
  entry.mode = status.st_mode & 07777;
  entry.version = versionOf(status);
  entry.identity = inodeIdentity(status);
  return entry;
}

uint64_t inodeIdentity(const struct stat& status) {
  uint64_t identity = status.st_ino ^ (uint64_t(status.st_dev) * 0x9E3779B97F4A7C15);
  return identity == 0 ? 1 : identity;
}

Version versionOf(const struct stat& status) {
  return hashOf(std::array<uint64_t, 5>{status.st_ino, status.st_mode, uint64_t(status.st_size),
                                        uint64_t(toNanoseconds(status.st_mtim)),
                                        uint64_t(toNanoseconds(status.st_ctim))});
}

Version identityOf(const struct stat& status) {
  return hashOf(std::array<uint64_t, 4>{status.st_ino, status.st_mode, uint64_t(status.st_size),
                                        uint64_t(toNanoseconds(status.st_mtim))});
}

bool isSettled(const struct stat& status) {
  // The clock that file systems read, so that both sides of the comparison lag alike.
  timespec now;
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  int64_t age = toNanoseconds(now) - toNanoseconds(status.st_ctim);
  bool coarse = status.st_ctim.tv_nsec == 0 && status.st_mtim.tv_nsec == 0;
  return age > (coarse ? COARSE_TICK : CLOCK_TICK);
}

Status checkExpectation(const Expectation& expectation, const std::optional<struct stat>& found,
                        const std::string& path) {
  switch (expectation.kind) {
    case Expectation::Kind::ANY: return okStatus();
    case Expectation::Kind::ABSENT:
      if (!found) return okStatus();
      return errorAt(ErrorCode::EXISTS, path, "", " is there already");
    case Expectation::Kind::VERSION:
      if (!found) return errorAt(ErrorCode::NOT_FOUND, path, "", " is not there any more");
      if (versionOf(*found) == expectation.version) return okStatus();
      return errorAt(ErrorCode::CONFLICT, path, "", " was changed meanwhile; look at it again before changing it");
    case Expectation::Kind::IDENTITY:
      if (!found) return errorAt(ErrorCode::NOT_FOUND, path, "", " is not there any more");
      if (inodeIdentity(*found) == expectation.identity) return okStatus();
      return errorAt(ErrorCode::CONFLICT, path, "", " is something else by now; look at it again before changing it");
  }
  return Error{ErrorCode::INVALID_ARGUMENT, "an expectation of an unknown kind", path};
}

}  // namespace capstan::storage
