#include <capstan/client/upload-file.h>

#include <algorithm>

#include <capstan/client/calls.h>
#include <capstan/rpc/entry-wire.h>

namespace capstan::client {

namespace {

constexpr unsigned MAX_RESTARTS = 3;
constexpr uint64_t SAFE_PUT = 256 << 10;  // bytes; before the server has told its limits
constexpr uint64_t LARGEST_PUT = 1 << 20;
constexpr uint64_t HASH_AT_ONCE = 8 << 20;  // bytes, between turns of the event loop

// So that a message with this much content is one segment.
capnp::MessageSize sizeFor(uint64_t content) { return {content / sizeof(capnp::word) + 1024, 4}; }

uint64_t chunkSize(const Links& links) {
  uint64_t best = links.lastInfo().writeChunk;
  return best == 0 ? 256 << 10 : std::clamp<uint64_t>(best, 64 << 10, 1 << 20);
}

}  // namespace

uint64_t putLimit(const Links& links) {
  uint64_t limit = links.lastInfo().maxPut;
  return limit == 0 ? SAFE_PUT : std::min(limit, LARGEST_PUT);
}

kj::Promise<Error> whyStreamFailed(schema::Upload::Client upload, kj::Exception exception) {
  if (rpc::isDisconnected(exception)) return kj::mv(exception);
  Error told = rpc::errorFromException(exception);
  if (told.code != ErrorCode::IO) return told;
  return upload.endRequest().send().then(
      [exception = kj::cp(exception)](capnp::Response<schema::ByteSink::EndResults>&& response) -> kj::Promise<Error> {
        KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
          return kj::mv(*error);
        }
        return rpc::errorFromException(exception);
      },
      [exception = kj::cp(exception)](kj::Exception&& second) -> kj::Promise<Error> {
        if (rpc::isDisconnected(second)) return kj::mv(second);
        return rpc::errorFromException(exception);
      });
}

FileUpload::FileUpload(Links& links, Place place, std::string remotePath, const UploadSettings& settings, Tally& tally)
    : links(links), place(std::move(place)), remotePath(std::move(remotePath)), settings(settings), tally(tally) {
  if (!settings.resume) salt = randomBytes(16);
}

kj::Promise<Result<Entry>> FileUpload::run(bool announced) {
  Result<LocalSource> opened = LocalSource::open(place.folder, place.relative, place.shown, place.follow);
  if (!opened.ok()) return Result<Entry>(std::move(opened).error());
  source = std::move(*opened);
  if (!announced) {
    tally.expect(source->size());
    tally.allKnown();
  }
  tally.started(place.shown, source->size());
  return attempt();
}

kj::Promise<Result<Entry>> FileUpload::attempt() {
  auto sent = source->size() <= putLimit(links) ? sendWhole() : sendStaged();
  return sent.then([this](Result<Entry>&& result) { return onEnded(kj::mv(result)); });
}

kj::Promise<Result<Entry>> FileUpload::onEnded(Result<Entry> result) {
  if (result.ok()) {
    tally.done(place.shown, source->size());
    return kj::mv(result);
  }
  ErrorCode code = result.error().code;
  // `corrupt`: what an earlier run has left was not this file's beginning, or the file was changed without a trace.
  bool again = code == ErrorCode::CHANGED || code == ErrorCode::CORRUPT;
  if (!again || ++restarts > MAX_RESTARTS) return kj::mv(result);
  salt = randomBytes(16);
  Result<LocalSource> opened = LocalSource::open(place.folder, place.relative, place.shown, place.follow);
  if (!opened.ok()) return Result<Entry>(std::move(opened).error());
  source = std::move(*opened);
  sends = 0;
  commitUnknown = false;
  return attempt();
}

Attributes FileUpload::attributes() const { return settings.keepMetadata ? source->attributes() : settings.attributes; }

void FileUpload::fill(schema::UploadOptions::Builder options) const {
  rpc::write(options.initExpectation(), settings.expectation);
  rpc::write(options.initAttributes(), attributes());
  options.setMakeParents(settings.makeParents);
}

void FileUpload::sent(uint64_t position) {
  if (position <= highWater) return;
  tally.advanced(position - highWater);
  highWater = position;
}

