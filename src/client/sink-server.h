// The receiving end of a stream of content: a ByteSink that hands each chunk to a ByteConsumer, straight out of the
// message.
#pragma once

#include <kj/async.h>
#include <kj/function.h>
#include <kj/refcount.h>

#include <capstan/client/transfer-types.h>
#include <capstan/schema/files.capnp.h>

namespace capstan::client {

// Between a transfer, which may end at any time, and the ByteSink, which the peer may hold for longer. Belongs to one
// event loop.
class SinkLink final : public kj::Refcounted {
 public:
  // `consumer` must stay valid until detach(). `advanced` is called with the length of each piece that the consumer
  // has taken.
  SinkLink(ByteConsumer& consumer, kj::Function<void(uint64_t)> advanced);

  // The consumer is not touched any more, also not by a write under way.
  void detach();

  // A capability for the peer.
  schema::ByteSink::Client newSink();

  // Resolves with the consumer's error when it has failed; stays open otherwise.
  kj::Promise<Error> consumerFailed();

 private:
  class Sink;

  kj::Maybe<ByteConsumer&> consumer;
  kj::Function<void(uint64_t)> advanced;
  kj::Canceler underWay;
  kj::Promise<Error> failure;
  kj::Own<kj::PromiseFulfiller<Error>> failer;

  SinkLink(kj::PromiseFulfillerPair<Error> failing, ByteConsumer& consumer, kj::Function<void(uint64_t)> advanced);
  kj::Promise<void> take(uint64_t count, kj::Promise<Status> taking);
};

}  // namespace capstan::client
