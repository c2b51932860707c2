#include <capstan/client/sink-server.h>

#include <kj/debug.h>

#include <capstan/rpc/entry-wire.h>

namespace capstan::client {

class SinkLink::Sink final : public schema::ByteSink::Server {
 public:
  explicit Sink(kj::Own<SinkLink> link) : link(kj::mv(link)) {}

  kj::Promise<void> write(WriteContext context) override {
    auto data = context.getParams().getData();
    KJ_IF_MAYBE (consumer, link->consumer) {
      return link->take(data.size(), consumer->write(rpc::asView(data)));
    }
    return detached();
  }

  kj::Promise<void> skip(SkipContext context) override {
    uint64_t count = context.getParams().getCount();
    KJ_IF_MAYBE (consumer, link->consumer) {
      return link->take(count, consumer->skip(count));
    }
    return detached();
  }

  kj::Promise<void> end(EndContext context) override {
    context.initResults();
    return kj::READY_NOW;
  }

 private:
  kj::Own<SinkLink> link;

  static kj::Exception detached() { return KJ_EXCEPTION(FAILED, "the receiver has ended the transfer"); }
};

SinkLink::SinkLink(ByteConsumer& consumer, kj::Function<void(uint64_t)> advanced)
    : SinkLink(kj::newPromiseAndFulfiller<Error>(), consumer, kj::mv(advanced)) {}

SinkLink::SinkLink(kj::PromiseFulfillerPair<Error> failing, ByteConsumer& consumer,
                   kj::Function<void(uint64_t)> advanced)
    : consumer(consumer),
      advanced(kj::mv(advanced)),
      failure(kj::mv(failing.promise)),
      failer(kj::mv(failing.fulfiller)) {}

void SinkLink::detach() {
  consumer = nullptr;
  underWay.cancel("the transfer has ended");
}

schema::ByteSink::Client SinkLink::newSink() { return kj::heap<Sink>(kj::addRef(*this)); }

kj::Promise<Error> SinkLink::consumerFailed() { return kj::mv(failure); }

kj::Promise<void> SinkLink::take(uint64_t count, kj::Promise<Status> taking) {
  // `this` is held by the capability that the call was made on, and detach() cancels.
  return underWay.wrap(taking.then([this, count](Status&& status) {
    if (status.ok()) {
      advanced(count);
      return;
    }
    failer->fulfill(Error(status.error()));
    consumer = nullptr;
    kj::throwFatalException(KJ_EXCEPTION(FAILED, "the receiver cannot take more"));
  }));
}

}  // namespace capstan::client
