#include <capstan/server/acceptor.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <capstan/base/log.h>
#include <capstan/rpc/outcome.h>

namespace capstan::server {

namespace {

kj::AutoCloseFd openReserve() { return kj::AutoCloseFd(open("/dev/null", O_RDONLY | O_CLOEXEC)); }

constexpr unsigned ACCEPTS_PER_TURN = 64;
constexpr kj::Duration RETRY_DELAY = 20 * kj::MILLISECONDS;
constexpr uint32_t ON_THE_WAY = 64;  // connections

}  // namespace

Acceptor::Acceptor(ServerState& server, std::vector<Listener> listenersParam, std::vector<kj::Own<LoopThread>>& loops,
                   kj::UnixEventPort& port, kj::Timer& timer)
    : server(server),
      loops(loops),
      port(port),
      timer(timer),
      reserve(openReserve()),
      lastComplaint(timer.now() - 1 * kj::HOURS),
      tasks(*this) {
  for (Listener& each : listenersParam) {
    auto listener = kj::heap<Listener>(kj::mv(each));
    auto readable =
        kj::heap<kj::UnixEventPort::FdObserver>(port, listener->get(), kj::UnixEventPort::FdObserver::OBSERVE_READ);
    auto accepting = acceptOn(*listener, *readable);
    tasks.add(accepting.attach(kj::mv(readable)));
    listeners.add(kj::mv(listener));
  }
}

kj::Promise<void> Acceptor::acceptOn(const Listener& listener, kj::UnixEventPort::FdObserver& readable) {
  return readable.whenBecomesReadable().then([this, &listener, &readable]() -> kj::Promise<void> {
    // Both outlive this promise, which is in `tasks`. The observer tells of changes only: take all that is there.
    return acceptAll(listener).then([this, &listener, &readable]() { return acceptOn(listener, readable); });
  });
}

kj::Promise<void> Acceptor::acceptAll(const Listener& listener) {
  for (unsigned i = 0; i < ACCEPTS_PER_TURN; ++i) {
    switch (acceptOne(listener)) {
      case Attempt::ONE: break;
      case Attempt::NOBODY_WAITS: return kj::READY_NOW;
      // The change that told of those who wait is used up: nothing else would tell of them again.
      case Attempt::NO_ROOM:
        return timer.afterDelay(RETRY_DELAY).then([this, &listener]() { return acceptAll(listener); });
    }
  }
  return kj::evalLater([this, &listener]() { return acceptAll(listener); });
}

// Those that are logged in and the newcomers have bounds of their own, and the loops see to both. What is beyond is on
// its way to a loop, or on its way out.
bool Acceptor::loopsAreBehind(const Listener& listener) const {
  uint32_t openNow = 0;
  for (auto& loop : loops) openNow += loop->load();
  auto& limits = server.options.limits;
  uint64_t most = limits[Limit::SERVER_CONNECTIONS] + limits[Limit::SERVER_NEWCOMERS] + OWNERS_PLACES + ON_THE_WAY;
  if (listener.address().kind == rpc::Address::Kind::UNIX) most += ON_THE_WAY;
  return openNow >= most;
}

Acceptor::Attempt Acceptor::acceptOne(const Listener& listener) {
  if (loopsAreBehind(listener)) return Attempt::NO_ROOM;
  kj::AutoCloseFd socket(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (socket.get() >= 0) {
    handOver(kj::mv(socket));
    return Attempt::ONE;
  }
  switch (errno) {
    case EAGAIN: return Attempt::NOBODY_WAITS;
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
    case EPERM: return Attempt::ONE;  // this newcomer's misfortune, see accept(2)
    default: complain(errno); return turnAwayOne(listener);
  }
}

// Out of descriptors or memory: makes room with the reserve and closes the newcomer, who would wait for nothing else.
Acceptor::Attempt Acceptor::turnAwayOne(const Listener& listener) {
  reserve = nullptr;
  kj::AutoCloseFd socket(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  Attempt attempt = socket.get() >= 0 ? Attempt::ONE : errno == EAGAIN ? Attempt::NOBODY_WAITS : Attempt::NO_ROOM;
  socket = nullptr;
  reserve = openReserve();
  return attempt;
}

void Acceptor::handOver(kj::AutoCloseFd socket) {
  PeerIdentity peer = identifyPeer(socket.get());
  if (peer.isUnix && !peer.sameUser) {
    log::warning(peer.name.c_str(), " is another user, and was turned away");
    return;
  }
  auto& loop = **std::min_element(loops.begin(), loops.end(), [](auto& a, auto& b) { return a->load() < b->load(); });
  tasks.add(loop.adopt(kj::mv(socket), std::move(peer)));
}

void Acceptor::complain(int reason) {
  if (timer.now() - lastComplaint < 1 * kj::SECONDS) return;
  lastComplaint = timer.now();
  log::warning("a connection was turned away: ", strerror(reason), "; raise the limit of open files (ulimit -n)");
}

void Acceptor::taskFailed(kj::Exception&& exception) {
  log::error("accepting failed: ", rpc::errorFromException(exception).message.c_str());
}

}  // namespace capstan::server
