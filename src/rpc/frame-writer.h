// The sending half of the framing: messages are queued, and leave in as few system calls as possible. Small messages
// are copied into an output buffer; of large ones the segments are gathered by reference, without a copy.
#pragma once

#include <vector>

#include <capnp/rpc.h>
#include <kj/async-io.h>
#include <kj/function.h>
#include <kj/vector.h>

#include <capstan/rpc/peer-options.h>

namespace capstan::rpc {

using Segments = kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>>;

class FrameWriter {
 public:
  // `onFailure` is called once, when a write fails; from then on everything is dropped.
  FrameWriter(kj::AsyncOutputStream& stream, WireCounters& counters,
              kj::Function<void(const kj::Exception&)> onFailure);
  ~FrameWriter() noexcept(false);
  KJ_DISALLOW_COPY(FrameWriter);

  // Queues a message if it is small enough to be copied: the segments need not live longer than this call. False: it is
  // not, and nothing was done; call queueByReference().
  bool tryQueueCopy(Segments segments);
  // Queues a message whose segments stay valid as long as `owner` lives, which is until they are sent.
  void queueByReference(Segments segments, kj::Own<capnp::OutgoingRpcMessage> owner);

  // Begins to write what is queued, unless a write is going on (which is followed by the next one by itself).
  void flush();
  // Enough is queued to be worth a system call of its own.
  bool worthFlushing() const { return !busy && pending.bytes >= FLUSH_BYTES; }

  // Bytes queued and not yet taken by the kernel, those of a write that is going on included.
  size_t queuedBytes() const { return pending.bytes + writing.bytes; }
  bool hasPending() const { return pending.bytes > 0; }
  // Resolves once queuedBytes() is at most `bytes`, or a write failed.
  kj::Promise<void> whenAtMost(size_t bytes);

 private:
  static constexpr size_t FLUSH_BYTES = 256 << 10;

  // What one system call takes. The memory that `pieces` points to is held by `chunks` and `owners`.
  struct Batch {
    kj::Vector<kj::ArrayPtr<const kj::byte>> pieces;
    kj::Vector<kj::Array<kj::byte>> chunks;  // see chunks.h
    kj::Vector<kj::Own<capnp::OutgoingRpcMessage>> owners;
    size_t bytes = 0;
    uint64_t messages = 0;
  };

  // Constant after construction.
  kj::AsyncOutputStream& stream;
  WireCounters& counters;
  kj::Function<void(const kj::Exception&)> onFailure;

  Batch pending;
  Batch writing;
  kj::ArrayPtr<kj::byte> room;  // the unused end of pending's last chunk
  bool failed = false;
  bool busy = false;  // a write is going on
  kj::Promise<void> writeTask = nullptr;

  struct Waiter {
    size_t atMost;
    kj::Own<kj::PromiseFulfiller<void>> fulfiller;
  };
  std::vector<Waiter> waiters;

  kj::byte* append(size_t bytes);
  void appendTable(Segments segments);
  void appendCopy(kj::ArrayPtr<const kj::byte> bytes);
  kj::Promise<void> writeLoop();
  void written();
  void writeFailed(const kj::Exception& exception);
  void releaseWaiters();
  void clear(Batch& batch);
};

}  // namespace capstan::rpc
