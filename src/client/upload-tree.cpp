#include <capstan/client/upload-tree.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include <capstan/base/file.h>
#include <capstan/base/path.h>
#include <capstan/client/calls.h>
#include <capstan/client/upload-file.h>

namespace capstan::client {

namespace {

constexpr uint64_t MAX_BYTES_IN_FLIGHT = 16 << 20;
constexpr uint64_t BYTES_PER_STREAM = 2 << 20;  // what one large file has in flight
constexpr uint64_t BYTES_PER_CALL = 1 << 10;

}  // namespace

TreeUpload::TreeUpload(Links& links, LocalPlace source, std::string remotePath, const UploadSettings& settingsParam,
                       Tally& tally)
    : links(links),
      source(std::move(source)),
      remotePath(std::move(remotePath)),
      settings(settingsParam),
      tally(tally),
      window(settingsParam.filesInFlight, MAX_BYTES_IN_FLIGHT) {
  while (this->source.shown.size() > 1 && this->source.shown.back() == '/') this->source.shown.pop_back();
}

kj::Promise<Status> TreeUpload::run() {
  Result<FolderHandle> opened = openFolder(source);
  if (!opened.ok()) return Status(std::move(opened).error());
  root = std::move(*opened);
  struct stat stat;
  if (fstat(*root, &stat) != 0) return Status(errorFromErrno(errno, "cannot read", source.shown));
  return takeFolder("", {uint32_t(stat.st_mode & 07777), toNanoseconds(stat.st_mtim)})
      .then([this]() { return walk(); })
      .then([this]() {
        tally.allKnown();
        return window.idle();
      })
      .then([this]() { return setFolders(settings.keepMetadata ? folders.size() : 0); })
      .then([this]() { return window.idle(); })
      .then([]() { return okStatus(); })
      .exclusiveJoin(window.aborted().then([](Error&& error) { return Status(kj::mv(error)); }));
}

kj::Promise<void> TreeUpload::walk() {
  if (pending.empty()) return kj::READY_NOW;
  std::string relative = std::move(pending.back());
  pending.pop_back();
  if (isLeftOut(relative)) return walk();
  Result<Names> names = readFolder(relative);
  if (!names.ok()) {
    note(relative, std::move(names).error());
    return kj::evalLater([this]() { return walk(); });
  }
  return takeFrom(std::make_shared<Names>(std::move(*names)), 0).then([this]() { return walk(); });
}

Result<TreeUpload::Names> TreeUpload::readFolder(const std::string& relative) const {
  const char* name = relative.empty() ? "." : relative.c_str();
  int opened = openat(*root, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (opened < 0) return errorFromErrno(errno, "cannot read the folder", shown(relative));
  DIR* listing = fdopendir(opened);
  if (listing == nullptr) {
    close(opened);
    return errorFromErrno(errno, "cannot read the folder", shown(relative));
  }
  KJ_DEFER(closedir(listing));
  Names result{relative, {}};
  errno = 0;
  while (dirent* entry = readdir(listing)) {
    std::string_view found = entry->d_name;
    if (found != "." && found != "..") result.names.emplace_back(found);
    errno = 0;
  }
  if (errno != 0) return errorFromErrno(errno, "cannot read the folder", shown(relative));
  std::sort(result.names.begin(), result.names.end());
  return result;
}

kj::Promise<void> TreeUpload::takeFrom(std::shared_ptr<Names> folder, size_t index) {
  if (index == folder->names.size()) return kj::READY_NOW;
  return take(joinPath(folder->relative, folder->names[index]))
      .then([this, folder = std::move(folder), index]() mutable { return takeFrom(std::move(folder), index + 1); });
}

kj::Promise<void> TreeUpload::take(std::string relative) {
  struct stat stat;
  if (fstatat(*root, relative.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0) {
    // What vanished since its folder was read is not there to be sent.
    if (errno != ENOENT) note(relative, errorFromErrno(errno, "cannot look at", shown(relative)));
    return kj::READY_NOW;
  }
  int64_t mtime = toNanoseconds(stat.st_mtim);
  if (S_ISREG(stat.st_mode)) return takeFile(std::move(relative), stat.st_size);
  if (S_ISDIR(stat.st_mode)) return takeFolder(std::move(relative), {uint32_t(stat.st_mode & 07777), mtime});
  if (S_ISLNK(stat.st_mode)) return takeSymlink(std::move(relative), mtime);
  note(relative, errorAt(ErrorCode::UNSUPPORTED, shown(relative), "",
                         " is no file, folder or symlink: devices, sockets and pipes are not transferred"));
  return kj::READY_NOW;
}

kj::Promise<void> TreeUpload::takeFolder(std::string relative, Attributes attributes) {
  return window.room(BYTES_PER_CALL).then([this, relative = std::move(relative), attributes]() {
    pending.push_back(relative);
    folders.push_back({relative, attributes});
    ++tally.summary.folders;
    // Writable until the end, whatever its mode will be, but for nobody who is not to see what is in it.
    Attributes first;
    if (settings.keepMetadata) first.mode = (*attributes.mode & 0777) | 0700;
    bool parents = !relative.empty() || settings.makeParents;
    // The served tree itself is always there; but somebody has to be let in to it.
    auto made = remote(relative).empty() ? remoteStat(links, "", false)
                                         : remoteMakeDirectory(links, remote(relative), parents, first);
    window.start(BYTES_PER_CALL, made.then([this, relative](Result<Entry>&& result) {
      if (result.ok() || (result.error().code == ErrorCode::EXISTS && relative.empty())) return;
      if (relative.empty()) return window.abort(std::move(result).error());
      refused.push_back(relative);
      note(relative, std::move(result).error());
    }));
  });
}

kj::Promise<void> TreeUpload::takeFile(std::string relative, uint64_t size) {
  tally.expect(size);
  uint64_t held = size <= putLimit(links) ? size + BYTES_PER_CALL : BYTES_PER_STREAM;
  return window.room(held).then([this, held, relative = std::move(relative)]() {
    FileUpload::Place place{*root, relative, shown(relative), false};
    UploadSettings each = settings;
    each.makeParents = true;  // its folder may still be on the way
    auto job = kj::heap<FileUpload>(links, std::move(place), remote(relative), each, tally);
    auto task = job->run(true).then([this, relative](Result<Entry>&& result) {
      if (!result.ok()) note(relative, std::move(result).error());
    });
    window.start(held, task.attach(kj::mv(job)));
  });
}

kj::Promise<void> TreeUpload::takeSymlink(std::string relative, int64_t mtime) {
  return window.room(BYTES_PER_CALL).then([this, relative = std::move(relative), mtime]() {
    Result<std::string> target = readLink(relative);
    if (!target.ok()) return note(relative, std::move(target).error());
    Attributes attributes;
    if (settings.keepMetadata) attributes.mtime = mtime;
    Repeat repeat = settings.expectation.kind == Expectation::Kind::ANY ? Repeat::YES : Repeat::NO;
    auto made =
        remoteSymlink(links, repeat, remote(relative), std::move(*target), settings.expectation, attributes, true);
    window.start(BYTES_PER_CALL, made.then([this, relative](Result<Entry>&& result) {
      if (!result.ok()) return note(relative, std::move(result).error());
      ++tally.summary.symlinks;
    }));
  });
}

Result<std::string> TreeUpload::readLink(const std::string& relative) const {
  std::string target(4096, '\0');
  ssize_t length = readlinkat(*root, relative.c_str(), target.data(), target.size());
  if (length < 0) return errorFromErrno(errno, "cannot read the symlink", shown(relative));
  target.resize(length);
  return target;
}

// The last found first: a folder's new mode may close what is in it.
kj::Promise<void> TreeUpload::setFolders(size_t left) {
  if (left == 0) return kj::READY_NOW;
  return window.room(BYTES_PER_CALL).then([this, left]() {
    const Folder& folder = folders[left - 1];
    if (!isLeftOut(folder.relative)) {
      auto set = remoteSetMetadata(links, Repeat::YES, remote(folder.relative), folder.attributes, {});
      window.start(BYTES_PER_CALL, set.then([this, relative = folder.relative](Result<Entry>&& result) {
        if (!result.ok()) note(relative, std::move(result).error());
      }));
    }
    return setFolders(left - 1);
  });
}

std::string TreeUpload::shown(const std::string& relative) const { return joinPath(source.shown, relative); }

std::string TreeUpload::remote(const std::string& relative) const { return joinPath(remotePath, relative); }

bool TreeUpload::isLeftOut(const std::string& relative) const {
  return std::any_of(refused.begin(), refused.end(),
                     [&](const std::string& folder) { return isWithin(relative, folder); });
}

void TreeUpload::note(const std::string& relative, Error error) {
  if (endsTransfer(error.code)) return window.abort(kj::mv(error));
  tally.failed(shown(relative), kj::mv(error));
}

}  // namespace capstan::client
