#include <capstan/rpc/frame-writer.h>

#include <cstring>

#include <kj/debug.h>

#include <capstan/rpc/chunks.h>

namespace capstan::rpc {

namespace {

constexpr size_t MAX_COPIED_MESSAGE = 8 << 10;
constexpr size_t MANY_PIECES = 64;

// Also in a large message a segment of no more than this is copied: cheaper than one more element for writev().
constexpr size_t MAX_COPIED_SEGMENT = 1 << 10;

void putLittleEndian(kj::byte* to, uint32_t number) {
  to[0] = kj::byte(number);
  to[1] = kj::byte(number >> 8);
  to[2] = kj::byte(number >> 16);
  to[3] = kj::byte(number >> 24);
}

size_t tableBytes(Segments segments) { return (segments.size() / 2 + 1) * sizeof(capnp::word); }

size_t frameBytes(Segments segments) {
  size_t bytes = tableBytes(segments);
  for (auto& segment : segments) bytes += segment.size() * sizeof(capnp::word);
  return bytes;
}

}  // namespace

FrameWriter::FrameWriter(kj::AsyncOutputStream& stream, WireCounters& counters,
                         kj::Function<void(const kj::Exception&)> onFailure)
    : stream(stream), counters(counters), onFailure(kj::mv(onFailure)) {}

FrameWriter::~FrameWriter() noexcept(false) {
  writeTask = nullptr;  // it writes what is cleared
  clear(pending);
  clear(writing);
}

bool FrameWriter::tryQueueCopy(Segments segments) {
  size_t bytes = frameBytes(segments);
  if (bytes > MAX_COPIED_MESSAGE) return false;
  if (failed) return true;
  pending.bytes += bytes;
  ++pending.messages;
  appendTable(segments);
  for (auto& segment : segments) appendCopy(segment.asBytes());
  return true;
}

void FrameWriter::queueByReference(Segments segments, kj::Own<capnp::OutgoingRpcMessage> owner) {
  if (failed) return;
  pending.bytes += frameBytes(segments);
  ++pending.messages;
  appendTable(segments);
  for (auto& segment : segments) {
    auto bytes = segment.asBytes();
    if (bytes.size() <= MAX_COPIED_SEGMENT) {
      appendCopy(bytes);
    } else {
      pending.pieces.add(bytes);
    }
  }
  pending.owners.add(kj::mv(owner));
}

void FrameWriter::flush() {
  if (busy || pending.bytes == 0) return;
  busy = true;
  // evalNow: a stream may also throw instead of answering a rejected promise.
  writeTask = kj::evalNow([this]() { return writeLoop(); }).eagerlyEvaluate([this](kj::Exception&& exception) {
    writeFailed(exception);
  });
}

kj::Promise<void> FrameWriter::writeLoop() {
  std::swap(pending, writing);
  room = nullptr;
  auto& pieces = writing.pieces;
  auto promise = pieces.size() == 1 ? stream.write(pieces[0].begin(), pieces[0].size()) : stream.write(pieces);
  return promise.then([this]() -> kj::Promise<void> {
    written();
    if (pending.bytes > 0) return writeLoop();
    busy = false;
    return kj::READY_NOW;
  });
}

kj::Promise<void> FrameWriter::whenAtMost(size_t bytes) {
  if (failed || queuedBytes() <= bytes) return kj::READY_NOW;
  auto paf = kj::newPromiseAndFulfiller<void>();
  waiters.push_back({bytes, kj::mv(paf.fulfiller)});
  return kj::mv(paf.promise);
}

kj::byte* FrameWriter::append(size_t bytes) {
  if (room.size() < bytes) {
    auto chunk = takeChunk();
    KJ_ASSERT(chunk.size() >= bytes);
    room = chunk;
    pending.chunks.add(kj::mv(chunk));
  }
  kj::byte* at = room.begin();
  room = room.slice(bytes, room.size());
  bool contiguous = pending.pieces.size() > 0 && pending.pieces.back().end() == at;
  if (contiguous) {
    auto& last = pending.pieces.back();
    last = kj::arrayPtr(last.begin(), last.size() + bytes);
  } else {
    pending.pieces.add(kj::arrayPtr(at, bytes));
  }
  return at;
}

void FrameWriter::appendTable(Segments segments) {
  size_t bytes = tableBytes(segments);
  kj::byte* table = append(bytes);
  putLittleEndian(table, segments.size() - 1);
  for (size_t id = 0; id < segments.size(); ++id) {
    putLittleEndian(table + (1 + id) * sizeof(uint32_t), segments[id].size());
  }
  if (segments.size() % 2 == 0) putLittleEndian(table + bytes - sizeof(uint32_t), 0);
}

void FrameWriter::appendCopy(kj::ArrayPtr<const kj::byte> bytes) {
  if (bytes.size() > 0) memcpy(append(bytes.size()), bytes.begin(), bytes.size());
}

void FrameWriter::written() {
  counters.bytesSent.fetch_add(writing.bytes, std::memory_order_relaxed);
  counters.messagesSent.fetch_add(writing.messages, std::memory_order_relaxed);
  clear(writing);
  releaseWaiters();
}

void FrameWriter::writeFailed(const kj::Exception& exception) {
  failed = true;
  clear(writing);
  clear(pending);
  room = nullptr;
  releaseWaiters();
  onFailure(exception);
}

void FrameWriter::releaseWaiters() {
  std::erase_if(waiters, [this](Waiter& waiter) {
    bool reached = failed || queuedBytes() <= waiter.atMost;
    if (reached) waiter.fulfiller->fulfill();
    return reached;
  });
}

void FrameWriter::clear(Batch& batch) {
  for (auto& chunk : batch.chunks) giveChunk(kj::mv(chunk));
  batch.chunks.clear();
  batch.owners.clear();
  // Most batches have few pieces; the memory for many is not kept for one that had.
  if (batch.pieces.capacity() > MANY_PIECES) {
    batch = {};
    return;
  }
  batch.pieces.clear();
  batch.bytes = 0;
  batch.messages = 0;
}

}  // namespace capstan::rpc
