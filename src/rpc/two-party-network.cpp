#include <capstan/rpc/two-party-network.h>

#include <capnp/rpc.capnp.h>
#include <kj/debug.h>

namespace capstan::rpc {

namespace {

using capnp::rpc::twoparty::Side;
using capnp::rpc::twoparty::VatId;

Side otherSide(Side side) { return side == Side::CLIENT ? Side::SERVER : Side::CLIENT; }

// Most messages fit in this, which is part of their object: no allocation. The RPC system asks for 0 words when it has
// no idea of the size, and 8 KiB, which the library then takes and zeroes, are far too much for a call without
// parameters.
constexpr size_t SCRATCH_WORDS = 64;

// Where an exception in the message tells its type, or null.
kj::Maybe<capnp::rpc::Exception::Reader> exceptionIn(capnp::rpc::Message::Reader message) {
  if (message.isReturn() && message.getReturn().isException()) return message.getReturn().getException();
  if (message.isResolve() && message.getResolve().isException()) return message.getResolve().getException();
  if (message.isAbort()) return message.getAbort();
  return nullptr;
}

// The library copies the type of an exception unchecked into kj::Exception, whose formatting then reads past the end of
// a table. So a type that does not exist becomes `failed` in the received bytes, which are ours, before the RPC system
// sees them.
void clampExceptionType(capnp::IncomingRpcMessage& message) {
  constexpr size_t TYPE_OFFSET = 4;  // of rpc::Exception::type in the data section, bytes
  KJ_IF_MAYBE (exception, exceptionIn(message.getBody().getAs<capnp::rpc::Message>())) {
    if (uint16_t(exception->getType()) <= uint16_t(capnp::rpc::Exception::Type::UNIMPLEMENTED)) return;
    auto data = capnp::toAny(*exception).getDataSection();
    KJ_ASSERT(data.size() >= TYPE_OFFSET + sizeof(uint16_t));
    auto* type = const_cast<kj::byte*>(data.begin()) + TYPE_OFFSET;
    type[0] = type[1] = 0;
  }
}

}  // namespace

class TwoPartyNetwork::OutgoingMessage final : public capnp::OutgoingRpcMessage, public kj::Refcounted {
 public:
  OutgoingMessage(TwoPartyNetwork& network) : network(network), message(kj::arrayPtr(scratch, SCRATCH_WORDS)) {}
  OutgoingMessage(TwoPartyNetwork& network, uint firstSegmentWords) : network(network), message(firstSegmentWords) {}

  capnp::AnyPointer::Builder getBody() override { return message.getRoot<capnp::AnyPointer>(); }
  size_t sizeInWords() override { return message.sizeInWords(); }

  void send() override {
    auto segments = message.getSegmentsForOutput();
    size_t bytes = 0;
    for (auto& segment : segments) bytes += segment.size() * sizeof(capnp::word);
    KJ_REQUIRE(bytes <= network.options.maxMessageBytes && segments.size() <= MAX_SEGMENTS,
               "a message is larger than the connection's limit", bytes, segments.size());
    network.stream.send(segments, [this]() -> kj::Own<capnp::OutgoingRpcMessage> { return kj::addRef(*this); });
  }

 private:
  TwoPartyNetwork& network;
  capnp::word scratch[SCRATCH_WORDS] = {};
  capnp::MallocMessageBuilder message;
};

TwoPartyNetwork::TwoPartyNetwork(MessageStream& stream, Side side, const PeerOptions& options)
    : stream(stream), side(side), options(options), peerVatId(4), disconnected(nullptr) {
  peerVatId.initRoot<VatId>().setSide(otherSide(side));
  auto paf = kj::newPromiseAndFulfiller<void>();
  disconnected = paf.promise.fork();
  disposer.fulfiller = kj::mv(paf.fulfiller);
  stream.inspectWith(&clampExceptionType);
}

TwoPartyNetwork::~TwoPartyNetwork() noexcept(false) {}

void TwoPartyNetwork::ConnectionDisposer::disposeImpl(void*) const {
  if (--references == 0) fulfiller->fulfill();
}

kj::Own<RpcConnection> TwoPartyNetwork::asConnection() {
  ++disposer.references;
  return kj::Own<RpcConnection>(this, disposer);
}

kj::Maybe<kj::Own<RpcConnection>> TwoPartyNetwork::connect(VatId::Reader peer) {
  if (peer.getSide() == side) return nullptr;
  return asConnection();
}

kj::Promise<kj::Own<RpcConnection>> TwoPartyNetwork::accept() {
  if (side == Side::SERVER && !accepted) {
    accepted = true;
    return asConnection();
  }
  auto paf = kj::newPromiseAndFulfiller<kj::Own<RpcConnection>>();
  neverAccepted = kj::mv(paf.fulfiller);  // there is but one connection
  return kj::mv(paf.promise);
}

kj::Own<capnp::RpcFlowController> TwoPartyNetwork::newStream() {
  return capnp::RpcFlowController::newFixedWindowController(options.streamWindow);
}

VatId::Reader TwoPartyNetwork::getPeerVatId() { return peerVatId.getRoot<VatId>().asReader(); }

kj::Own<capnp::OutgoingRpcMessage> TwoPartyNetwork::newOutgoingMessage(uint firstSegmentWordSize) {
  if (firstSegmentWordSize <= SCRATCH_WORDS) return kj::refcounted<OutgoingMessage>(*this);
  return kj::refcounted<OutgoingMessage>(*this, firstSegmentWordSize);
}

kj::Promise<MaybeMessage> TwoPartyNetwork::receiveIncomingMessage() { return stream.receive(); }

kj::Promise<void> TwoPartyNetwork::shutdown() { return stream.end(); }

}  // namespace capstan::rpc
