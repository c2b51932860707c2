#include <capstan/server/files/listing.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include <capstan/base/digest.h>
#include <capstan/base/path.h>
#include <capstan/server/files/cache.h>
#include <capstan/server/files/served-folder.h>
#include <capstan/storage/version.h>

namespace capstan::server::files {

namespace {

constexpr char CURSOR_FORMAT = 1;
constexpr size_t LISTING_BYTES = 8;
constexpr size_t PAGE_BYTES = 512 << 10;
constexpr size_t ENTRY_BYTES = 128;  // in the message, besides path and target
constexpr size_t REMEMBERED_LISTINGS = 256;
// Folders above these are closed meanwhile, and opened again when the listing comes back to them.
constexpr size_t OPEN_FOLDERS = 32;

// One page in the making: a walk through the tree in pre-order, begun after the last path of the page before.
class Pager {
 public:
  Pager(const Root& root, const Cache& cache, const ListRequest& request,
        std::vector<std::shared_ptr<const Names>> snapshots)
      : root(root), cache(cache), request(request), snapshots(std::move(snapshots)) {
    limit = request.maxEntries == 0 ? MAX_LIST_ENTRIES : std::min(request.maxEntries, MAX_LIST_ENTRIES);
  }

  Result<ListPage> run(std::string_view last) {
    auto opened = root.open(request.path, O_RDONLY | O_DIRECTORY, Follow::NO);
    if (!opened.ok()) return opened.error();
    if (auto status = enter("", std::move(*opened)); !status.ok()) return status.error();
    if (auto status = skipTo(last); !status.ok()) return status.error();
    // A page with nothing but errors would have no place to go on from.
    auto isFull = [this] { return !page.entries.empty() && (page.entries.size() >= limit || bytes >= PAGE_BYTES); };
    while (!levels.empty() && !isFull()) {
      if (auto status = step(); !status.ok()) return status.error();
    }
    while (!levels.empty() && levels.back().next == levels.back().names->size()) levels.pop_back();
    page.atEnd = levels.empty();
    return std::move(page);
  }

  // The folders in which the walk stands.
  std::vector<std::shared_ptr<const Names>> standing() const {
    std::vector<std::shared_ptr<const Names>> result;
    for (auto& level : levels) result.push_back(level.names);
    return result;
  }

 private:
  struct Level {
    std::string path;  // relative to the listed folder
    kj::AutoCloseFd folder;
    std::shared_ptr<const Names> names;
    size_t next = 0;
  };

  const Root& root;
  const Cache& cache;
  const ListRequest& request;
  const std::vector<std::shared_ptr<const Names>> snapshots;
  size_t limit;
  std::vector<Level> levels;
  ListPage page;
  size_t bytes = 0;

  std::string fullPath(std::string_view path) const { return joinPath(request.path, path); }

  Status enter(std::string path, kj::AutoCloseFd folder) {
    struct stat status;
    if (fstat(folder, &status) < 0) return errorFromErrno(errno, "cannot list", fullPath(path));
    auto known =
        std::find_if(snapshots.begin(), snapshots.end(), [&](auto& names) { return names->folder() == idOf(status); });
    std::shared_ptr<const Names> names;
    if (known != snapshots.end()) {
      names = *known;
    } else {
      auto read = Names::read(folder, fullPath(path));
      if (!read.ok()) return read.error();
      names = std::make_shared<const Names>(std::move(*read));
    }
    if (levels.size() >= OPEN_FOLDERS) levels[levels.size() - OPEN_FOLDERS].folder = nullptr;
    levels.push_back({std::move(path), kj::mv(folder), std::move(names), 0});
    return okStatus();
  }

  // Goes to behind the path that was answered last. What is gone of it makes no difference: names are sorted.
  Status skipTo(std::string_view last) {
    for (std::string_view name : splitPath(last)) {
      Level& level = levels.back();
      level.next = level.names->lowerBound(name);
      bool found = level.next < level.names->size() && (*level.names)[level.next] == name;
      if (found) ++level.next;
      if (!request.recursive) return okStatus();
      size_t depth = levels.size();
      if (auto status = descend(std::string(name)); !status.ok()) return status;
      if (levels.size() == depth) return okStatus();
    }
    return okStatus();
  }

