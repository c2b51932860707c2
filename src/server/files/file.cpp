#include <capstan/server/files/file.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <capstan/base/file.h>
#include <capstan/rpc/compat.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/files/cache.h>
#include <capstan/server/files/file-chunks.h>
#include <capstan/server/files/file-digest.h>
#include <capstan/server/files/file-store.h>
#include <capstan/server/files/stream.h>

namespace capstan::server::files {

namespace {

constexpr uint64_t ANSWER_WORDS = 32;          // of an answer's message, besides its data
constexpr size_t SMALL_READ_BYTES = 64 << 10;  // not worth a look before they are tried

// What a read covers of a file of this size.
struct Span {
  size_t size;
  bool atEnd;
  bool whole;
};
Span spanOf(uint64_t fileSize, uint64_t offset, size_t count) {
  if (offset >= fileSize) return {0, true, false};
  size_t size = size_t(std::min<uint64_t>(count, fileSize - offset));
  return {size, offset + size == fileSize, offset == 0 && size == fileSize};
}

// Puts the bytes where the data was to be read into, if that was allocated already: a second place would travel too.
template <typename Results>
void setBytes(Results&& results, std::string_view bytes) {
  auto data = results.hasData() ? results.getData() : results.initData(bytes.size());
  KJ_ASSERT(bytes.size() <= data.size());
  memcpy(data.begin(), bytes.data(), bytes.size());
  if (bytes.size() == data.size()) return;
  auto orphan = results.disownData();
  orphan.truncate(bytes.size());
  results.adoptData(kj::mv(orphan));
}

struct Block {
  std::string bytes;
  bool atEnd = false;
};

// The blocking form of a read. `fresh`: the cache was asked just now.
Result<Block> readBlock(FolderState& folder, const OpenFile& file, uint64_t offset, size_t count, bool fresh) {
  struct stat status;
  if (fstat(file.fd, &status) < 0) return errorFromErrno(errno, "cannot look at", file.path);
  Span span = spanOf(uint64_t(status.st_size), offset, count);
  Block block{{}, span.atEnd};
  if (span.size == 0) return block;
  if (!fresh) {
    if (auto held = folder.cache->find(status)) {
      block.bytes = held->view().substr(size_t(offset), span.size);
      return block;
    }
  }
  auto room = span.whole ? folder.cache->makeRoom(status) : nullptr;
  block.bytes.resize(span.size);
  ssize_t size = readAt(file.fd, block.bytes.data(), span.size, offset);
  if (size < 0) return errorFromErrno(errno, "cannot read", file.path);
  if (size_t(size) < span.size) {  // it became shorter meanwhile
    block.bytes.resize(size_t(size));
    block.atEnd = true;
  } else if (room != nullptr && fstat(file.fd, &status) == 0) {
    memcpy(room->data(), block.bytes.data(), span.size);
    folder.cache->insert(std::move(room), status);
  }
  return block;
}

// Whether the kernel most likely has all of a range in memory, so that an answer may be allocated for it.
bool isInPageCache(const OpenFile& file, uint64_t offset, size_t size) {
  char byte;
  return readCachedAt(file.fd, &byte, 1, offset + size - 1) == 1 && readCachedAt(file.fd, &byte, 1, offset) == 1;
}

}  // namespace

FileServer::FileServer(FolderState& folder, std::shared_ptr<const View> view, std::shared_ptr<const OpenFile> file,
                       Slot slotParam)
    : Guarded(kj::addRef(slotParam.access())),
      folder(folder),
      view(std::move(view)),
      file(std::move(file)),
      slot(kj::mv(slotParam)) {}

kj::Promise<void> FileServer::stat(StatContext context) {
  context.releaseParams();
  auto answer = [context](Result<Entry> entry) mutable {
    auto results = context.getResults();
    if (entry.ok()) {
      rpc::write(results.initEntry(), *entry);
    } else {
      rpc::setError(results.initOutcome(), entry.error());
    }
  };
  if (file->local) {
    answer(folder.entryOf(file->fd, file->path));
    return kj::READY_NOW;
  }
  return folder
      .run(slot.connection(), [&folder = folder, file = file]() { return folder.entryOf(file->fd, file->path); })
      .then(kj::mv(answer));
}

kj::Promise<void> FileServer::read(ReadContext context) {
  auto params = context.getParams();
  uint64_t offset = params.getOffset();
  size_t count = size_t(std::min<uint64_t>(params.getCount(), MAX_READ_BYTES));
  context.releaseParams();
  if (file->local && readNow(context, offset, count)) return kj::READY_NOW;
  return readOnPool(context, offset, count);
}

// Answers what the cache or the kernel has in memory; false if the disk is needed.
bool FileServer::readNow(ReadContext& context, uint64_t offset, size_t count) {
  struct stat status;
  if (fstat(file->fd, &status) < 0) return false;
  Span span = spanOf(uint64_t(status.st_size), offset, count);
  auto held = span.size > 0 ? folder.cache->find(status) : nullptr;
  if (held == nullptr && span.size > SMALL_READ_BYTES && !isInPageCache(*file, offset, span.size)) return false;
  auto results = context.getResults(capnp::MessageSize{span.size / sizeof(capnp::word) + ANSWER_WORDS, 0});
  results.setAtEnd(span.atEnd);
  if (span.size == 0) return true;
  if (held != nullptr) {
    setBytes(results, held->view().substr(size_t(offset), span.size));
    return true;
  }
  auto room = span.whole ? folder.cache->makeRoom(status) : nullptr;
  auto data = results.initData(uint(span.size));
  ssize_t size = readCachedAt(file->fd, data.begin(), span.size, offset);
  if (size < 0 || size_t(size) < span.size) return false;
  if (room != nullptr && fstat(file->fd, &status) == 0) {
    memcpy(room->data(), data.begin(), span.size);
    folder.cache->insert(std::move(room), status);
  }
  return true;
}

// What waits for the disk takes memory meanwhile, and a client may ask without listening: so only so much at a time.
kj::Promise<void> FileServer::readOnPool(ReadContext context, uint64_t offset, size_t count) {
  return slot.connection().answers.take(count).then([this, context, offset, count](Budget::Charge charge) mutable {
    return readCharged(context, offset, count).attach(kj::mv(charge));
  });
}

kj::Promise<void> FileServer::readCharged(ReadContext context, uint64_t offset, size_t count) {
  if (file->local) {
    // No more than there is room for in the answer, should the file have grown.
    auto results = context.getResults();
    if (results.hasData()) count = results.getData().size();
  }
  return folder
      .run(slot.connection(), [&folder = folder, file = file, offset,
                               count]() { return readBlock(folder, *file, offset, count, file->local); })
      .then([context](Result<Block> block) mutable {
        auto words = block.ok() ? block->bytes.size() / sizeof(capnp::word) : 0;
        auto results = context.getResults(capnp::MessageSize{words + ANSWER_WORDS, 0});
        if (block.ok()) {
          setBytes(results, block->bytes);
          results.setAtEnd(block->atEnd);
        } else {
          results.disownData();
          results.setAtEnd(false);
          rpc::setError(results.initOutcome(), block.error());
        }
      });
}

kj::Promise<void> FileServer::stream(StreamContext context) {
  rpc::allowCancellation(context);
  if (slot.connection().shuttingDown) {
    rpc::setError(context.getResults().initOutcome(), shuttingDownError());
    return kj::READY_NOW;
  }
  auto place = Slot::take(kj::addRef(*access), Resource::STREAMS, "cannot stream", file->path);
  if (!place.ok()) {
    rpc::setError(context.getResults().initOutcome(), place.error());
    return kj::READY_NOW;
  }
  auto params = context.getParams();
  auto download =
      kj::heap<Download>(folder, slot.connection(), file, params.getSink(), params.getOffset(), params.getCount());
  context.releaseParams();
  auto promise = download->run();
  return promise.attach(kj::mv(download), std::move(*place)).then([context](Result<Download::Sent> sent) mutable {
    auto results = context.getResults();
    if (sent.ok()) {
      results.setCount(sent->count);
      rpc::write(results.initEntry(), sent->entry);
    } else {
      rpc::setError(results.initOutcome(), sent.error());
    }
  });
}

kj::Promise<void> FileServer::digest(DigestContext context) {
  rpc::allowCancellation(context);
  auto algorithm = context.getParams().getAlgorithm();
  context.releaseParams();
  if (slot.connection().shuttingDown) {
    rpc::setError(context.getResults().initOutcome(), shuttingDownError());
    return kj::READY_NOW;
  }
  if (algorithm != schema::DigestAlgorithm::XXH3 && algorithm != schema::DigestAlgorithm::SHA256) {
    rpc::setError(context.getResults().initOutcome(),
                  {ErrorCode::INVALID_ARGUMENT, "no such digest algorithm; use xxh3 or sha256", file->path});
    return kj::READY_NOW;
  }
  return digestFile(folder, slot.connection(), file, static_cast<DigestAlgorithm>(algorithm))
      .then([context, algorithm](Result<FileDigest> digest) mutable {
        auto results = context.getResults();
        if (digest.ok()) {
          auto to = results.initDigest();
          to.setAlgorithm(algorithm);
          to.setValue(rpc::asData(digest->value));
          rpc::write(results.initEntry(), digest->entry);
        } else {
          rpc::setError(results.initOutcome(), digest.error());
        }
      });
}

kj::Promise<void> FileServer::chunks(ChunksContext context) {
  uint64_t offset = context.getParams().getOffset();
  uint32_t max = context.getParams().getMaxChunks();
  max = max == 0 ? MAX_CHUNKS : std::min(max, MAX_CHUNKS);
  context.releaseParams();
  if (slot.connection().shuttingDown) {
    rpc::setError(context.getResults().initOutcome(), shuttingDownError());
    return kj::READY_NOW;
  }
  return folder.run(slot.connection(), [file = file, offset, max]() { return readChunks(*file, offset, max); })
      .then([context](Result<ChunkPage> page) mutable {
        auto results = context.getResults();
        if (!page.ok()) return rpc::setError(results.initOutcome(), page.error());
        auto list = results.initChunks(uint(page->chunks.size()));
        for (uint i = 0; i < list.size(); ++i) {
          const Chunk& chunk = page->chunks[i];
          list[i].setLength(chunk.length);
          auto digest = list[i].initDigest(16);
          for (uint j = 0; j < 8; ++j) {
            digest[j] = kj::byte(chunk.high >> (56 - 8 * j));
            digest[8 + j] = kj::byte(chunk.low >> (56 - 8 * j));
          }
        }
        results.setAtEnd(page->atEnd);
        rpc::write(results.initEntry(), page->entry);
      });
}

}  // namespace capstan::server::files
