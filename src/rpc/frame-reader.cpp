#include <capstan/rpc/frame-reader.h>

#include <cstring>

#include <kj/debug.h>

#include <capstan/rpc/chunks.h>

namespace capstan::rpc {

namespace {

constexpr size_t WORD = sizeof(capnp::word);
// What an idle connection waits with. Most messages are smaller. (When busy, 256 KiB were no faster than a chunk,
// neither with small messages nor with large ones.)
constexpr size_t IDLE_BYTES = 1 << 10;

// A message of more than this that is not whole in the buffer gets its memory at once.
constexpr size_t DIRECT_BYTES = 16 << 10;

// After a large message another one is likely, and what of it is read into the buffer has to be copied out again: read
// little.
constexpr size_t READ_AFTER_LARGE = 4 << 10;

uint32_t littleEndian(const kj::byte* bytes) {
  return uint32_t(bytes[0]) | uint32_t(bytes[1]) << 8 | uint32_t(bytes[2]) << 16 | uint32_t(bytes[3]) << 24;
}

uint32_t segmentSize(kj::ArrayPtr<const kj::byte> table, size_t id) {
  return littleEndian(table.begin() + (1 + id) * sizeof(uint32_t));
}

}  // namespace

ReceivedMessage::ReceivedMessage(capnp::ReaderOptions options, kj::ArrayPtr<const kj::byte> table, size_t totalWords)
    : MessageReader(options), words(kj::heapArray<capnp::word>(totalWords)) {
  size_t segments = size_t(littleEndian(table.begin())) + 1;
  size_t at = segmentSize(table, 0);
  firstSegment = words.slice(0, at);
  if (segments == 1) return;
  moreSegments = kj::heapArray<kj::ArrayPtr<const capnp::word>>(segments - 1);
  for (size_t id = 1; id < segments; ++id) {
    size_t size = segmentSize(table, id);
    moreSegments[id - 1] = words.slice(at, at + size);
    at += size;
  }
}

kj::ArrayPtr<const capnp::word> ReceivedMessage::getSegment(uint id) {
  if (id == 0) return firstSegment;
  return id <= moreSegments.size() ? moreSegments[id - 1] : nullptr;
}

FrameReader::FrameReader(size_t maxMessageBytes, capnp::ReaderOptions options, WireCounters& counters)
    : maxMessageBytes(maxMessageBytes), options(options), counters(counters) {}

FrameReader::~FrameReader() noexcept(false) {
  if (buffer.size() == CHUNK_BYTES) giveChunk(kj::mv(buffer));
}

kj::Maybe<kj::Own<ReceivedMessage>> FrameReader::next() {
  if (partial.get() != nullptr) {
    if (missing.size() > 0) return nullptr;
    return received(kj::mv(partial));
  }
  kj::ArrayPtr<const kj::byte> available = buffer.slice(begin, end);
  if (available.size() < WORD) return nullptr;

  // In 64 bits, so that a count of 0xFFFFFFFF does not wrap around to none.
  uint64_t segments = uint64_t(littleEndian(available.begin())) + 1;
  if (segments > MAX_SEGMENTS) {
    refuse(kj::str("the peer sent what is no message, or one of ", segments, " segments; ", MAX_SEGMENTS,
                   " are the limit"));
  }
  size_t tableBytes = (segments / 2 + 1) * WORD;
  if (available.size() < tableBytes) return nullptr;
  auto table = available.slice(0, tableBytes);
  uint64_t totalWords = 0;
  for (size_t id = 0; id < segments; ++id) totalWords += segmentSize(table, id);
  if (totalWords > maxMessageBytes / WORD) {
    refuse(kj::str("the peer sent a message of ", totalWords * WORD, " bytes; ", maxMessageBytes, " are the limit"));
  }

  size_t contentBytes = totalWords * WORD;
  isHeldBack = contentBytes > mostContent;
  if (isHeldBack) {
    // Behind other messages it may follow from them that the bound is lifted.
    if (counters.messagesReceived == 0) {
      refuse(kj::str("the peer began with a message of ", contentBytes, " bytes; ", mostContent, " are the limit"));
    }
    return nullptr;
  }
  auto arrived = available.slice(tableBytes, available.size());
  bool whole = arrived.size() >= contentBytes;
  if (!whole && contentBytes <= DIRECT_BYTES) return nullptr;
  auto message = kj::heap<ReceivedMessage>(options, table, totalWords);
  auto content = message->content();
  size_t copied = kj::min(arrived.size(), contentBytes);
  if (copied > 0) memcpy(content.begin(), arrived.begin(), copied);
  begin += tableBytes + copied;
  if (whole) {
    largeBefore = false;
    return received(kj::mv(message));
  }
  largeBefore = true;
  partial = kj::mv(message);
  missing = content.slice(copied, contentBytes);
  return nullptr;
}

kj::Promise<bool> FrameReader::fill(kj::AsyncInputStream& stream) {
  if (partial.get() != nullptr) return fillPartial(stream);
  prepareBuffer();
  size_t room = buffer.size() - end;
  // As long as there is room for it, a peer's end is noticed.
  if (isHeldBack && room == 0) {
    auto paf = kj::newPromiseAndFulfiller<bool>();
    heldBack = kj::mv(paf.fulfiller);
    return kj::mv(paf.promise);
  }
  if (largeBefore) room = kj::min(room, READ_AFTER_LARGE);
  return stream.tryRead(buffer.begin() + end, 1, room).then([this](size_t count) {
    counters.bytesReceived.fetch_add(count, std::memory_order_relaxed);
    if (count == 0 && end > 0) {
      kj::throwFatalException(KJ_EXCEPTION(DISCONNECTED, "the connection ended in the middle of a message"));
    }
    end += count;
    busy = count >= IDLE_BYTES;
    return count > 0;
  });
}

// Moves what is there to the front of a buffer that fits what is to be expected.
void FrameReader::prepareBuffer() {
  // At most DIRECT_BYTES and a table, the beginning of a message that is still incomplete.
  auto begun = buffer.slice(begin, end);
  size_t wanted = busy || begun.size() > 0 ? CHUNK_BYTES : IDLE_BYTES;
  if (buffer.size() == wanted) {
    if (begin > 0) memmove(buffer.begin(), begun.begin(), begun.size());
  } else {
    auto next = wanted == CHUNK_BYTES ? takeChunk() : kj::heapArray<kj::byte>(wanted);
    if (begun.size() > 0) memcpy(next.begin(), begun.begin(), begun.size());
    if (buffer.size() == CHUNK_BYTES) giveChunk(kj::mv(buffer));
    buffer = kj::mv(next);
  }
  end = begun.size();
  begin = 0;
}

kj::Promise<bool> FrameReader::fillPartial(kj::AsyncInputStream& stream) {
  return stream.tryRead(missing.begin(), missing.size(), missing.size()).then([this](size_t count) {
    counters.bytesReceived.fetch_add(count, std::memory_order_relaxed);
    if (count < missing.size()) {
      kj::throwFatalException(KJ_EXCEPTION(DISCONNECTED, "the connection ended in the middle of a message"));
    }
    missing = nullptr;
    return true;
  });
}

void FrameReader::holdBackAbove(size_t bytes) {
  mostContent = bytes;
  isHeldBack = false;  // next() looks again
  KJ_IF_MAYBE (fulfiller, heldBack) {
    (*fulfiller)->fulfill(true);
  }
  heldBack = nullptr;
}

kj::Maybe<kj::StringPtr> FrameReader::violation() const {
  KJ_IF_MAYBE (text, violationText) {
    return kj::StringPtr(*text);
  }
  return nullptr;
}

void FrameReader::refuse(kj::String sentence) {
  kj::Exception exception(kj::Exception::Type::FAILED, __FILE__, __LINE__, kj::str(sentence));
  violationText = kj::mv(sentence);
  kj::throwFatalException(kj::mv(exception));
}

kj::Own<ReceivedMessage> FrameReader::received(kj::Own<ReceivedMessage> message) {
  counters.messagesReceived.fetch_add(1, std::memory_order_relaxed);
  return message;
}

}  // namespace capstan::rpc
