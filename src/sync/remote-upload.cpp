#include <capstan/sync/remote-upload.h>

#include <algorithm>
#include <unordered_map>

#include <kj/debug.h>

namespace capstan::sync {

namespace {

constexpr uint64_t WRITE_BYTES = 256 << 10;

struct ChunkHash {
  size_t operator()(const Chunk& chunk) const { return chunk.low ^ chunk.length; }
};

// Belongs to one event loop.
class RemoteUpload {
 public:
  RemoteUpload(const RemotePlace& place, const Operation& operation, Replica& from,
               const Replica::ApplyOptions& options, const RemoteStamps& stamps)
      : place(place), operation(operation), from(from), options(options), stamps(stamps) {}

  kj::Promise<Result<Replica::Done>> run();

 private:
  const RemotePlace& place;
  const Operation& operation;
  Replica& from;
  const Replica::ApplyOptions& options;
  const RemoteStamps& stamps;

  kj::Own<Content> content;
  kj::Maybe<kj::Promise<Result<Content::Cut>>> cutting;  // beside the sending, where nothing depends on it
  Content::Cut cut;
  std::vector<Stretch> stretches;
  bool hasBase = false;
  size_t nextStretch = 0;
  uint64_t position = 0;
  kj::Maybe<schema::Upload::Client> upload;

