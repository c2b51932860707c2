#include <capstan/sync/remote-content.h>

#include <algorithm>
#include <cstring>

namespace capstan::sync {

namespace {

constexpr uint64_t READ_BYTES = 1 << 20;  // of one File.read(), at most
constexpr size_t DIGESTS_AT_ONCE = 64;
constexpr size_t DIGEST_BYTES = 16;  // of a chunk

using StatResponse = capnp::Response<schema::File::StatResults>;
using ReadResponse = capnp::Response<schema::File::ReadResults>;

Error changed(std::string_view path) {
  return errorAt(ErrorCode::CHANGED, path, "", " changed at the server while it was being read");
}

// The node of a file that has to be what was expected.
Result<Node> expectedNode(StatResponse& response, std::string_view path, const Node& expected) {
  KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
    return kj::mv(*error);
  }
  Node node = nodeOf(rpc::read(response.getEntry()));
  if (node.stamp != expected.stamp) return changed(path);
  return node;
}

Error wrongChunks(std::string_view path) {
  return errorAt(ErrorCode::CORRUPT, path, "the chunks that the server tells of ", " are none of such a file");
}

bool isChunk(schema::Chunk::Reader from, bool isLast) {
  return from.getLength() <= MAX_CHUNK_BYTES && from.getLength() >= (isLast ? 1 : MIN_CHUNK_BYTES) &&
         from.getDigest().size() == DIGEST_BYTES;
}

Chunk readChunk(schema::Chunk::Reader from) {
  auto half = [](capnp::Data::Reader digest, size_t offset) {
    uint64_t value = 0;
    for (size_t i = 0; i < 8; ++i) value = value << 8 | digest[offset + i];
    return value;
  };
  auto digest = from.getDigest();
  return {from.getLength(), half(digest, 0), half(digest, 8)};
}

class RemoteContent final : public Content {
 public:
  RemoteContent(std::string path, schema::File::Client file, Node node)
      : path(std::move(path)), file(kj::mv(file)), opened(std::move(node)) {}

  const Node& node() const override { return opened; }
  kj::Promise<Status> read(uint64_t offset, char* buffer, size_t size) override;
  kj::Promise<Result<Extent>> extentAt(uint64_t offset) override;
  kj::Promise<Result<Cut>> cut(std::vector<Chunk> known) override;
  kj::Promise<Status> checkUnchanged() override;

 private:
  const std::string path;
  schema::File::Client file;
  Node opened;
  Cut known;                                         // what cut() gathers
  std::vector<std::pair<uint64_t, uint64_t>> zeros;  // begin and end of what cut() has found to be zeros, in order
  bool hasZeros = false;                             // whether that is known

  kj::Promise<Status> readDirectly(uint64_t offset, char* buffer, size_t size);
  kj::Promise<Status> takeChunks(uint64_t offset);
  void findZeros();
  Extent extentByChunks(uint64_t offset) const;
};

kj::Promise<Status> RemoteContent::read(uint64_t offset, char* buffer, size_t size) {
  if (size == 0) return okStatus();
  return readDirectly(offset, buffer, size);
}

kj::Promise<Status> RemoteContent::readDirectly(uint64_t offset, char* buffer, size_t size) {
  auto request = file.readRequest();
  request.setOffset(offset);
  request.setCount(std::min<uint64_t>(size, READ_BYTES));
  // `this` outlives its promises: whoever reads holds the content.
  return request.send().then(
      [this, offset, buffer, size](ReadResponse&& response) -> kj::Promise<Status> {
        KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
          return Status(kj::mv(*error));
        }
        auto data = response.getData();
        if (data.size() == 0 || data.size() > size) return Status(changed(path));
        memcpy(buffer, data.begin(), data.size());
        if (data.size() == size) return okStatus();
        return readDirectly(offset + data.size(), buffer + data.size(), size - data.size());
      },
      [](kj::Exception&& exception) -> kj::Promise<Status> {
        return Status(RemotePlace::failureIn(kj::mv(exception)));
      });
}

