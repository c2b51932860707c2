#include <capstan/rpc/bulk-stream.h>

#include <sys/socket.h>

#include <cstring>

namespace capstan::rpc {

namespace {

constexpr size_t SMALLEST_BLOCK = 1 << 10;
constexpr size_t LARGEST_BLOCK = 256 << 10;

// From here on a write is begun at once, and the next one waits for it.
constexpr size_t MOST_PENDING = 256 << 10;

// More capacity than this is given back when nothing waits any more.
constexpr size_t KEPT_CAPACITY = 2 << 10;

}  // namespace

BulkStream::BulkStream(kj::Own<kj::AsyncIoStream> inner) : inner(kj::mv(inner)) {}

BulkStream::~BulkStream() noexcept(false) {
  // The last message often tells why the connection ends. In the middle of a write it would come out of order.
  if (busy || pending.empty()) return;
  KJ_IF_MAYBE (fd, inner->getFd()) {
    // What the kernel does not take is lost, as it would be without a buffer.
    [[maybe_unused]] ssize_t sent = send(*fd, pending.data(), pending.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }
}

kj::Promise<size_t> BulkStream::tryRead(void* buffer, size_t minBytes, size_t maxBytes) {
  auto to = static_cast<kj::byte*>(buffer);
  size_t taken = take(to, maxBytes);
  if (taken >= minBytes) return taken;
  return readMore(to + taken, minBytes - taken, maxBytes - taken, taken);
}

size_t BulkStream::take(kj::byte* to, size_t most) {
  size_t count = kj::min(most, end - begin);
  if (count == 0) return 0;
  memcpy(to, block.begin() + begin, count);
  begin += count;
  return count;
}

kj::Promise<size_t> BulkStream::readMore(kj::byte* to, size_t minBytes, size_t maxBytes, size_t already) {
  resizeBlock(end);
  begin = end = 0;
  return inner->tryRead(block.begin(), 1, block.size())
      .then([this, to, minBytes, maxBytes, already](size_t got) -> kj::Promise<size_t> {
        end = got;
        if (got == 0) return already;
        size_t taken = take(to, maxBytes);
        if (taken >= minBytes) return already + taken;
        return readMore(to + taken, minBytes - taken, maxBytes - taken, already + taken);
      });
}

// `got` is what the last read brought: a full block asks for a larger one, a nearly empty one for a smaller.
void BulkStream::resizeBlock(size_t got) {
  size_t size = block.size();
  if (size == 0) {
    size = SMALLEST_BLOCK;
  } else if (got == size) {
    size = kj::min(size * 4, LARGEST_BLOCK);
  } else if (got < size / 16) {
    size = SMALLEST_BLOCK;
  }
  if (size != block.size()) block = kj::heapArray<kj::byte>(size);
}

kj::Promise<void> BulkStream::write(const void* buffer, size_t size) {
  auto from = static_cast<const kj::byte*>(buffer);
  pending.insert(pending.end(), from, from + size);
  return afterAppending();
}

kj::Promise<void> BulkStream::write(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> pieces) {
  for (auto& piece : pieces) pending.insert(pending.end(), piece.begin(), piece.end());
  return afterAppending();
}

kj::Promise<void> BulkStream::afterAppending() {
  KJ_IF_MAYBE (exception, failure) {
    pending.clear();
    return kj::cp(*exception);
  }
  if (pending.size() < MOST_PENDING) {
    schedule();
    return kj::READY_NOW;
  }
  flush();
  if (pending.size() < MOST_PENDING) return kj::READY_NOW;
  auto paf = kj::newPromiseAndFulfiller<void>();
  waitingForRoom = kj::mv(paf.fulfiller);
  return kj::mv(paf.promise);
}

void BulkStream::flush() {
  if (busy || pending.empty() || failure != nullptr) return;
  busy = true;
  // `this`: the task is a member.
  writeTask = kj::evalNow([this]() { return writeLoop(); }).eagerlyEvaluate([this](kj::Exception&& exception) {
    failure = kj::mv(exception);
    pending.clear();
    writeEnded();
  });
}

kj::Promise<void> BulkStream::writeLoop() {
  std::swap(pending, writing);
  KJ_IF_MAYBE (fulfiller, waitingForRoom) {
    auto waiting = kj::mv(*fulfiller);
    waitingForRoom = nullptr;
    waiting->fulfill();
  }
  return inner->write(writing.data(), writing.size()).then([this]() -> kj::Promise<void> {
    writing.clear();
    if (!pending.empty()) return writeLoop();
    writeEnded();
    return kj::READY_NOW;
  });
}

void BulkStream::writeEnded() {
  busy = false;
  for (auto* buffer : {&pending, &writing}) {
    if (buffer->empty() && buffer->capacity() > KEPT_CAPACITY) std::vector<kj::byte>().swap(*buffer);
  }
  KJ_IF_MAYBE (fulfiller, waitingForRoom) {
    KJ_IF_MAYBE (exception, failure) {
      (*fulfiller)->reject(kj::cp(*exception));
    }
    waitingForRoom = nullptr;
  }
  if (shutdownAfter) {
    shutdownAfter = false;
    kj::runCatchingExceptions([this]() { inner->shutdownWrite(); });
  }
}

void BulkStream::shutdownWrite() {
  flush();
  if (busy) {
    shutdownAfter = true;
  } else {
    inner->shutdownWrite();
  }
}

}  // namespace capstan::rpc
