#include <kj/debug.h>

#include "fake-server.h"

namespace capstan::client {

namespace {

// One end of a pipe: what is written arrives later, and after so many bytes the pipe is cut.
class FakeStream final : public kj::AsyncIoStream {
 public:
  FakeStream(kj::Own<kj::AsyncIoStream> inner, kj::Timer& timer, kj::Duration delay, uint64_t budget)
      : inner(kj::mv(inner)), timer(timer), delay(delay), budget(budget), sending(kj::READY_NOW) {}

  kj::Promise<size_t> tryRead(void* buffer, size_t minBytes, size_t maxBytes) override {
    if (budget == 0) return broken();
    size_t most = std::min<uint64_t>(maxBytes, budget);
    return reads.wrap(inner->tryRead(buffer, std::min(minBytes, most), most)
                          .then([this, minBytes](size_t count) -> kj::Promise<size_t> {
                            budget -= count;
                            if (count < minBytes && budget == 0) return broken();
                            return count;
                          }));
  }

  kj::Promise<void> write(const void* buffer, size_t size) override {
    auto bytes = kj::heapArray<kj::byte>(size);
    memcpy(bytes.begin(), buffer, size);
    if (size > budget) {
      budget = 0;
      sever();
      return broken();
    }
    budget -= size;
    // Unbounded, as the buffers of a network seem to be for what the tests send.
    auto due = timer.afterDelay(delay);
    auto after = sending.then([this, due = kj::mv(due), bytes = kj::mv(bytes)]() mutable {
      return due.then([this, bytes = kj::mv(bytes)]() mutable {
        auto written = inner->write(bytes.begin(), bytes.size());
        return written.attach(kj::mv(bytes));
      });
    });
    if (delay == 0 * kj::SECONDS) {
      sending = kj::READY_NOW;
      auto forked = after.fork();
      sending = forked.addBranch();
      return forked.addBranch();
    }
    sending = after.eagerlyEvaluate([](kj::Exception&&) {});
    return kj::READY_NOW;
  }

  kj::Promise<void> write(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> pieces) override {
    kj::Vector<kj::byte> all;
    for (auto piece : pieces) all.addAll(piece);
    return write(all.begin(), all.size());
  }

  kj::Promise<void> whenWriteDisconnected() override { return inner->whenWriteDisconnected(); }
  void shutdownWrite() override {
    sending = sending.then([this]() { inner->shutdownWrite(); }).eagerlyEvaluate([](kj::Exception&&) {});
  }
  void abortRead() override { inner->abortRead(); }

 private:
  kj::Own<kj::AsyncIoStream> inner;
  kj::Timer& timer;
  kj::Duration delay;
  uint64_t budget;
  kj::Canceler reads;
  kj::Promise<void> sending;

  kj::Exception broken() { return KJ_EXCEPTION(DISCONNECTED, "cut by the test"); }
  void sever() {
    reads.cancel(broken());
    inner->abortRead();
    sending = kj::READY_NOW;
    inner->shutdownWrite();
  }
};

}  // namespace

class FakeServer::Address final : public kj::NetworkAddress {
 public:
  explicit Address(FakeServer& server) : server(server) {}
  kj::Promise<kj::Own<kj::AsyncIoStream>> connect() override {
    // As long as TCP takes: one round trip.
    return server.timer.afterDelay(server.delay * 2).then([this]() { return server.accept(); });
  }
  kj::Own<kj::ConnectionReceiver> listen() override { KJ_UNIMPLEMENTED("not in tests"); }
  kj::Own<kj::NetworkAddress> clone() override { return kj::heap<Address>(server); }
  kj::String toString() override { return kj::str("fake"); }

 private:
  FakeServer& server;
};

FakeServer::FakeServer() : timer(kj::origin<kj::TimePoint>()), tasks(*this) {}

FakeServer::~FakeServer() noexcept(false) {}

kj::Promise<kj::Own<kj::NetworkAddress>> FakeServer::parseAddress(kj::StringPtr, kj::uint) {
  return kj::Own<kj::NetworkAddress>(kj::heap<Address>(*this));
}

kj::Own<kj::AsyncIoStream> FakeServer::accept() {
  ++connections;
  if (refuse) kj::throwFatalException(KJ_EXCEPTION(DISCONNECTED, "connect(): Connection refused"));
  uint64_t budget = UINT64_MAX;
  if (!cuts.empty()) {
    budget = cuts.front();
    cuts.erase(cuts.begin());
  }
  auto pipe = kj::newTwoWayPipe();
  auto client = kj::heap<FakeStream>(kj::mv(pipe.ends[0]), timer, delay, budget);
  auto server = kj::heap<FakeStream>(kj::mv(pipe.ends[1]), timer, delay, UINT64_MAX);
  if (hangUp) return client;
  if (mute) {
    silentPeers.push_back(kj::mv(server));
  } else if (!greeting.empty()) {
    auto said = server->write(greeting.data(), greeting.size());
    tasks.add(said.attach(kj::mv(server)));
  } else {
    peers.push_back(kj::heap<rpc::PeerConnection>(kj::mv(server), capnp::rpc::twoparty::Side::SERVER,
                                                  capnp::Capability::Client(newFakeGateway(tree)), counters));
  }
  return client;
}

void FakeServer::cutAll() {
  for (auto& peer : peers) tasks.add(kj::evalLater([peer = kj::mv(peer)]() mutable { peer = nullptr; }));
  peers.clear();
}

}  // namespace capstan::client
