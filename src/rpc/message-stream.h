// A byte stream as a stream of Cap'n Proto messages in both directions, for one connection: buffered reads, coalesced
// writes, limits, back-pressure, and one end for both directions. Not a capnp::MessageStream: that interface answers
// each write with a promise, and the chain of them is a third of what a call costs (see two-party-network.h).
#pragma once

#include <capstan/rpc/frame-reader.h>
#include <capstan/rpc/frame-writer.h>
#include <capstan/rpc/turn-end.h>

namespace capstan::rpc {

using MaybeMessage = kj::Maybe<kj::Own<capnp::IncomingRpcMessage>>;

class MessageStream final : private TurnEnd {
 public:
  // `pauseAbove`: with more bytes than this waiting to be sent, receive() waits; 0: never. `stream` and `counters` must
  // outlive this.
  MessageStream(kj::AsyncIoStream& stream, WireCounters& counters, size_t maxMessageBytes, size_t pauseAbove);
  ~MessageStream() noexcept(false);
  KJ_DISALLOW_COPY(MessageStream);

  // The next message; null at the end of the stream. Rejected with FAILED when the peer broke the framing or a limit,
  // with DISCONNECTED when the connection broke (also if that showed when writing). One call at a time; may be dropped,
  // but then the stream is of no more use.
  kj::Promise<MaybeMessage> receive();

  // `look` is called with each message before receive() answers it; what it throws ends the stream.
  void inspectWith(void (*look)(capnp::IncomingRpcMessage&)) { inspect = look; }

  // So many more messages, and the next one breaks a limit.
  void allowOnly(uint64_t count) { allowed = count; }

  // See FrameReader::holdBackAbove().
  void holdBackAbove(size_t bytes) { reader.holdBackAbove(bytes); }

  // Queues a message, which is sent at the end of the loop's turn at the latest. After the connection broke: does
  // nothing. Precondition: at most maxMessageBytes and 512 segments. `ownerOf` is asked for what keeps the segments
  // alive if they are not copied.
  template <typename OwnerOf>
  void send(Segments segments, OwnerOf&& ownerOf) {
    if (!writer.tryQueueCopy(segments)) writer.queueByReference(segments, ownerOf());
    if (writer.worthFlushing()) {
      writer.flush();
    } else {
      schedule();
    }
  }

  // Bytes queued and not yet taken by the kernel.
  size_t queuedBytes() const { return writer.queuedBytes(); }

  // Resolves when everything that was queued has been taken by the kernel, or the connection broke.
  kj::Promise<void> flushed();

  // Sends what is queued, as far as the kernel takes it at once, and shuts down the sending direction. Never rejects.
  kj::Promise<void> end();

  // See FrameReader::violation().
  kj::Maybe<kj::StringPtr> violation() const { return reader.violation(); }

 private:
  kj::AsyncIoStream& stream;
  const size_t pauseAbove;
  void (*inspect)(capnp::IncomingRpcMessage&) = nullptr;
  uint64_t allowed = UINT64_MAX;
  FrameReader reader;
  FrameWriter writer;

  kj::Maybe<kj::Exception> writeFailure;
  kj::Canceler readCanceler;  // ends a read when a write fails: otherwise nobody would hear of that
  kj::Maybe<kj::Own<kj::PromiseFulfiller<kj::Promise<bool>>>> wantsFill;

  kj::Promise<bool> fill();
  kj::Promise<MaybeMessage> receiveStep();
  void atTurnEnd() override;
  void failed(const kj::Exception& exception);
};

}  // namespace capstan::rpc
