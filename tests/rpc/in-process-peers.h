// Two ends of an RPC connection in one thread, over a pipe in memory: for tests of anything that is reached through
// capabilities.
//
//   kj::EventLoop loop;  kj::WaitScope waitScope(loop);      // or setUpAsyncIo()
//   InProcessPeers peers(kj::heap<GatewayServer>(...));
//   auto gateway = peers.bootstrap<schema::Gateway>();
#pragma once

#include <kj/async-io.h>

#include <capstan/rpc/peer-connection.h>

namespace capstan::rpc {

struct InProcessPeers {
  WireCounters serverCounters;
  WireCounters clientCounters;
  kj::Own<PeerConnection>
      server;  // may be dropped in a test, to see what the client makes of it; and the other way round
  kj::Own<PeerConnection> client;

  explicit InProcessPeers(kj::Maybe<capnp::Capability::Client> bootstrap, PeerOptions options = {})
      : InProcessPeers(kj::mv(bootstrap), options, kj::newTwoWayPipe()) {}

  template <typename T>
  typename T::Client bootstrap() {
    return client->bootstrap().castAs<T>();
  }

 private:
  InProcessPeers(kj::Maybe<capnp::Capability::Client> bootstrap, PeerOptions options, kj::TwoWayPipe pipe)
      : server(kj::heap<PeerConnection>(kj::mv(pipe.ends[0]), capnp::rpc::twoparty::Side::SERVER, kj::mv(bootstrap),
                                        serverCounters, options)),
        client(kj::heap<PeerConnection>(kj::mv(pipe.ends[1]), capnp::rpc::twoparty::Side::CLIENT, nullptr,
                                        clientCounters, options)) {}
};

}  // namespace capstan::rpc
