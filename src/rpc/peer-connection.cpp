#include <capstan/rpc/peer-connection.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <capstan/rpc/message-stream.h>
#include <capstan/rpc/two-party-network.h>

namespace capstan::rpc {

namespace {

using capnp::rpc::twoparty::Side;
using capnp::rpc::twoparty::VatId;

// Messages are coalesced here already; Nagle's algorithm would only delay them. On a Unix socket this fails, which is
// as well.
void sendAtOnce(kj::AsyncIoStream& stream) {
  KJ_IF_MAYBE (fd, stream.getFd()) {
    int on = 1;
    setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  }
}

// Only servers pause: if both ends did, each could wait for the other one for ever.
size_t pauseAbove(Side side, const PeerOptions& options) {
  return side == Side::SERVER ? options.outgoingHighWater : 0;
}

}  // namespace

struct PeerConnection::Impl {
  // In this order, so that the RPC system goes first and the byte stream last.
  kj::Own<kj::AsyncIoStream> bytes;
  Side side;
  const size_t incomingHighWater;
  MessageStream messages;
  TwoPartyNetwork network;
  capnp::RpcSystem<VatId> system;
  capnp::Capability::Client peer;

  Impl(kj::Own<kj::AsyncIoStream> bytesParam, Side side, kj::Maybe<capnp::Capability::Client> bootstrap,
       WireCounters& counters, const PeerOptions& options)
      : bytes(kj::mv(bytesParam)),
        side(side),
        incomingHighWater(options.incomingHighWater > 0 ? options.incomingHighWater : SIZE_MAX),
        messages(*bytes, counters, options.maxMessageBytes, pauseAbove(side, options)),
        network(messages, side, options),
        system(network, kj::mv(bootstrap)),
        peer(nullptr) {
    sendAtOnce(*bytes);
    if (side == Side::CLIENT) {
      // The RPC system takes no notice of the connection, nor of its end, before it is asked for something.
      peer = askForBootstrap();
    } else {
      if (options.strangersMessages > 0) messages.allowOnly(options.strangersMessages);
      if (options.strangersMessageBytes > 0) messages.holdBackAbove(options.strangersMessageBytes);
      pauseReadingAbove(options.strangersHighWater > 0 ? options.strangersHighWater : incomingHighWater);
    }
  }

  void pauseReadingAbove(size_t bytes) {
    if (side == Side::SERVER && bytes > 0) system.setFlowLimit(bytes / sizeof(capnp::word));
  }

  capnp::Capability::Client askForBootstrap() {
    capnp::MallocMessageBuilder message(4);
    auto vatId = message.initRoot<VatId>();
    vatId.setSide(side == Side::CLIENT ? Side::SERVER : Side::CLIENT);
    return system.bootstrap(vatId);
  }
};

PeerConnection::PeerConnection(kj::Own<kj::AsyncIoStream> stream, Side side,
                               kj::Maybe<capnp::Capability::Client> bootstrap, WireCounters& counters,
                               PeerOptions options)
    : impl(kj::heap<Impl>(kj::mv(stream), side, kj::mv(bootstrap), counters, options)) {}

PeerConnection::~PeerConnection() noexcept(false) {}

capnp::Capability::Client PeerConnection::bootstrap() {
  return impl->side == Side::CLIENT ? impl->peer : impl->askForBootstrap();
}

kj::Promise<void> PeerConnection::onDisconnect() { return impl->network.onDisconnect(); }

kj::Promise<void> PeerConnection::flushed() { return impl->messages.flushed(); }

void PeerConnection::trust() {
  impl->messages.allowOnly(UINT64_MAX);
  impl->messages.holdBackAbove(SIZE_MAX);
  impl->pauseReadingAbove(impl->incomingHighWater);
}

kj::Maybe<kj::StringPtr> PeerConnection::violation() const { return impl->messages.violation(); }

}  // namespace capstan::rpc
