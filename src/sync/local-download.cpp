// putLarge: a large file from the other side, in pieces, with what the file that is in its place has already.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <unordered_map>

#include <kj/debug.h>

#include <capstan/base/file.h>
#include <capstan/storage/place-file.h>
#include <capstan/storage/staged-content.h>
#include <capstan/sync/cut.h>
#include <capstan/sync/local-content.h>
#include <capstan/sync/local-put.h>

namespace capstan::sync {

namespace {

constexpr uint64_t PIECE_BYTES = 1 << 20;
constexpr size_t WINDOW_PIECES = 8;  // read at once, while those before are written

using storage::StagedContent;
using storage::StagedFile;

struct ChunkHash {
  size_t operator()(const Chunk& chunk) const { return size_t(chunk.low); }
};

// A stretch of the new content: data from the other side, a hole, or data that the file in place has.
struct Stretch {
  enum class Kind { DATA, HOLE, BASE };
  Kind kind = Kind::DATA;
  uint64_t offset = 0, length = 0;
  uint64_t base = 0;  // where it is in the file in place
};

// So many pieces on their way into the staged file. Owned by a job and the loop in turn.
struct Window {
  struct Part {
    Stretch stretch;
    kj::Array<kj::byte> bytes;  // of DATA and BASE
  };
  std::vector<Part> parts;
};

// Steps in the order in which they stand here. `this` outlives its promises: they are attached to it.
class Download {
 public:
  Download(const PutContext& context, const Operation& operation) : context(context), operation(operation) {}
  ~Download() noexcept(false) { cancelled->store(true); }

  kj::Promise<Result<Prepared>> run() {
    return context.from.open(operation.source, operation.node)
        .then([this](Result<kj::Own<Content>> opened) -> Step {
          if (!opened.ok()) return Status(opened.error());
          content = kj::mv(*opened);
          size = content->node().size;
          return cutBase();
        })
        .then([this](Status status) { return status.ok() ? cutSource() : Step(status); })
        .then([this](Status status) { return status.ok() ? openStaged() : Step(status); })
        .then([this](Status status) { return status.ok() ? takeUp() : Step(status); })
        .then([this](Status status) { return status.ok() ? askDigest() : Step(status); })
        .then([this](Status status) { return status.ok() ? go(readWindow()) : Step(status); })
        .then([this](Status status) { return status.ok() ? check() : Step(status); })
        .then([this](Status status) { return status.ok() ? content->checkUnchanged() : Step(status); })
        .then([this](Status status) { return status.ok() ? seal() : Step(status); })
        .then([this](Status status) { return end(std::move(status)); });
  }

 private:
  using Step = kj::Promise<Status>;
  using Windows = std::shared_ptr<Window>;

  // What the file in place has, if it is worth it.
  Step cutBase() {
    const auto& expected = operation.expected;
    if (!expected || expected->type != EntryType::FILE || expected->size <= SMALL_FILE_BYTES) return okStatus();
    std::vector<Chunk> known;
    if (context.options.chunksOf) known = context.options.chunksOf(operation.path).value_or(std::vector<Chunk>());
    auto job = [folder = context.folder, path = operation.path, expected = *expected, known = std::move(known),
                cancelled = cancelled]() -> Result<BaseCut> {
      auto file = openLocalFile(folder, path, expected);
      if (!file.ok()) return file.error();
      auto cut = cutFile((*file)->fd, (*file)->node.size, known, path, cancelled.get());
      if (!cut.ok()) return cut.error();
      return BaseCut{std::move(*file), std::move(cut->chunks)};
    };
    return context.pool.run(std::move(job)).then([this](Result<BaseCut> cut) -> Status {
      // Without it everything is read from the other side; what is in the way shows at the end.
      if (!cut.ok()) return okStatus();
      base = std::move(cut->file);
      baseChunks = std::move(cut->chunks);
      return okStatus();
    });
  }

  Step cutSource() {
    digest = content->node().digest;
    if (!base) return okStatus();
    return content->cut(baseChunks).then([this](Result<Content::Cut> cut) -> Status {
      if (!cut.ok()) return cut.error();
      digest = cut->digest;
      planStretches(cut->chunks);
      chunks = std::move(cut->chunks);
      return okStatus();
    });
  }

  void planStretches(const std::vector<Chunk>& wanted) {
    std::unordered_map<Chunk, uint64_t, ChunkHash> places;
    uint64_t at = 0;
    for (const Chunk& chunk : baseChunks) {
      places.emplace(chunk, at);
      at += chunk.length;
    }
    at = 0;
    for (const Chunk& chunk : wanted) {
      auto found = places.find(chunk);
      Stretch next{Stretch::Kind::DATA, at, chunk.length, 0};
      if (found != places.end()) next = {Stretch::Kind::BASE, at, chunk.length, found->second};
      at += chunk.length;
      if (!stretches.empty()) {
        Stretch& last = stretches.back();
        bool follows =
            last.kind == next.kind && (next.kind == Stretch::Kind::DATA || last.base + last.length == next.base);
        if (follows) {
          last.length += next.length;
          continue;
        }
      }
      stretches.push_back(next);
    }
  }