kj::Promise<Result<Content::Extent>> RemoteContent::extentAt(uint64_t offset) {
  if (offset >= opened.size) return Result<Extent>(Extent{0, false});
  if (hasZeros) return Result<Extent>(extentByChunks(offset));
  // Reads tell nothing of holes; chunks do.
  known = {};
  return takeChunks(0)
      .then([this, offset](Status&& taken) -> Result<Extent> {
        if (!taken.ok()) return std::move(taken).error();
        findZeros();
        return extentByChunks(offset);
      })
      .catch_([](kj::Exception&& exception) -> Result<Extent> { return RemotePlace::failureIn(kj::mv(exception)); });
}

kj::Promise<Result<Content::Cut>> RemoteContent::cut(std::vector<Chunk>) {
  auto request = file.digestRequest();
  request.setAlgorithm(schema::DigestAlgorithm::XXH3);
  auto digesting = request.send();
  known = {};
  return takeChunks(0)
      .then([this, digesting = kj::mv(digesting)](Status&& taken) mutable -> kj::Promise<Result<Cut>> {
        if (!taken.ok()) return Result<Cut>(std::move(taken).error());
        return digesting.then([this](capnp::Response<schema::File::DigestResults>&& response) -> Result<Cut> {
          KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
            return kj::mv(*error);
          }
          if (rpc::asView(response.getEntry().getVersion()) != opened.stamp) return changed(path);
          known.digest = rpc::asView(response.getDigest().getValue());
          opened.digest = known.digest;
          findZeros();
          return std::move(known);
        });
      })
      .catch_([](kj::Exception&& exception) -> Result<Cut> { return RemotePlace::failureIn(kj::mv(exception)); });
}

// A hole is cut into chunks that are all the same; what they cover needs no reading.
void RemoteContent::findZeros() {
  static const std::string BLOCK(MAX_CHUNK_BYTES, '\0');
  static const Chunk ZERO = chunkOf(std::string_view(BLOCK).substr(0, chunkLength(BLOCK)));
  hasZeros = true;
  zeros.clear();
  uint64_t offset = 0;
  for (const Chunk& chunk : known.chunks) {
    if (chunk == ZERO) {
      if (zeros.empty() || zeros.back().second != offset) zeros.push_back({offset, offset});
      zeros.back().second += chunk.length;
    }
    offset += chunk.length;
  }
}

Content::Extent RemoteContent::extentByChunks(uint64_t offset) const {
  auto next = std::partition_point(zeros.begin(), zeros.end(), [&](auto& range) { return range.second <= offset; });
  if (next == zeros.end()) return {opened.size - offset, false};
  if (offset < next->first) return {next->first - offset, false};
  return {next->second - offset, true};
}

kj::Promise<Status> RemoteContent::takeChunks(uint64_t offset) {
  auto request = file.chunksRequest();
  request.setOffset(offset);
  return request.send().then(
      [this, offset](capnp::Response<schema::File::ChunksResults>&& response) -> kj::Promise<Status> {
        KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
          return Status(kj::mv(*error));
        }
        if (rpc::asView(response.getEntry().getVersion()) != opened.stamp) return Status(changed(path));
        uint64_t end = offset;
        for (auto chunk : response.getChunks()) {
          // What they cover is bounded by the file's size, so their number is, too.
          end += chunk.getLength();
          if (end > opened.size || !isChunk(chunk, end == opened.size)) return Status(wrongChunks(path));
          known.chunks.push_back(readChunk(chunk));
        }
        if (response.getAtEnd()) return end == opened.size ? okStatus() : Status(changed(path));
        if (end == offset) return Status(changed(path));
        return takeChunks(end);
      });
}

