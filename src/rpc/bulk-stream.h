// Turns many small reads and writes into few large ones. Made to go below kj-tls, which moves 8 KiB at a time: with a
// system call for each of them, a TLS connection spends more time in the kernel than on encryption.
#pragma once

#include <vector>

#include <kj/async-io.h>

#include <capstan/rpc/turn-end.h>

namespace capstan::rpc {

// Belongs to one event loop. What is written is sent at the end of the loop's turn at the latest, and a write resolves
// before that, as long as not much is waiting; a failure shows in the next write. What waits when it is destroyed is
// handed to the kernel as far as that takes it at once. Memory grows with what flows, and shrinks when that ends.
class BulkStream final : public kj::AsyncIoStream, private TurnEnd {
 public:
  explicit BulkStream(kj::Own<kj::AsyncIoStream> inner);
  ~BulkStream() noexcept(false);
  KJ_DISALLOW_COPY(BulkStream);

  kj::Promise<size_t> tryRead(void* buffer, size_t minBytes, size_t maxBytes) override;
  kj::Promise<void> write(const void* buffer, size_t size) override;
  kj::Promise<void> write(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> pieces) override;
  kj::Promise<void> whenWriteDisconnected() override { return inner->whenWriteDisconnected(); }
  void shutdownWrite() override;
  void abortRead() override { inner->abortRead(); }
  kj::Maybe<int> getFd() const override { return inner->getFd(); }

 private:
  kj::Own<kj::AsyncIoStream> inner;

  // block[begin, end) has come and was not asked for yet.
  kj::Array<kj::byte> block;
  size_t begin = 0, end = 0;

  std::vector<kj::byte> pending, writing;
  bool busy = false;           // a write is going on
  bool shutdownAfter = false;  // shutdownWrite() was called, and has to wait for what is pending
  kj::Maybe<kj::Exception> failure;
  kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>> waitingForRoom;
  kj::Promise<void> writeTask = nullptr;

  size_t take(kj::byte* to, size_t most);
  kj::Promise<size_t> readMore(kj::byte* to, size_t minBytes, size_t maxBytes, size_t already);
  void resizeBlock(size_t got);
  kj::Promise<void> afterAppending();
  void atTurnEnd() override { flush(); }
  void flush();
  kj::Promise<void> writeLoop();
  void writeEnded();
};

}  // namespace capstan::rpc
