#include <capstan/client/download-file.h>

#include <fcntl.h>
#include <sys/stat.h>

#include <capstan/client/calls.h>

namespace capstan::client {

namespace {

constexpr unsigned MAX_RESTARTS = 3;

}  // namespace

FileDownload::FileDownload(Links& links, std::string remotePath, LocalPlace place, const DownloadSettings& settings,
                           Tally& tally)
    : links(links),
      remotePath(std::move(remotePath)),
      ofTree(true),
      settings(settings),
      tally(tally),
      place(std::move(place)) {}

FileDownload::FileDownload(Links& links, std::string remotePath, std::string localPath,
                           const DownloadSettings& settings, Tally& tally)
    : links(links),
      remotePath(std::move(remotePath)),
      localPath(std::move(localPath)),
      ofTree(false),
      settings(settings),
      tally(tally) {}

kj::Promise<Status> FileDownload::run() {
  Status free = checkTarget();
  if (!free.ok()) return free;
  return attempt();
}

Status FileDownload::checkTarget() const {
  struct stat stat;
  bool there = ofTree ? fstatat(*place->folder, place->name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) == 0
                      : lstat(localPath.c_str(), &stat) == 0;
  if (!there) return okStatus();
  const std::string& shown = ofTree ? place->shown : localPath;
  if (S_ISDIR(stat.st_mode)) {
    return errorAt(ErrorCode::IS_DIRECTORY, shown, "", " is a folder here, where a file is to be written");
  }
  if (!settings.overwrite) return errorAt(ErrorCode::EXISTS, shown, "", " is there already, and is not overwritten");
  // Also through a symlink that was typed: /dev/stdout is one.
  if (!ofTree && S_ISLNK(stat.st_mode) && ::stat(localPath.c_str(), &stat) != 0) return okStatus();
  if (!S_ISREG(stat.st_mode) && !S_ISLNK(stat.st_mode) && !S_ISDIR(stat.st_mode)) {
    return errorAt(ErrorCode::UNSUPPORTED, shown, "", " is a device, socket or pipe, and is not replaced by a file");
  }
  return okStatus();
}

kj::Promise<Status> FileDownload::attempt() {
  begun = false;
  return fetch(links, remotePath, {}, *this, [this](uint64_t count) { tally.advanced(count); })
      .then([this](Result<Entry>&& fetched) { return onFetched(kj::mv(fetched)); });
}

kj::Promise<Status> FileDownload::onFetched(Result<Entry> fetched) {
  if (!fetched.ok()) {
    Error error = std::move(fetched).error();
    if (error.code == ErrorCode::CHANGED) return restart(kj::mv(error));
    if (error.code == ErrorCode::IS_DIRECTORY && !begun && !ofTree) {
      error = errorAt(ErrorCode::IS_DIRECTORY, remotePath, "", " is a folder; use -r to get it with all that is in it");
    }
    return Status(kj::mv(error));
  }
  if (KJ_ASSERT_NONNULL(part)->resumedFrom() > 0) return verifyResumed(std::move(*fetched));
  return finish(*fetched);
}

// An earlier run, or the crash that ended it, may have left something else than the file's beginning.
kj::Promise<Status> FileDownload::verifyResumed(Entry entry) {
  return remoteDigest(links, remotePath, DigestAlgorithm::XXH3)
      .then([this, entry = std::move(entry)](Result<RemoteDigest>&& theirs) mutable -> kj::Promise<Status> {
        if (!theirs.ok()) return Status(std::move(theirs).error());
        return KJ_ASSERT_NONNULL(part)->digest().then([this, entry = std::move(entry), theirs = std::move(*theirs)](
                                                          Result<std::string>&& ours) mutable -> kj::Promise<Status> {
          if (!ours.ok()) return Status(std::move(ours).error());
          if (*ours == theirs.digest) return finish(entry);
          return restart(errorAt(ErrorCode::CHANGED, remotePath, "", " is not what an earlier download began with"));
        });
      });
}

kj::Promise<Status> FileDownload::restart(Error error) {
  KJ_IF_MAYBE (p, part) {
    (*p)->discard();
    part = nullptr;
  }
  if (++restarts > MAX_RESTARTS) return Status(kj::mv(error));
  return attempt();
}

Status FileDownload::finish(const Entry& entry) {
  Status finished = KJ_ASSERT_NONNULL(part)->finish(entry);
  if (finished.ok()) tally.done(remotePath, entry.size);
  return finished;
}

Result<uint64_t> FileDownload::begin(const Entry& entry) {
  begun = true;
  if (!place) {
    Result<LocalPlace> opened = openPlace(localPath, true);
    if (!opened.ok()) return std::move(opened).error();
    place = std::move(*opened);
  }
  if (restarts == 0) {
    if (!ofTree) {
      tally.expect(entry.size);
      tally.allKnown();
    }
    tally.started(remotePath, entry.size);
  }
  PartFile::Settings how{settings.resume, settings.keepMetadata, settings.overwrite};
  PartFile& opened = *part.emplace(kj::heap<PartFile>(*place, how));
  Result<uint64_t> offset = opened.begin(entry);
  if (offset.ok()) tally.resumed(remotePath, *offset);
  return offset;
}

kj::Promise<Status> FileDownload::write(std::string_view bytes) { return KJ_ASSERT_NONNULL(part)->write(bytes); }

kj::Promise<Status> FileDownload::skip(uint64_t zeros) { return KJ_ASSERT_NONNULL(part)->skip(zeros); }

}  // namespace capstan::client