kj::Promise<Result<Entry>> FileUpload::sendWhole() {
  return links.run<Entry>(Repeat::YES, [this](Connection& connection) -> kj::Promise<Result<Entry>> {
    bool repeated = sends++ > 0;
    auto putting = put(connection);
    if (!repeated || settings.expectation.kind == Expectation::Kind::ANY) return putting;
    // The first one may have been carried out, and only its answer lost: then what is in the way is our own.
    return putting.then([this, &connection](Result<Entry>&& result) -> kj::Promise<Result<Entry>> {
      if (result.ok()) return kj::mv(result);
      ErrorCode code = result.error().code;
      if (code != ErrorCode::EXISTS && code != ErrorCode::CONFLICT) return kj::mv(result);
      return findOwn(connection).then([result = kj::mv(result)](kj::Maybe<Entry>&& own) mutable -> Result<Entry> {
        KJ_IF_MAYBE (entry, own) {
          return kj::mv(*entry);
        }
        return kj::mv(result);
      });
    });
  });
}

kj::Promise<Result<Entry>> FileUpload::put(Connection& connection) {
  uint64_t size = source->size();
  auto request = connection.fileStore().putRequest(sizeFor(size));
  request.setPath(rpc::asData(remotePath));
  auto content = request.initContent(size);
  Status read = source->read(content.begin(), size, 0);
  if (read.ok()) read = source->checkUnchanged();
  if (!read.ok()) return Result<Entry>(std::move(read).error());
  fill(request.initOptions());
  digest = digestOf(DigestAlgorithm::XXH3, rpc::asView(content.asReader()));
  rpc::write(request.initCheck(), {size, DigestAlgorithm::XXH3, digest});
  return request.send().then(
      [this, size](capnp::Response<schema::FileStore::PutResults>&& response) -> kj::Promise<Result<Entry>> {
        Result<Entry> entry = entryIn(response);
        if (entry.ok()) sent(size);
        return kj::mv(entry);
      });
}

kj::Promise<Result<Entry>> FileUpload::sendStaged() {
  return links.run<Entry>(Repeat::YES, [this](Connection& connection) { return stage(connection); });
}

kj::Promise<Result<Entry>> FileUpload::stage(Connection& connection) {
  if (!commitUnknown) return create(connection);
  return findOwn(connection).then([this, &connection](kj::Maybe<Entry>&& own) -> kj::Promise<Result<Entry>> {
    commitUnknown = false;
    KJ_IF_MAYBE (entry, own) {
      return Result<Entry>(kj::mv(*entry));
    }
    return create(connection);
  });
}

// The file at the remote path, if it is what was sent: same size, time and digest.
kj::Promise<kj::Maybe<Entry>> FileUpload::findOwn(Connection& connection) {
  auto open = connection.fileStore().openRequest();
  open.setPath(rpc::asData(remotePath));
  auto file = open.send().getFile();
  auto looked = file.statRequest().send();
  return looked.then(
      [this, file](capnp::Response<schema::File::StatResults>&& response) mutable -> kj::Promise<kj::Maybe<Entry>> {
        Result<Entry> there = entryIn(response);
        Attributes wanted = attributes();
        bool same = there.ok() && there->size == source->size() && wanted.mtime && there->mtime == *wanted.mtime;
        if (!same) return kj::Maybe<Entry>(nullptr);
        auto request = file.digestRequest();
        request.setAlgorithm(schema::DigestAlgorithm::XXH3);
        return request.send().then([this](capnp::Response<schema::File::DigestResults>&& response) -> kj::Maybe<Entry> {
          Result<Entry> entry = entryIn(response);
          if (!entry.ok() || rpc::asView(response.getDigest().getValue()) != digest) return nullptr;
          entry->path = remotePath;
          return std::move(*entry);
        });
      });
}