kj::Promise<Status> RemoteContent::checkUnchanged() {
  return file.statRequest().send().then(
      [this](StatResponse&& response) -> Status {
        auto node = expectedNode(response, path, opened);
        return node.ok() ? okStatus() : Status(std::move(node).error());
      },
      [](kj::Exception&& exception) -> Status { return RemotePlace::failureIn(kj::mv(exception)); });
}

struct Digesting {
  const RemotePlace& place;
  std::vector<std::string> paths;
  std::vector<Result<std::string>> results;

  kj::Promise<void> from(size_t index) {
    if (index >= paths.size()) return kj::READY_NOW;
    return place.client.digest(place.atServer(paths[index]), DigestAlgorithm::XXH3)
        .then([this, index](Result<std::string>&& digest) {
          results[index] = std::move(digest);
          return from(index + DIGESTS_AT_ONCE);
        });
  }
};

}  // namespace

kj::Promise<Result<Replica::Fetched>> fetchRemote(const RemotePlace& place, std::string path, Node expected) {
  return place.with<Replica::Fetched>(
      [&place, path = std::move(path), expected = std::move(expected)](schema::FileStore::Client& store) mutable {
        auto open = store.openRequest();
        open.setPath(rpc::asData(place.atServer(path)));
        auto file = open.send().getFile();
        auto read = file.readRequest();
        read.setCount(expected.size + 1);
        auto reading = read.send();
        // Asked after the reading: if it is what was expected then, what was read is that.
        auto looking = file.statRequest().send();
        return reading.then([path = std::move(path), expected = std::move(expected), looking = kj::mv(looking)](
                                ReadResponse&& content) mutable -> kj::Promise<Result<Replica::Fetched>> {
          KJ_IF_MAYBE (error, rpc::errorIn(content.getOutcome())) {
            return Result<Replica::Fetched>(kj::mv(*error));
          }
          return looking.then([path = std::move(path), expected = std::move(expected),
                               content = kj::mv(content)](StatResponse&& response) -> Result<Replica::Fetched> {
            auto node = expectedNode(response, path, expected);
            if (!node.ok()) return std::move(node).error();
            std::string_view bytes = rpc::asView(content.getData());
            if (bytes.size() != node->size) return changed(path);
            node->digest = digestOf(DigestAlgorithm::XXH3, bytes);
            return Replica::Fetched{std::move(*node), std::string(bytes)};
          });
        });
      });
}

kj::Promise<Result<kj::Own<Content>>> openRemote(const RemotePlace& place, std::string path, Node expected) {
  return place.with<kj::Own<Content>>(
      [&place, path = std::move(path), expected = std::move(expected)](schema::FileStore::Client& store) mutable {
        auto open = store.openRequest();
        open.setPath(rpc::asData(place.atServer(path)));
        auto file = open.send().getFile();
        auto looking = file.statRequest().send();
        return looking.then([path = std::move(path), expected = std::move(expected),
                             file = kj::mv(file)](StatResponse&& response) mutable -> Result<kj::Own<Content>> {
          auto node = expectedNode(response, path, expected);
          if (!node.ok()) return std::move(node).error();
          return kj::Own<Content>(kj::heap<RemoteContent>(std::move(path), kj::mv(file), std::move(*node)));
        });
      });
}

kj::Promise<std::vector<Result<std::string>>> remoteDigests(const RemotePlace& place, std::vector<std::string> paths) {
  size_t count = paths.size();
  std::vector<Result<std::string>> empty(count, Result<std::string>(std::string()));
  auto job = kj::heap<Digesting>(Digesting{place, std::move(paths), std::move(empty)});
  auto workers = kj::heapArrayBuilder<kj::Promise<void>>(std::min(DIGESTS_AT_ONCE, count));
  for (size_t i = 0; i < std::min(DIGESTS_AT_ONCE, count); ++i) workers.add(job->from(i));
  auto all = kj::joinPromises(workers.finish());
  return all.then([job = kj::mv(job)]() mutable { return std::move(job->results); });
}

}  // namespace capstan::sync