  kj::Promise<Status> findStretches();
  kj::Promise<Result<Replica::Done>> create();
  kj::Promise<Result<Replica::Done>> createAt(schema::FileStore::Client& store);
  void fill(schema::UploadOptions::Builder settings) const;
  std::string resumeKey() const;
  kj::Promise<Status> sendAll();
  kj::Promise<Status> sendPiece(const Stretch& stretch);
  kj::Promise<Status> sendData(uint64_t length);
  kj::Promise<Status> write(uint64_t length);
  kj::Promise<Error> whyFailed(kj::Exception exception);
  kj::Promise<Result<Replica::Done>> finish();
  kj::Promise<Result<Replica::Done>> commit();
  kj::Promise<Result<Replica::Done>> discard(Error error);
  uint64_t size() const { return content->node().size; }
};

kj::Promise<Result<Replica::Done>> RemoteUpload::run() {
  // `this` is held by whoever holds the promise, here and below.
  return from.open(operation.source, operation.node)
      .then([this](Result<kj::Own<Content>>&& opened) -> kj::Promise<Status> {
        if (!opened.ok()) return Status(std::move(opened).error());
        content = kj::mv(*opened);
        return findStretches();
      })
      .then([this](Status&& found) -> kj::Promise<Result<Replica::Done>> {
        if (!found.ok()) return Result<Replica::Done>(std::move(found).error());
        return create();
      });
}

kj::Promise<Status> RemoteUpload::findStretches() {
  std::optional<std::vector<Chunk>> base;
  bool replacesFile = operation.expected && operation.expected->type == EntryType::FILE;
  if (replacesFile && options.chunksOf) base = options.chunksOf(operation.path);
  stretches = {{0, size(), std::nullopt}};
  auto cut = content->cut(base ? *base : std::vector<Chunk>());
  if (!base || base->empty()) {
    cutting = cut.eagerlyEvaluate(nullptr);
    return okStatus();
  }
  return cut.then([this, base = std::move(*base)](Result<Content::Cut>&& done) -> Status {
    if (!done.ok()) return std::move(done).error();
    this->cut = std::move(*done);
    stretches = stretchesOf(this->cut.chunks, base);
    hasBase = std::any_of(stretches.begin(), stretches.end(), [](auto& stretch) { return stretch.base.has_value(); });
    return okStatus();
  });
}

kj::Promise<Result<Replica::Done>> RemoteUpload::create() {
  return place.with<Replica::Done>([this](schema::FileStore::Client& store) { return createAt(store); });
}

kj::Promise<Result<Replica::Done>> RemoteUpload::createAt(schema::FileStore::Client& store) {
  auto request = store.createRequest();
  request.setPath(rpc::asData(place.atServer(operation.path)));
  fill(request.initOptions());
  return request.send().then(
      [this](capnp::Response<schema::FileStore::CreateResults>&& response) -> kj::Promise<Result<Replica::Done>> {
        KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
          return Result<Replica::Done>(kj::mv(*error));
        }
        upload = response.getUpload();
        position = response.getOffset();
        if (position > size()) {
          return discard(
              errorAt(ErrorCode::CHANGED, operation.path, "what an earlier run has sent of ", " is not this"));
        }
        return sendAll().then([this](Status&& sent) -> kj::Promise<Result<Replica::Done>> {
          if (sent.ok()) return finish();
          // What was sent of a content that is no more is of no use to the next attempt.
          if (sent.error().code == ErrorCode::CHANGED) return discard(std::move(sent).error());
          return Result<Replica::Done>(std::move(sent).error());
        });
      });
}

void RemoteUpload::fill(schema::UploadOptions::Builder settings) const {
  Expectation expectation = expectationOf(operation.expected, stamps);
  rpc::write(settings.initExpectation(), expectation);
  rpc::write(settings.initAttributes(), wireAttributesOf(content->node()));
  settings.setResumeKey(rpc::asData(resumeKey()));
  settings.getExpectedSize().setKnown(size());
  settings.setRun(rpc::asData(options.run));
  if (hasBase) settings.setBase(rpc::asData(expectation.version));
}

// The same for the same content at the same path, in another run too.
std::string RemoteUpload::resumeKey() const {
  const Node& node = content->node();
  std::string text = "sync\n" + place.atServer(operation.path) + "\n" + std::to_string(node.size) + "\n" +
                     std::to_string(node.mtime) + "\n" + node.stamp;
  return digestOf(DigestAlgorithm::XXH3, text);
}

kj::Promise<Status> RemoteUpload::sendAll() {
  while (nextStretch < stretches.size()) {
    const Stretch& stretch = stretches[nextStretch];
    if (position < stretch.offset + stretch.length) {
      return sendPiece(stretch).then([this](Status&& sent) -> kj::Promise<Status> {
        if (!sent.ok()) return kj::mv(sent);
        return sendAll();
      });
    }
    ++nextStretch;
  }
  return okStatus();
}

// Sends some of what is left of a stretch.
kj::Promise<Status> RemoteUpload::sendPiece(const Stretch& stretch) {
  uint64_t length = stretch.offset + stretch.length - position;
  kj::Promise<Status> sending = okStatus();
  if (stretch.base) {
    auto request = KJ_ASSERT_NONNULL(upload).copyRangeRequest();
    request.setOffset(*stretch.base + (position - stretch.offset));
    request.setCount(length);
    position += length;
    sending = request.send().then([]() -> Status { return okStatus(); });
  } else {
    sending = sendData(length);
  }
  return sending.catch_([this](kj::Exception&& exception) -> kj::Promise<Status> {
    return whyFailed(kj::mv(exception)).then([](Error&& error) { return Status(kj::mv(error)); });
  });
}

kj::Promise<Status> RemoteUpload::sendData(uint64_t length) {
  return content->extentAt(position).then([this, length](Result<Content::Extent>&& extent) -> kj::Promise<Status> {
    if (!extent.ok()) return Status(std::move(extent).error());
    uint64_t count = std::min(length, extent->length);
    if (count == 0) {
      return Status(errorAt(ErrorCode::CHANGED, operation.source, "", " became shorter while it was being read"));
    }
    if (extent->hole) {
      auto request = KJ_ASSERT_NONNULL(upload).skipRequest();
      request.setCount(count);
      position += count;
      return request.send().then([]() -> Status { return okStatus(); });
    }
    count = std::min(count, WRITE_BYTES);
    if (!options.pace) return write(count);
    return options.pace(count).then([this, count]() { return write(count); });
  });
}

kj::Promise<Status> RemoteUpload::write(uint64_t length) {
  using Request = capnp::StreamingRequest<schema::ByteSink::WriteParams>;
  auto size = capnp::MessageSize{length / sizeof(capnp::word) + 1024, 0};
  auto request = kj::heap<Request>(KJ_ASSERT_NONNULL(upload).writeRequest(size));
  auto data = request->initData(length);
  auto& r = *request;
  return content->read(position, reinterpret_cast<char*>(data.begin()), length)
      .then([this, &r, length](Status&& read) -> kj::Promise<Status> {
        if (!read.ok()) return kj::mv(read);
        position += length;
        if (options.onMoved) options.onMoved(operation, length);
        return r.send().then([]() -> Status { return okStatus(); });
      })
      .attach(kj::mv(request));
}

// Why a streaming call threw; a broken connection goes on as an exception.
kj::Promise<Error> RemoteUpload::whyFailed(kj::Exception exception) {
  if (rpc::isDisconnected(exception)) return kj::mv(exception);
  return RemotePlace::failureIn(kj::mv(exception));
}

kj::Promise<Result<Replica::Done>> RemoteUpload::finish() {
  kj::Promise<Status> isCut = okStatus();
  KJ_IF_MAYBE (promise, cutting) {
    isCut = promise->then([this](Result<Content::Cut>&& done) -> Status {
      if (!done.ok()) return std::move(done).error();
      cut = std::move(*done);
      return okStatus();
    });
  }
  return isCut
      .then([this](Status&& status) -> kj::Promise<Status> {
        if (!status.ok()) return kj::mv(status);
        return content->checkUnchanged();
      })
      .then([this](Status&& status) -> kj::Promise<Result<Replica::Done>> {
        if (!status.ok()) return discard(std::move(status).error());
        return commit();
      });
}

kj::Promise<Result<Replica::Done>> RemoteUpload::discard(Error error) {
  auto failed = Result<Replica::Done>(std::move(error));
  return KJ_ASSERT_NONNULL(upload).discardRequest().send().then([failed](auto&&) { return failed; },
                                                                [failed](kj::Exception&& exception) {
                                                                  if (rpc::isDisconnected(exception))
                                                                    kj::throwFatalException(kj::mv(exception));
                                                                  return failed;
                                                                });
}

kj::Promise<Result<Replica::Done>> RemoteUpload::commit() {
  auto request = KJ_ASSERT_NONNULL(upload).commitRequest();
  rpc::write(request.initCheck(), {size(), DigestAlgorithm::XXH3, cut.digest});
  return request.send().then(
      [this](capnp::Response<schema::Upload::CommitResults>&& response) -> Result<Replica::Done> {
        KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
          // What an interrupted run had left was not this content's beginning; it is thrown away now.
          if (error->code == ErrorCode::CORRUPT) error->code = ErrorCode::CHANGED;
          return kj::mv(*error);
        }
        Replica::Done done;
        done.node = nodeOf(rpc::read(response.getEntry()));
        done.node->digest = cut.digest;
        done.source = content->node();
        done.source->digest = cut.digest;
        done.chunks = std::move(cut.chunks);
        return done;
      });
}

}  // namespace