  Step openStaged() {
    auto& staging = *context.tree.staging;
    std::string key = operation.node.stamp + '\0' + std::to_string(size) + '\0' + std::to_string(operation.node.mtime);
    auto job = [name = storage::Staging::resumeNameOf("sync", operation.path, key), size = size, &staging,
                hold = staging.hold()]() -> Result<std::shared_ptr<StagedContent>> {
      auto file = staging.resume(name);
      if (!file.ok()) file = staging.create();
      if (!file.ok()) return file.error();
      auto staged = std::make_shared<StagedContent>(std::move(*file));
      return staged;
    };
    return context.pool.run(std::move(job)).then([this](Result<std::shared_ptr<StagedContent>> opened) -> Status {
      if (!opened.ok()) return opened.error();
      staged = std::move(*opened);
      return okStatus();
    });
  }

  // Reads what an earlier attempt has left.
  Step takeUp() {
    return context.pool.run([staged = staged]() { return staged->resumeStep(); })
        .then([this](Result<bool> done) -> Step {
          if (!done.ok()) return Status(done.error());
          if (!*done) return takeUp();
          position = staged->size();
          if (position <= size) return okStatus();
          staged->discard();
          staged = nullptr;
          return openStaged().then([this](Status status) { return status.ok() ? takeUp() : Step(status); });
        });
  }

  // What an earlier attempt has left is no proof of itself: after a crash it may hold anything.
  Step askDigest() {
    isResumed = position > 0;
    if (!isResumed || !digest.empty()) return okStatus();
    return content->cut({}).then([this](Result<Content::Cut> cut) -> Status {
      if (!cut.ok()) return cut.error();
      digest = std::move(cut->digest);
      return okStatus();
    });
  }

  // Writes one window while the next is read.
  Step go(kj::Promise<Result<Windows>> reading) {
    return reading.then([this](Result<Windows> window) -> Step {
      if (!window.ok()) return Status(window.error());
      if ((*window)->parts.empty()) return okStatus();
      auto next = readWindow().eagerlyEvaluate(nullptr);
      return append(std::move(*window)).then([this, next = kj::mv(next)](Status status) mutable -> Step {
        if (!status.ok()) return status;
        return go(kj::mv(next));
      });
    });
  }

  kj::Promise<Result<Windows>> readWindow() {
    auto window = std::make_shared<Window>();
    return planWindow(window).then([this, window](Status status) -> kj::Promise<Result<Windows>> {
      if (!status.ok()) return Result<Windows>(status.error());
      uint64_t bytes = 0;
      for (auto& part : window->parts) {
        if (part.stretch.kind == Stretch::Kind::DATA) bytes += part.stretch.length;
      }
      auto paced = bytes != 0 && context.options.pace ? context.options.pace(bytes) : kj::Promise<void>(kj::READY_NOW);
      return paced.then([this, window, bytes]() { return readParts(window, bytes); });
    });
  }

  kj::Promise<Result<Windows>> readParts(Windows window, uint64_t bytes) {
    auto reads = kj::heapArrayBuilder<kj::Promise<Status>>(window->parts.size());
    for (auto& part : window->parts) {
      const Stretch& stretch = part.stretch;
      if (stretch.kind != Stretch::Kind::HOLE) part.bytes = kj::heapArray<kj::byte>(stretch.length);
      auto to = reinterpret_cast<char*>(part.bytes.begin());
      bool isRead = stretch.kind == Stretch::Kind::DATA;
      reads.add(isRead ? content->read(stretch.offset, to, stretch.length) : kj::Promise<Status>(okStatus()));
    }
    return kj::joinPromises(reads.finish())
        .then([this, window, bytes](kj::Array<Status> statuses) -> Result<Windows> {
          for (const Status& status : statuses) {
            if (!status.ok()) return status.error();
          }
          if (bytes != 0 && context.options.onMoved) context.options.onMoved(operation, bytes);
          return window;
        })
        .attach(Windows(window));
  }

