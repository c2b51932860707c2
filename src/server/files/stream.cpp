#include <capstan/server/files/stream.h>

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <capstan/base/file.h>
#include <capstan/rpc/outcome.h>
#include <capstan/storage/extents.h>
#include <capstan/storage/version.h>

namespace capstan::server::files {

namespace {

constexpr uint64_t REQUEST_WORDS = 16;          // of a write's message, besides its data
constexpr uint64_t READ_AHEAD_BYTES = 2 << 20;  // what a disk is asked for beyond the chunk that is waited for

Result<std::string> readChunk(const OpenFile& file, uint64_t position, size_t size) {
  // The disk goes on reading while this chunk travels.
  if (file.local) posix_fadvise(file.fd, off_t(position), off_t(size + READ_AHEAD_BYTES), POSIX_FADV_WILLNEED);
  std::string bytes(size, '\0');
  ssize_t got = readAt(file.fd, bytes.data(), size, position);
  if (got < 0) return errorFromErrno(errno, "cannot read", file.path);
  bytes.resize(size_t(got));
  return bytes;
}

Result<struct stat> statusOf(const OpenFile& file) {
  struct stat status;
  if (fstat(file.fd, &status) < 0) return errorFromErrno(errno, "cannot look at", file.path);
  return status;
}

bool sameContent(const struct stat& a, const struct stat& b) {
  return a.st_size == b.st_size && toNanoseconds(a.st_mtim) == toNanoseconds(b.st_mtim);
}

}  // namespace

Download::Download(FolderState& folder, ConnectionScope& scope, std::shared_ptr<const OpenFile> openFile,
                   schema::ByteSink::Client sink, uint64_t offset, uint64_t count)
    : folder(folder),
      scope(scope),
      file(std::move(openFile)),
      sink(kj::mv(sink)),
      offset(offset),
      count(count),
      onPool(!file->local) {}

kj::Promise<Result<Download::Sent>> Download::run() {
  auto started = [this](Result<struct stat> status) -> Sending {
    if (!status.ok()) return Result<Sent>(std::move(status.error()));
    return begin(*status);
  };
  auto sending = file->local ? kj::evalNow([&]() { return started(statusOf(*file)); })
                             : folder.run(scope, [file = file]() { return statusOf(*file); }).then(kj::mv(started));
  return sending.catch_([](kj::Exception&& exception) -> Result<Sent> {
    if (rpc::isDisconnected(exception)) kj::throwFatalException(kj::mv(exception));
    // Never sink.end() here: it would say that all was sent.
    return rpc::errorFromException(exception);
  });
}

Download::Sending Download::begin(struct stat status) {
  before = status;
  uint64_t size = uint64_t(status.st_size);
  position = std::min(offset, size);
  end = position + std::min(count, size - position);
  content = folder.cache->find(status);
  if (content == nullptr && position == 0 && end == size) room = folder.cache->makeRoom(status);
  dataEnd = mayHaveHoles(status) && content == nullptr ? position : end;
  return next();
}

Download::Sending Download::next() {
  if (position == end) return finish();
  if (position >= dataEnd) return skipHole();
  return sendChunk();
}

Download::Sending Download::skipHole() {
  return folder
      .run(scope, [file = file, position = position,
                   end = end]() { return Result<Extent>(extentAt(file->fd, position, end)); })
      .then([this](Result<Extent> found) -> Sending {
        if (!found.ok()) return Result<Sent>(std::move(found.error()));
        dataEnd = found->dataEnd;
        if (found->hole == 0) return next();
        if (room != nullptr) memset(room->data() + position, 0, size_t(found->hole));
        position += found->hole;
        auto request = sink.skipRequest();
        request.setCount(found->hole);
        return request.send().then([this]() { return next(); });
      });
}

size_t Download::chunkAt(uint64_t place) const {
  return size_t(std::min<uint64_t>(STREAM_CHUNK_BYTES, dataEnd - place));
}

Download::Sending Download::sendChunk() {
  size_t size = chunkAt(position);
  if (content != nullptr) {
    auto request = newWrite(size);
    memcpy(request.getData().begin(), content->view().data() + position, size);
    return send(kj::mv(request), size);
  }
  KJ_IF_MAYBE (fetched, ahead) {
    auto promise = kj::mv(*fetched);
    ahead = nullptr;
    return sendFetched(size, kj::mv(promise));
  }
  if (onPool) return sendFetched(size, fetch(position, size));
  auto request = newWrite(size);
  ssize_t got = readCachedAt(file->fd, request.getData().begin(), size, position);
  if (got >= 0 && size_t(got) == size) return send(kj::mv(request), size);
  if (got < 0 && errno == EOPNOTSUPP) onPool = true;  // overlayfs, and tmpfs before Linux 6.6
  return sendFetched(size, fetch(position, size));
}

Download::Sending Download::sendFetched(size_t size, kj::Promise<Result<std::string>> fetched) {
  return fetched.then([this, size](Result<std::string> bytes) -> Sending {
    if (!bytes.ok()) return Result<Sent>(std::move(bytes.error()));
    if (bytes->size() != size) return Result<Sent>(changed());
    uint64_t following = position + size;
    if (onPool && following < dataEnd) ahead = fetch(following, chunkAt(following));
    auto request = newWrite(size);
    memcpy(request.getData().begin(), bytes->data(), size);
    return send(kj::mv(request), size);
  });
}

kj::Promise<Result<std::string>> Download::fetch(uint64_t place, size_t size) {
  return folder.run(scope, [file = file, place, size]() { return readChunk(*file, place, size); });
}

capnp::StreamingRequest<schema::ByteSink::WriteParams> Download::newWrite(size_t size) {
  auto request = sink.writeRequest(capnp::MessageSize{size / sizeof(capnp::word) + REQUEST_WORDS, 0});
  request.initData(uint(size));
  return request;
}

Download::Sending Download::send(capnp::StreamingRequest<schema::ByteSink::WriteParams> request, size_t size) {
  if (room != nullptr) memcpy(room->data() + position, request.getData().begin(), size);
  position += size;
  return request.send().then([this]() { return next(); });
}

Download::Sending Download::finish() {
  auto finished = [this](Result<Entry> entry) -> Sending {
    if (!entry.ok()) return Result<Sent>(std::move(entry.error()));
    return endSink(std::move(*entry));
  };
  auto check = [&folder = folder, file = file, before = before, room = std::move(room)]() mutable -> Result<Entry> {
    auto after = statusOf(*file);
    if (!after.ok()) return after.error();
    if (!sameContent(before, *after)) {
      return errorAt(ErrorCode::CHANGED, file->path, "", " changed while it was being read; try again");
    }
    folder.cache->insert(std::move(room), *after);
    Entry entry = entryFrom(*after);
    entry.path = file->path;
    entry.cached = folder.cache->holds(idOf(*after), entry.version);
    return entry;
  };
  if (file->local) return finished(check());
  return folder.run(scope, kj::mv(check)).then(kj::mv(finished));
}

Download::Sending Download::endSink(Entry entry) {
  uint64_t sent = end - std::min(offset, uint64_t(before.st_size));
  return sink.endRequest().send().then([sent, entry = std::move(entry)](auto&& response) mutable -> Result<Sent> {
    KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) return std::move(*error);
    return Sent{sent, std::move(entry)};
  });
}

Error Download::changed() const {
  return errorAt(ErrorCode::CHANGED, file->path, "", " changed while it was being read; try again");
}

}  // namespace capstan::server::files
