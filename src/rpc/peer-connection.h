// One RPC connection over one byte stream, either end: framing, limits, counters, the RPC system. What TwoPartyServer
// and EzRpc do in Cap'n Proto, with limits and our own framing.
#pragma once

#include <atomic>

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

namespace capstan::rpc {

struct PeerOptions {
  size_t maxMessageBytes = 8 << 20;  // a longer message, or one of more than 512 segments, ends the connection
  size_t streamWindow = 2 << 20;     // bytes in flight for each stream of calls
  size_t outgoingHighWater =
      16 << 20;  // server: with more than this waiting to be sent nothing more is read; 0: no such limit
};

// What went over the wire. Written by the connection's loop, read by any thread.
struct WireCounters {
  std::atomic<uint64_t> bytesReceived{0};
  std::atomic<uint64_t> bytesSent{0};
  std::atomic<uint64_t> messagesReceived{0};
  std::atomic<uint64_t> messagesSent{0};
};

// Belongs to one event loop. Destroying it closes the connection and breaks every capability that came through it;
// never destroy it from inside a continuation of its own onDisconnect() (hand it to an outer TaskSet through
// evalLater).
class PeerConnection {
 public:
  // `bootstrap`: what the peer gets (server side), or null. `counters` must outlive this object.
  PeerConnection(kj::Own<kj::AsyncIoStream> stream, capnp::rpc::twoparty::Side side,
                 kj::Maybe<capnp::Capability::Client> bootstrap, WireCounters& counters, PeerOptions options = {});
  ~PeerConnection() noexcept(false);
  KJ_DISALLOW_COPY(PeerConnection);

  // The peer's bootstrap capability; may be called on, pipelined, at once.
  capnp::Capability::Client bootstrap();

  // Resolves when the connection has ended, for whatever reason.
  kj::Promise<void> onDisconnect();

  // Why it ended, if that was a violation of framing or limits by the peer: a sentence for the log.
  kj::Maybe<kj::StringPtr> violation() const;

 private:
  struct Impl;
  kj::Own<Impl> impl;
};

}  // namespace capstan::rpc