  // Which parts come next. Without chunks the other side tells where it has holes.
  Step planWindow(Windows window) {
    if (position >= size || window->parts.size() >= WINDOW_PIECES) return okStatus();
    if (stretches.empty()) {
      if (position >= extentEnd) {
        return content->extentAt(position).then([this, window](Result<Content::Extent> extent) -> Step {
          if (!extent.ok()) return Status(extent.error());
          uint64_t length = std::min(extent->length, size - position);
          if (length == 0) return Status(errorAt(ErrorCode::CHANGED, operation.source, "", " became shorter"));
          extentEnd = position + length;
          extentIsHole = extent->hole;
          return planWindow(window);
        });
      }
      addPart(*window, {extentIsHole ? Stretch::Kind::HOLE : Stretch::Kind::DATA, position, extentEnd - position, 0});
    } else {
      while (stretches[nextStretch].offset + stretches[nextStretch].length <= position) ++nextStretch;
      Stretch rest = stretches[nextStretch];
      uint64_t passed = position - rest.offset;
      rest.offset += passed;
      rest.base += passed;
      rest.length -= passed;
      addPart(*window, rest);
    }
    return planWindow(kj::mv(window));
  }

  void addPart(Window& window, Stretch stretch) {
    if (stretch.kind != Stretch::Kind::HOLE) stretch.length = std::min(stretch.length, PIECE_BYTES);
    position += stretch.length;
    window.parts.push_back({stretch, nullptr});
  }

  Step append(Windows window) {
    auto job = [window, staged = staged, base = base]() -> Status {
      std::vector<storage::Piece> pieces;
      for (auto& part : window->parts) {
        const Stretch& stretch = part.stretch;
        if (stretch.kind == Stretch::Kind::BASE) {
          ssize_t got = readAt(base->fd, part.bytes.begin(), stretch.length, stretch.base);
          if (got < 0) return errorFromErrno(errno, "cannot read", base->path);
          if (uint64_t(got) != stretch.length) return base->checkUnchanged();
        }
        pieces.push_back({kj::mv(part.bytes), stretch.kind == Stretch::Kind::HOLE ? stretch.length : 0});
      }
      return staged->append(pieces);
    };
    return context.pool.run(std::move(job));
  }

  Step check() {
    ContentCheck expected;
    expected.size = size;
    expected.algorithm = digest.empty() ? DigestAlgorithm::UNSET : DigestAlgorithm::XXH3;
    expected.digest = digest;
    return context.pool.run([staged = staged, expected]() { return staged->checkStep(expected); })
        .then([this](Result<bool> done) -> Step {
          if (!done.ok()) return Status(done.error());
          return *done ? Step(okStatus()) : check();
        });
  }

  Step seal() {
    auto& tree = context.tree;
    auto job = [staged = staged, attributes = attributesOf(operation.node), &tree, hold = tree.staging->hold()]() {
      return staged->seal(attributes, *tree.disk);
    };
    return context.pool.run(std::move(job)).then([this](Result<bool> done) -> Status {
      if (!done.ok()) return done.error();
      isFlushed = *done;
      return okStatus();
    });
  }

  kj::Promise<Result<Prepared>> end(Status status) {
    if (!status.ok()) {
      // What was read of another content is of no use to the next attempt.
      bool isUseless = status.error().code == ErrorCode::CHANGED || status.error().code == ErrorCode::CORRUPT;
      if (isUseless && staged) staged->discard();
      // The next attempt begins at the beginning.
      if (isResumed && status.error().code == ErrorCode::CORRUPT) {
        status = errorAt(ErrorCode::CHANGED, operation.source, "what an earlier run has read of ", " is not this");
      }
      return Result<Prepared>(status.error());
    }
    storage::PlaceFile place;
    place.path = operation.path;
    place.expectation = expectationOf(operation.expected);
    place.attributes = attributesOf(operation.node);
    place.flushed = isFlushed;
    Prepared prepared;
    prepared.digest = digest;
    prepared.source = content->node();
    prepared.source->digest = digest;
    prepared.chunks = std::move(chunks);
    prepared.make = [file = staged->stagedFile(), place]() { return storage::makePlaceFile(file, place); };
    return Result<Prepared>(std::move(prepared));
  }

  struct BaseCut {
    std::shared_ptr<LocalFile> file;
    std::vector<Chunk> chunks;
  };

  const PutContext& context;
  const Operation& operation;
  const std::shared_ptr<std::atomic<bool>> cancelled = std::make_shared<std::atomic<bool>>(false);
  kj::Own<Content> content;
  uint64_t size = 0;
  std::string digest;  // of the whole; empty: not known
  std::shared_ptr<LocalFile> base;
  std::vector<Chunk> baseChunks;
  std::optional<std::vector<Chunk>> chunks;
  std::vector<Stretch> stretches;  // all of the content; empty without a base
  size_t nextStretch = 0;
  uint64_t extentEnd = 0;
  bool extentIsHole = false;
  uint64_t position = 0;  // up to where parts were planned
  std::shared_ptr<StagedContent> staged;
  bool isResumed = false;
  bool isFlushed = false;
};

}  // namespace

kj::Promise<Result<Prepared>> putLarge(const PutContext& context, const Operation& operation) {
  auto download = kj::heap<Download>(context, operation);
  auto promise = download->run();
  return promise.attach(kj::mv(download));
}

}  // namespace capstan::sync