  Status step() {
    Level& level = levels.back();
    if (level.next == level.names->size()) {
      levels.pop_back();
      return okStatus();
    }
    std::string name((*level.names)[level.next++]);
    auto folder = folderOf(level);
    if (!folder.ok()) return folder.error();
    if (*folder < 0) {
      levels.pop_back();
      return okStatus();
    }
    struct stat status;
    if (fstatat(*folder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) return missed(name);
    std::string path = joinPath(level.path, name);
    if (root.isState(status)) return okStatus();
    // Nobody can ask for a longer path.
    if (fullPath(path).size() > MAX_PATH_BYTES) return okStatus();
    if (auto added = add(*folder, name, path, status); !added.ok()) return added.error();
    if (request.recursive && S_ISDIR(status.st_mode)) return descend(std::move(name));
    return okStatus();
  }

  // The level's folder, opened again if it was closed; -1 if it is not there any more.
  Result<int> folderOf(Level& level) {
    if (level.folder.get() >= 0) return level.folder.get();
    auto opened = root.open(fullPath(level.path), O_RDONLY | O_DIRECTORY, Follow::NO);
    if (!opened.ok()) {
      ErrorCode code = opened.error().code;
      if (code == ErrorCode::NOT_FOUND || code == ErrorCode::NOT_DIRECTORY) return -1;
      if (levels.size() == 1 || !leaveOut(opened.error())) return opened.error();
      return -1;
    }
    level.folder = std::move(*opened);
    return level.folder.get();
  }

  // A name that fstatat cannot tell of. What is gone is left out; a folder whose entries may not be looked at is as one
  // that may not be read; anything else must not look as if there was nothing.
  Status missed(const std::string& name) {
    if (errno == ENOENT) return okStatus();
    if (errno == EACCES && levels.size() > 1) {
      leaveOut(errorFromErrno(errno, "cannot look into", fullPath(levels.back().path)));
      levels.pop_back();
      return okStatus();
    }
    return errorFromErrno(errno, "cannot look at", fullPath(joinPath(levels.back().path, name)));
  }

  // Tells of a folder of whose entries nothing is known; false: the error is not the folder's own.
  bool leaveOut(const Error& error) {
    if (error.code != ErrorCode::DENIED && error.code != ErrorCode::IO) return false;
    bytes += ENTRY_BYTES + error.path.size() + error.message.size();
    page.unread.push_back(error);
    return true;
  }

  Status add(int folder, const std::string& name, const std::string& path, const struct stat& status) {
    Entry entry = entryFrom(status);
    entry.path = fullPath(path);
    if (entry.type == EntryType::FILE) entry.cached = cache.holds(idOf(status), entry.version);
    if (entry.type == EntryType::SYMLINK) {
      char target[MAX_PATH_BYTES];
      ssize_t size = readlinkat(folder, name.c_str(), target, sizeof(target));
      // Gone, or no symlink any more.
      if (size < 0 && (errno == ENOENT || errno == EINVAL)) return okStatus();
      if (size < 0) return errorFromErrno(errno, "cannot look at", entry.path);
      entry.target.assign(target, size_t(size));
    }
    bytes += ENTRY_BYTES + entry.path.size() + entry.target.size();
    page.cursor = path;
    page.entries.push_back(std::move(entry));
    return okStatus();
  }

  // Enters a folder below the last level, if it is one and may be read.
  Status descend(std::string name) {
    Level& level = levels.back();
    std::string path = joinPath(level.path, name);
    auto parent = folderOf(level);
    if (!parent.ok()) return parent.error();
    if (*parent < 0) return okStatus();
    kj::AutoCloseFd folder(openat(*parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (folder.get() < 0) {
      bool isGone = errno == ENOENT || errno == ENOTDIR || errno == ELOOP;
      if (isGone) return okStatus();
      Error error = errorFromErrno(errno, "cannot list", fullPath(path));
      return leaveOut(error) ? okStatus() : Status(std::move(error));
    }
    struct stat status;
    if (fstat(folder, &status) < 0) return errorFromErrno(errno, "cannot list", fullPath(path));
    if (root.isState(status)) return okStatus();
    auto entered = enter(std::move(path), kj::mv(folder));
    return entered.ok() || leaveOut(entered.error()) ? okStatus() : entered;
  }
};

}  // namespace

std::string ListCursor::encode() const { return CURSOR_FORMAT + listing + last; }

Result<ListCursor> ListCursor::decode(std::string_view bytes) {
  bool shaped = bytes.size() > 1 + LISTING_BYTES && bytes[0] == CURSOR_FORMAT;
  if (shaped) {
    ListCursor cursor{std::string(bytes.substr(1, LISTING_BYTES)), std::string(bytes.substr(1 + LISTING_BYTES))};
    if (validatePath(cursor.last).ok()) return cursor;
  }
  return Error{ErrorCode::INVALID_ARGUMENT, "the cursor is none that a listing answered; begin with an empty one", {}};
}

Listings::Listings(const Root& root, const Cache& cache, size_t memoryLimit)
    : root(root), cache(cache), memoryLimit(memoryLimit) {}

Result<ListPage> Listings::page(const Root& tree, std::string_view space, const ListRequest& request) {
  ListCursor cursor;
  if (request.cursor.empty()) {
    cursor.listing = randomBytes(LISTING_BYTES);
  } else {
    auto decoded = ListCursor::decode(request.cursor);
    if (!decoded.ok()) return decoded.error();
    cursor = std::move(*decoded);
  }
  std::string key = cursor.listing + std::string(space);
  Pager pager(tree, cache, request, recall(key));
  auto page = pager.run(cursor.last);
  if (!page.ok()) return page;
  if (page->atEnd) {
    forget(key);
    page->cursor.clear();
  } else {
    remember(key, pager.standing());
    cursor.last = std::move(page->cursor);
    page->cursor = cursor.encode();
  }
  return page;
}

size_t Listings::memory() const {
  std::lock_guard lock(mutex);
  return rememberedBytes;
}

Listings::Snapshots Listings::recall(const std::string& listing) const {
  std::lock_guard lock(mutex);
  auto found = std::find_if(remembered.begin(), remembered.end(), [&](auto& one) { return one.listing == listing; });
  return found == remembered.end() ? Snapshots() : found->folders;
}

void Listings::forget(const std::string& listing) {
  std::lock_guard lock(mutex);
  auto found = std::find_if(remembered.begin(), remembered.end(), [&](auto& one) { return one.listing == listing; });
  if (found == remembered.end()) return;
  rememberedBytes -= found->bytes;
  remembered.erase(found);
}

void Listings::remember(const std::string& listing, Snapshots folders) {
  forget(listing);
  size_t bytes = 0;
  for (auto& names : folders) bytes += names->memory();
  if (bytes > memoryLimit) return;
  std::lock_guard lock(mutex);
  while (!remembered.empty() && (rememberedBytes + bytes > memoryLimit || remembered.size() >= REMEMBERED_LISTINGS)) {
    rememberedBytes -= remembered.front().bytes;
    remembered.pop_front();
  }
  remembered.push_back({listing, std::move(folders), bytes});
  rememberedBytes += bytes;
}

}  // namespace capstan::server::files
