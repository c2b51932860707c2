// One RPC connection over one byte stream, either end: framing, limits, counters, the RPC system. What TwoPartyServer
// and EzRpc do in Cap'n Proto, with limits and our own framing.
#pragma once

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include <capstan/rpc/peer-options.h>

namespace capstan::rpc {

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

  // Resolves when everything that was queued so far has been handed to the kernel, or the connection has ended.
  // Destroying the connection drops what is queued.
  kj::Promise<void> flushed();

  // The peer has shown who it is: from now on it has all that PeerOptions give.
  void trust();

  // Why it ended, if that was a violation of framing or limits by the peer: a sentence for the log.
  kj::Maybe<kj::StringPtr> violation() const;

 private:
  struct Impl;
  kj::Own<Impl> impl;
};

}  // namespace capstan::rpc
