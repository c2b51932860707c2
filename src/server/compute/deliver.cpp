#include <capstan/server/compute/deliver.h>

#include <algorithm>
#include <cstring>

#include <capstan/rpc/outcome.h>
#include <capstan/server/compute/convert.h>
#include <capstan/server/files/served-folder.h>

namespace capstan::server::compute {

namespace {

constexpr size_t CHUNK_BYTES = files::STREAM_CHUNK_BYTES;
// Numbers grow by at most this much when they become lines, so that a chunk of them still fits into a message.
constexpr size_t BINARY_CHUNK_BYTES = CHUNK_BYTES / 2;

// What goes out next, and where the content goes on after it.
struct Chunk {
  std::string bytes;
  uint64_t next = 0;
};

Result<Chunk> readPlain(const Content& content, uint64_t offset, size_t size) {
  Chunk chunk;
  chunk.bytes.resize(size_t(std::min<uint64_t>(size, content.info().bytes - offset)));
  auto got = content.readAt(offset, chunk.bytes.data(), chunk.bytes.size());
  if (!got.ok()) return got.error();
  if (*got != chunk.bytes.size()) return Error{ErrorCode::IO, "what was stored of a value has become shorter", {}};
  chunk.next = offset + chunk.bytes.size();
  return chunk;
}

Result<Chunk> readAsLines(const Content& content, uint64_t offset) {
  auto binary = readPlain(content, offset, BINARY_CHUNK_BYTES);
  if (!binary.ok()) return binary.error();
  Chunk chunk{{}, binary->next};
  chunk.bytes.reserve(CHUNK_BYTES);
  appendLines(chunk.bytes, content.info().type, binary->bytes);
  return chunk;
}

// Whole lines only; they are numbers, so that some fit into any chunk.
Result<Chunk> readAsBinary(const Content& content, uint64_t offset) {
  auto lines = readPlain(content, offset, CHUNK_BYTES);
  if (!lines.ok()) return lines.error();
  std::string_view rest = lines->bytes;
  Chunk chunk{{}, offset};
  for (size_t end; (end = rest.find('\n')) != std::string_view::npos; rest.remove_prefix(end + 1)) {
    auto status = appendBinary(chunk.bytes, content.info().type, rest.substr(0, end));
    if (!status.ok()) return status.error();
    chunk.next += end + 1;
  }
  if (chunk.next == offset) {
    return Error{ErrorCode::TOO_LARGE, "a line is too long to hold a number; read the value as lines", {}};
  }
  return chunk;
}

// One delivery. Belongs to the loop of the sink; holds two chunks at most.
class Delivery {
 public:
  Delivery(BlockingPool& pool, std::shared_ptr<const Content> content, schema::ByteSink::Client sink, Encoding encoding)
      : pool(pool), content(std::move(content)), sink(kj::mv(sink)), encoding(encoding) {}

  kj::Promise<Status> run() {
    if (content->info().bytes == 0) return okStatus();
    return send(fetch(0));
  }

 private:
  BlockingPool& pool;
  const std::shared_ptr<const Content> content;
  schema::ByteSink::Client sink;
  const Encoding encoding;

  using Fetched = kj::Promise<Result<Chunk>>;

  Fetched fetch(uint64_t offset) {
    auto have = content->info().encoding;
    // What is in memory and goes out as it is costs no more than a copy.
    if (content->inMemory() && encoding == have) return readPlain(*content, offset, CHUNK_BYTES);
    return pool.run([content = content, encoding = encoding, have, offset]() {
      if (encoding == have) return readPlain(*content, offset, CHUNK_BYTES);
      return encoding == Encoding::LINES ? readAsLines(*content, offset) : readAsBinary(*content, offset);
    });
  }

  // `this` outlives its promises.
  kj::Promise<Status> send(Fetched fetched) {
    return fetched.then([this](Result<Chunk> chunk) -> kj::Promise<Status> {
      if (!chunk.ok()) return Status(chunk.error());
      bool last = chunk->next == content->info().bytes;
      auto following = last ? kj::Maybe<Fetched>() : kj::Maybe<Fetched>(fetch(chunk->next));
      auto request =
          sink.writeRequest(capnp::MessageSize{chunk->bytes.size() / sizeof(capnp::word) + REQUEST_WORDS, 0});
      auto data = request.initData(uint(chunk->bytes.size()));
      memcpy(data.begin(), chunk->bytes.data(), chunk->bytes.size());
      auto sent = request.send();
      KJ_IF_MAYBE (next, following) {
        return sent.then([this, next = kj::mv(*next)]() mutable { return send(kj::mv(next)); });
      }
      return sent.then([]() { return okStatus(); });
    });
  }

  static constexpr uint64_t REQUEST_WORDS = 16;
};

}  // namespace

kj::Promise<Status> deliver(BlockingPool& pool, std::shared_ptr<const Content> content, schema::ByteSink::Client sink,
                            Encoding encoding) {
  const ContentInfo& info = content->info();
  if (encoding == Encoding::UNSET) encoding = Encoding::LINES;
  if (encoding != Encoding::LINES && encoding != Encoding::BINARY) {
    return Status(Error{ErrorCode::INVALID_ARGUMENT, "there is no such encoding; use lines or binary", {}});
  }
  if (encoding == Encoding::BINARY && info.type == ElementType::TEXT) {
    return Status(Error{ErrorCode::UNSUPPORTED, "text has no binary encoding; take it as lines", {}});
  }
  auto delivery = kj::heap<Delivery>(pool, std::move(content), kj::mv(sink), encoding);
  auto promise = delivery->run();
  return promise.attach(kj::mv(delivery)).catch_([](kj::Exception&& exception) -> Status {
    if (rpc::isDisconnected(exception)) kj::throwFatalException(kj::mv(exception));
    return rpc::errorFromException(exception);
  });
}

}  // namespace capstan::server::compute
