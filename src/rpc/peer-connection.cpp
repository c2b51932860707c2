#include <capstan/rpc/peer-connection.h>

namespace capstan::rpc {

struct PeerConnection::Impl {
  kj::Own<kj::AsyncIoStream> stream;
  capnp::rpc::twoparty::Side side;
  capnp::TwoPartyVatNetwork network;
  capnp::RpcSystem<capnp::rpc::twoparty::VatId> system;

  Impl(kj::Own<kj::AsyncIoStream> streamParam, capnp::rpc::twoparty::Side side,
       kj::Maybe<capnp::Capability::Client> bootstrap)
      : stream(kj::mv(streamParam)), side(side), network(*stream, side), system(network, kj::mv(bootstrap)) {}
};

PeerConnection::PeerConnection(kj::Own<kj::AsyncIoStream> stream, capnp::rpc::twoparty::Side side,
                               kj::Maybe<capnp::Capability::Client> bootstrap, WireCounters&, PeerOptions)
    : impl(kj::heap<Impl>(kj::mv(stream), side, kj::mv(bootstrap))) {}

PeerConnection::~PeerConnection() noexcept(false) {}

capnp::Capability::Client PeerConnection::bootstrap() {
  using capnp::rpc::twoparty::Side;
  capnp::MallocMessageBuilder message(4);
  auto vatId = message.initRoot<capnp::rpc::twoparty::VatId>();
  vatId.setSide(impl->side == Side::CLIENT ? Side::SERVER : Side::CLIENT);
  return impl->system.bootstrap(vatId);
}

kj::Promise<void> PeerConnection::onDisconnect() { return impl->network.onDisconnect(); }

kj::Maybe<kj::StringPtr> PeerConnection::violation() const { return nullptr; }

}  // namespace capstan::rpc