std::vector<Stretch> stretchesOf(const std::vector<Chunk>& now, const std::vector<Chunk>& base) {
  struct Place {
    size_t index;
    uint64_t offset;
  };
  std::unordered_map<Chunk, Place, ChunkHash> places;
  uint64_t baseOffset = 0;
  for (size_t i = 0; i < base.size(); ++i) {
    places.emplace(base[i], Place{i, baseOffset});
    baseOffset += base[i].length;
  }
  std::vector<Stretch> stretches;
  uint64_t offset = 0;
  size_t expectedIndex = base.size();  // the chunk behind the one that was found last
  uint64_t expectedOffset = 0;
  for (const Chunk& chunk : now) {
    std::optional<Place> place;
    // Of several that are equal, the one that goes on from the last makes the stretch longer.
    if (expectedIndex < base.size() && base[expectedIndex] == chunk) {
      place = Place{expectedIndex, expectedOffset};
    } else if (auto found = places.find(chunk); found != places.end()) {
      place = found->second;
    }
    std::optional<uint64_t> from;
    if (place) from = place->offset;
    bool goesOn = !stretches.empty() && stretches.back().base.has_value() == from.has_value() &&
                  (!from || *stretches.back().base + stretches.back().length == *from);
    if (goesOn) {
      stretches.back().length += chunk.length;
    } else {
      stretches.push_back({offset, chunk.length, from});
    }
    expectedIndex = place ? place->index + 1 : base.size();
    if (place) expectedOffset = place->offset + chunk.length;
    offset += chunk.length;
  }
  return stretches;
}

kj::Promise<Result<Replica::Done>> uploadRemote(const RemotePlace& place, const Operation& operation, Replica& from,
                                                const Replica::ApplyOptions& options, const RemoteStamps& stamps) {
  auto job = kj::heap<RemoteUpload>(place, operation, from, options, stamps);
  auto promise = job->run();
  return promise
      .catch_(
          [](kj::Exception&& exception) -> Result<Replica::Done> { return RemotePlace::failureIn(kj::mv(exception)); })
      .attach(kj::mv(job));
}

}  // namespace capstan::sync
