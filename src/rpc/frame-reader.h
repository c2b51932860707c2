// The receiving half of the framing: bytes in, whole messages out. One read() serves many small messages; a large
// message is read straight into memory of its own. Segment table and size are checked before anything is allocated for
// a message.
#pragma once

#include <capnp/message.h>
#include <capnp/rpc.h>
#include <kj/async-io.h>

#include <capstan/rpc/peer-options.h>

namespace capstan::rpc {

inline constexpr uint64_t MAX_SEGMENTS = 512;

// One message in memory of its own. A reader of Cap'n Proto and what its RPC system wants to be handed, in one object.
class ReceivedMessage final : public capnp::MessageReader, public capnp::IncomingRpcMessage {
 public:
  // `table`: the segment table as it came, already checked; `totalWords`: the sum of its sizes.
  ReceivedMessage(capnp::ReaderOptions options, kj::ArrayPtr<const kj::byte> table, size_t totalWords);

  // All segments, one after the other, to be filled from the wire.
  kj::ArrayPtr<kj::byte> content() { return words.asBytes(); }

  kj::ArrayPtr<const capnp::word> getSegment(uint id) override;
  capnp::AnyPointer::Reader getBody() override { return getRoot<capnp::AnyPointer>(); }
  // What the flow control of calls counts: the message, and about what a call takes while it is not answered. So many
  // tiny calls are held back as well as few large ones.
  size_t sizeInWords() override { return words.size() + CALL_WORDS; }

  static constexpr size_t CALL_WORDS = 128;

 private:
  kj::Array<capnp::word> words;
  kj::ArrayPtr<const capnp::word> firstSegment;
  kj::Array<kj::ArrayPtr<const capnp::word>> moreSegments;
};

class FrameReader {
 public:
  FrameReader(size_t maxMessageBytes, capnp::ReaderOptions options, WireCounters& counters);
  ~FrameReader() noexcept(false);
  KJ_DISALLOW_COPY(FrameReader);

  // The next message, if the whole of it is here; null: call fill(). Throws FAILED if the peer broke the framing or a
  // limit.
  kj::Maybe<kj::Own<ReceivedMessage>> next();

  // Reads once. False at the end of the stream; throws DISCONNECTED if that is in the middle of a message. Only to be
  // called after next() answered null, one call at a time.
  kj::Promise<bool> fill(kj::AsyncInputStream& stream);

  // From now on a message with more content than this is given no memory, and not read beyond the buffer: fill() waits,
  // until the bound is lifted with SIZE_MAX. The first message of all is refused. Precondition: at least CHUNK_BYTES.
  void holdBackAbove(size_t bytes);

  // Throws, and lets violation() answer this.
  [[noreturn]] void refuse(kj::String sentence);

  // How the peer broke the framing or a limit: a sentence for the log.
  kj::Maybe<kj::StringPtr> violation() const;

 private:
  // Constant after construction.
  const size_t maxMessageBytes;
  const capnp::ReaderOptions options;
  WireCounters& counters;

  // buffer[begin, end) was received and not yet looked at. A chunk (chunks.h) while much comes in, else a small one.
  kj::Array<kj::byte> buffer;
  size_t begin = 0;
  size_t end = 0;

  // A large message that is being received, and the part of its content that is still to come.
  kj::Own<ReceivedMessage> partial;
  kj::ArrayPtr<kj::byte> missing;
  bool largeBefore = false;
  bool busy = false;  // the last read brought as much as the small buffer takes

  size_t mostContent = SIZE_MAX;
  bool isHeldBack = false;  // the next message has more content than that
  kj::Maybe<kj::Own<kj::PromiseFulfiller<bool>>> heldBack;

  kj::Maybe<kj::String> violationText;

  kj::Own<ReceivedMessage> received(kj::Own<ReceivedMessage> message);
  void prepareBuffer();
  kj::Promise<bool> fillPartial(kj::AsyncInputStream& stream);
};

}  // namespace capstan::rpc