kj::Promise<Result<Entry>> FileUpload::create(Connection& connection) {
  auto request = connection.fileStore().createRequest();
  request.setPath(rpc::asData(remotePath));
  auto options = request.initOptions();
  fill(options);
  options.setResumeKey(rpc::asData(source->resumeKey(remotePath, salt)));
  options.getExpectedSize().setKnown(source->size());
  return request.send().then(
      [this](capnp::Response<schema::FileStore::CreateResults>&& response) -> kj::Promise<Result<Entry>> {
        KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
          return Result<Entry>(kj::mv(*error));
        }
        return onCreated(response.getUpload(), response.getOffset());
      });
}

kj::Promise<Result<Entry>> FileUpload::onCreated(schema::Upload::Client upload, uint64_t offset) {
  if (offset > source->size()) {
    Error error = errorAt(ErrorCode::CORRUPT, remotePath, "the server holds more of ", " than there is");
    return Result<Entry>(kj::mv(error));
  }
  if (offset > highWater) {
    // It was there before this run, or arrived although the connection broke.
    links.progressed();
    tally.resumed(place.shown, offset);
    highWater = offset;
  }
  auto sending = kj::heap<Sending>(Sending{kj::mv(upload)});
  Sending& s = *sending;
  return hashPrefix(s, offset)
      .then([this, &s](Status&& hashed) -> kj::Promise<Status> {
        if (!hashed.ok()) return kj::mv(hashed);
        return sendFrom(s);
      })
      .then([this, &s](Status&& sent) -> kj::Promise<Result<Entry>> {
        if (!sent.ok()) return Result<Entry>(std::move(sent).error());
        return commit(s);
      })
      .attach(kj::mv(sending));
}

kj::Promise<Status> FileUpload::hashPrefix(Sending& sending, uint64_t end) {
  if (sending.position == end) return okStatus();
  uint64_t next = std::min(end, sending.position + HASH_AT_ONCE);
  Status hashed = source->hash(sending.hasher, sending.position, next);
  if (!hashed.ok()) return hashed;
  sending.position = next;
  return kj::evalLater([this, &sending, end]() { return hashPrefix(sending, end); });
}

kj::Promise<Status> FileUpload::sendFrom(Sending& sending) {
  if (sending.position >= source->size()) return okStatus();
  auto status = kj::heap<Status>(okStatus());
  Status& s = *status;
  return sendPiece(sending, s)
      .then(
          [this, &sending, status = kj::mv(status)]() mutable -> kj::Promise<Status> {
            if (!status->ok()) return kj::mv(*status);
            sent(sending.position);
            return sendFrom(sending);
          },
          [&sending](kj::Exception&& exception) -> kj::Promise<Status> {
            return whyStreamFailed(sending.upload, kj::mv(exception)).then([](Error&& error) {
              return Status(kj::mv(error));
            });
          });
}

// Sends the next hole or chunk. The promise is the stream's flow control; `status` gets what is wrong with the local
// file.
kj::Promise<void> FileUpload::sendPiece(Sending& sending, Status& status) {
  LocalSource::Piece piece = source->pieceAt(sending.position);
  if (piece.hole) {
    auto request = sending.upload.skipRequest();
    request.setCount(piece.length);
    sending.hasher.updateZeros(piece.length);
    sending.position += piece.length;
    return request.send();
  }
  uint64_t length = std::min(piece.length, chunkSize(links));
  auto request = sending.upload.writeRequest(sizeFor(length));
  auto data = request.initData(length);
  status = source->read(data.begin(), length, sending.position);
  if (!status.ok()) return kj::READY_NOW;
  sending.hasher.update(rpc::asView(data.asReader()));
  sending.position += length;
  return request.send();
}

kj::Promise<Result<Entry>> FileUpload::commit(Sending& sending) {
  Status unchanged = source->checkUnchanged();
  if (!unchanged.ok()) {
    return sending.upload.discardRequest().send().then(
        [error = std::move(unchanged).error()](auto&&) mutable { return Result<Entry>(std::move(error)); });
  }
  digest = sending.hasher.digest();
  auto request = sending.upload.commitRequest();
  rpc::write(request.initCheck(), {source->size(), DigestAlgorithm::XXH3, digest});
  commitUnknown = true;
  return request.send().then([this](capnp::Response<schema::Upload::CommitResults>&& response) -> Result<Entry> {
    commitUnknown = false;
    return entryIn(response);
  });
}

}  // namespace capstan::client
