#include <capstan/client/cli/delay-line.h>

#include <vector>

namespace capstan::cli {

struct DelayLine::Direction : public kj::Refcounted {
  kj::AsyncInputStream& in;
  kj::AsyncOutputStream& out;
  kj::Promise<void> writes = kj::READY_NOW;
  char buffer[64 << 10];

  Direction(kj::AsyncInputStream& in, kj::AsyncOutputStream& out) : in(in), out(out) {}
};

DelayLine::DelayLine(kj::AsyncIoContext& io, std::string from, std::string to, kj::Duration eachWay)
    : io(io), from(std::move(from)), to(std::move(to)), eachWay(eachWay), tasks(*this) {}

DelayLine::~DelayLine() noexcept(false) = default;

kj::Promise<void> DelayLine::open() {
  return io.provider->getNetwork()
      .parseAddress(("unix:" + from).c_str())
      .then([this](kj::Own<kj::NetworkAddress> address) {
        receiver = address->listen();
        tasks.add(acceptLoop());
      });
}

kj::Promise<void> DelayLine::acceptLoop() {
  return receiver->accept().then([this](kj::Own<kj::AsyncIoStream> stream) {
    tasks.add(connect(kj::mv(stream)));
    return acceptLoop();
  });
}

kj::Promise<void> DelayLine::connect(kj::Own<kj::AsyncIoStream> inner) {
  return io.provider->getNetwork()
      .parseAddress(("unix:" + to).c_str())
      .then([](kj::Own<kj::NetworkAddress> address) { return address->connect().attach(kj::mv(address)); })
      .then([this, inner = kj::mv(inner)](kj::Own<kj::AsyncIoStream> outer) mutable {
        auto there = carry(kj::refcounted<Direction>(*inner, *outer));
        auto back = carry(kj::refcounted<Direction>(*outer, *inner));
        return there.exclusiveJoin(kj::mv(back)).attach(kj::mv(inner), kj::mv(outer));
      });
}

// What arrives is written one delay later, in order, while more arrives.
kj::Promise<void> DelayLine::carry(kj::Own<Direction> direction) {
  auto& state = *direction;
  return state.in.tryRead(state.buffer, 1, sizeof(state.buffer))
      .then([this, direction = kj::mv(direction)](size_t count) mutable -> kj::Promise<void> {
        if (count == 0) return kj::mv(direction->writes);
        auto bytes = kj::heapArray<kj::byte>(reinterpret_cast<kj::byte*>(direction->buffer), count);
        auto arrived = io.provider->getTimer().afterDelay(eachWay);
        auto& out = direction->out;
        direction->writes = direction->writes.then([arrived = kj::mv(arrived)]() mutable { return kj::mv(arrived); })
                                .then([&out, bytes = kj::mv(bytes)]() mutable {
                                  auto written = out.write(bytes.begin(), bytes.size());
                                  return written.attach(kj::mv(bytes));
                                })
                                .eagerlyEvaluate(nullptr);
        return carry(kj::mv(direction));
      });
}

void DelayLine::taskFailed(kj::Exception&&) {}  // one connection of the demo less

}  // namespace capstan::cli
