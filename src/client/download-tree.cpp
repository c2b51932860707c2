#include <capstan/client/download-tree.h>

#include <algorithm>
#include <memory>

#include <capstan/base/path.h>
#include <capstan/client/download-file.h>

namespace capstan::client {

namespace {

constexpr uint64_t MAX_BYTES_IN_FLIGHT = 64 << 20;  // of first reads; what a stream has in flight its own window bounds

// Not all that one connection may hold: other transfers share it.
unsigned atOnce(const Links& links, const DownloadSettings& settings) {
  unsigned most = links.lastInfo().maxOpenFiles / 2;
  return most == 0 ? settings.filesInFlight : std::min(settings.filesInFlight, most);
}

}  // namespace

bool endsTransfer(ErrorCode code) {
  switch (code) {
    case ErrorCode::UNREACHABLE:
    case ErrorCode::PROTOCOL_VERSION:
    case ErrorCode::REVOKED:
    case ErrorCode::EXPIRED:
    case ErrorCode::NO_SPACE:
    case ErrorCode::QUOTA:
    case ErrorCode::SHUTTING_DOWN:
    case ErrorCode::CANCELLED: return true;
    default: return false;
  }
}

TreeDownload::TreeDownload(Links& links, Entry root, LocalPlace target, const DownloadSettings& settings, Tally& tally)
    : links(links),
      root(std::move(root)),
      target(std::move(target)),
      settings(settings),
      tally(tally),
      window(atOnce(links, settings), MAX_BYTES_IN_FLIGHT) {}

kj::Promise<Status> TreeDownload::run() {
  Result<FolderHandle> made = makeFolder(target, settings.keepMetadata ? root.mode : 0777);
  if (!made.ok()) return Status(std::move(made).error());
  folder = std::move(*made);
  ++tally.summary.folders;
  return list()
      .then([this](Status&& listed) -> kj::Promise<Status> {
        if (!listed.ok()) return kj::mv(listed);
        tally.allKnown();
        return window.idle().then([this]() { return setFolders(); });
      })
      .exclusiveJoin(window.aborted().then([](Error&& error) { return Status(kj::mv(error)); }));
}

kj::Promise<Status> TreeDownload::list() {
  return remoteList(links, root.path, true, {}).then([this](Result<ListPage>&& page) { return onPage(kj::mv(page)); });
}

kj::Promise<Status> TreeDownload::onPage(Result<ListPage> got) {
  if (!got.ok()) return Status(std::move(got).error());
  auto page = std::make_shared<ListPage>(std::move(*got));
  for (Error& error : page->unread) noteUnread(std::move(error));
  if (page->atEnd) return takeFrom(page, 0).then([]() { return okStatus(); });
  // The next page is on its way while this one is worked on.
  auto next = remoteList(links, root.path, true, page->cursor);
  return takeFrom(page, 0).then([this, next = kj::mv(next)]() mutable {
    return next.then([this](Result<ListPage>&& page) { return onPage(kj::mv(page)); });
  });
}

kj::Promise<void> TreeDownload::takeFrom(std::shared_ptr<ListPage> page, size_t index) {
  if (index == page->entries.size()) return kj::READY_NOW;
  return take(std::move(page->entries[index])).then([this, page = std::move(page), index]() mutable {
    return takeFrom(std::move(page), index + 1);
  });
}

Status TreeDownload::check(const Entry& entry, std::string& relative) const {
  Status valid = validatePath(entry.path);
  bool within = valid.ok() && isWithin(entry.path, root.path) && entry.path != root.path;
  if (!within) {
    return errorAt(ErrorCode::INVALID_PATH, entry.path, "the server lists ",
                   ", which is no path below the folder asked for");
  }
  relative = root.path.empty() ? entry.path : entry.path.substr(root.path.size() + 1);
  return okStatus();
}

Result<LocalPlace> TreeDownload::placeFor(const std::string& relative) {
  std::string_view parent = parentOf(relative);
  if (parentHandle == nullptr || parent != parentPath) {
    Result<LocalPlace> place = placeBelow(folder, relative, target.shown);
    if (!place.ok()) return place;
    parentPath = parent;
    parentHandle = place->folder;
    return place;
  }
  return LocalPlace{parentHandle, std::string(baseNameOf(relative)), joinPath(target.shown, relative)};
}

bool TreeDownload::isLeftOut(const std::string& relative) const {
  return std::any_of(refused.begin(), refused.end(),
                     [&](const std::string& folder) { return isWithin(relative, folder); });
}

kj::Promise<void> TreeDownload::take(Entry entry) {
  std::string relative;
  Status status = check(entry, relative);
  if (status.ok() && isLeftOut(relative)) return kj::READY_NOW;
  std::string path = entry.path;
  if (status.ok()) {
    switch (entry.type) {
      case EntryType::FILE: return takeFile(std::move(entry), std::move(relative));
      case EntryType::DIRECTORY: status = takeFolder(std::move(entry), relative); break;
      case EntryType::SYMLINK: status = takeSymlink(entry, relative); break;
      default:
        status = errorAt(ErrorCode::UNSUPPORTED, entry.path, "",
                         " is no file, folder or symlink: devices, sockets and pipes are not transferred");
    }
  }
  if (!status.ok()) note(path, std::move(status).error());
  return kj::READY_NOW;
}

Status TreeDownload::takeFolder(Entry entry, const std::string& relative) {
  Result<LocalPlace> place = placeFor(relative);
  if (!place.ok()) return std::move(place).error();
  Result<FolderHandle> made = makeFolder(*place, settings.keepMetadata ? entry.mode : 0777);
  if (!made.ok()) {
    refused.push_back(relative);
    return std::move(made).error();
  }
  ++tally.summary.folders;
  entry.path = relative;
  if (settings.keepMetadata) folders.push_back(std::move(entry));
  return okStatus();
}

Status TreeDownload::takeSymlink(const Entry& entry, const std::string& relative) {
  if (entry.target.empty() || entry.target.find('\0') != std::string::npos) {
    return errorAt(ErrorCode::INVALID_ARGUMENT, entry.path, "the server tells no usable target for the symlink ");
  }
  Result<LocalPlace> place = placeFor(relative);
  if (!place.ok()) return std::move(place).error();
  Status made = makeSymlink(*place, entry.target, settings.overwrite);
  if (made.ok() && settings.keepMetadata) made = setLinkTime(*place, entry.mtime);
  if (made.ok()) ++tally.summary.symlinks;
  return made;
}

kj::Promise<void> TreeDownload::takeFile(Entry entry, std::string relative) {
  tally.expect(entry.size);
  uint64_t held = std::min(entry.size, FIRST_READ);
  return window.room(held).then([this, held, entry = std::move(entry), relative = std::move(relative)]() {
    Result<LocalPlace> place = placeFor(relative);
    if (!place.ok()) return note(entry.path, std::move(place).error());
    auto job = kj::heap<FileDownload>(links, entry.path, std::move(*place), settings, tally);
    auto task = job->run().then([this, path = entry.path](Status&& status) {
      if (!status.ok()) note(path, std::move(status).error());
    });
    window.start(held, task.attach(kj::mv(job)));
  });
}

void TreeDownload::note(const std::string& path, Error error) {
  if (endsTransfer(error.code)) return window.abort(kj::mv(error));
  tally.failed(path, kj::mv(error));
}

void TreeDownload::noteUnread(Error error) {
  // A page that goes on behind such a folder finds that once more.
  if (error.path == lastUnread) return;
  lastUnread = error.path;
  std::string path = error.path;
  note(path, std::move(error));
}

// The deepest first, because a folder's new mode may close it.
Status TreeDownload::setFolders() {
  if (!settings.keepMetadata) return okStatus();
  for (auto entry = folders.rbegin(); entry != folders.rend(); ++entry) {
    Result<LocalPlace> place = placeBelow(folder, entry->path, target.shown);
    Status set = place.ok() ? setFolderMetadata(*place, *entry) : Status(std::move(place).error());
    if (!set.ok()) tally.failed(joinPath(root.path, entry->path), std::move(set).error());
  }
  return setFolderMetadata(target, root);
}

}  // namespace capstan::client
