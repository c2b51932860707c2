#include <capstan/server/arrival.h>

#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>

#include <capstan/rpc/outcome.h>

namespace capstan::server {

namespace {

constexpr uint8_t TLS_HANDSHAKE = 0x16;  // the type of a record that holds a ClientHello
constexpr size_t RECORD_HEADER = 5;
constexpr size_t MAX_FIRST_RECORD = 16 << 10;  // a longer one is TLS's to refuse

// A handshake takes about 300 microseconds of this thread. So many are begun between two looks at what the connections
// want that are open already.
constexpr unsigned HANDSHAKES_PER_TURN = 4;

}  // namespace

bool mayBePlain(const PeerIdentity& peer, bool insecure) { return peer.isUnix || peer.isLocal || insecure; }

FirstBytes lookAt(int socket, bool atEnd) {
  uint8_t head[RECORD_HEADER];
  ssize_t count = recv(socket, head, sizeof(head), MSG_PEEK | MSG_DONTWAIT);
  if (count == 0) return FirstBytes::GONE;
  if (count < 0) return errno == EAGAIN || errno == EINTR ? FirstBytes::NONE : FirstBytes::GONE;
  if (head[0] != TLS_HANDSHAKE) return FirstBytes::PLAIN;
  if (atEnd) return FirstBytes::TLS;
  if (size_t(count) < RECORD_HEADER) return FirstBytes::PART;
  size_t wanted = RECORD_HEADER + (size_t(head[3]) << 8 | head[4]);
  int there = 0;
  if (wanted > MAX_FIRST_RECORD || ioctl(socket, FIONREAD, &there) < 0) return FirstBytes::TLS;
  return size_t(there) < wanted ? FirstBytes::PART : FirstBytes::TLS;
}

struct Arrivals::Newcomer {
  kj::AutoCloseFd socket;
  kj::Own<kj::UnixEventPort::FdObserver> observer;  // gone before the socket is given away
};

Arrivals::Arrivals(const TlsKeeper& keeper, kj::LowLevelAsyncIoProvider& provider, kj::UnixEventPort& port,
                   kj::Timer& timer)
    : keeper(keeper), provider(provider), port(port), timer(timer) {}

Arrivals::~Arrivals() noexcept(false) {}

kj::Own<kj::AsyncIoStream> Arrivals::wrap(kj::AutoCloseFd socket) {
  using Provider = kj::LowLevelAsyncIoProvider;
  return provider.wrapSocketFd(kj::mv(socket), Provider::ALREADY_CLOEXEC | Provider::ALREADY_NONBLOCK);
}

kj::Promise<Result<Arrivals::Arrived>> Arrivals::receive(kj::AutoCloseFd socket) {
  auto newcomer = kj::heap<Newcomer>();
  newcomer->socket = kj::mv(socket);
  newcomer->observer = kj::heap<kj::UnixEventPort::FdObserver>(port, newcomer->socket.get(),
                                                               kj::UnixEventPort::FdObserver::OBSERVE_READ);
  auto shown = whenShown(*newcomer);
  // `this` outlives the promise.
  return shown.then(
      [this, newcomer = kj::mv(newcomer)](FirstBytes bytes) mutable { return proceed(kj::mv(newcomer), bytes); });
}

kj::Promise<FirstBytes> Arrivals::whenShown(Newcomer& newcomer) {
  bool atEnd = false;
  KJ_IF_MAYBE (end, newcomer.observer->atEndHint()) {
    atEnd = *end;
  }
  FirstBytes bytes = lookAt(newcomer.socket, atEnd);
  if (bytes != FirstBytes::NONE && bytes != FirstBytes::PART) return bytes;
  return newcomer.observer->whenBecomesReadable().then([this, &newcomer]() { return whenShown(newcomer); });
}

kj::Promise<Result<Arrivals::Arrived>> Arrivals::proceed(kj::Own<Newcomer> newcomer, FirstBytes shown) {
  newcomer->observer = nullptr;
  kj::AutoCloseFd socket = kj::mv(newcomer->socket);
  switch (shown) {
    case FirstBytes::PLAIN: return Result<Arrived>(Arrived{wrap(kj::mv(socket)), false});
    case FirstBytes::TLS: break;
    case FirstBytes::NONE:
    case FirstBytes::PART:
    case FirstBytes::GONE: return Result<Arrived>(Error{ErrorCode::UNREACHABLE, "it left without a word", {}});
  }
  return whenItsTurn().then([this, socket = kj::mv(socket)]() mutable { return shakeHands(kj::mv(socket)); });
}

kj::Promise<Result<Arrivals::Arrived>> Arrivals::shakeHands(kj::AutoCloseFd socket) {
  auto ready = refreshTls();
  if (!ready.ok()) return Result<Arrived>(ready.error());
  return tls->accept(wrap(kj::mv(socket))).then([](Result<kj::Own<kj::AsyncIoStream>>&& stream) {
    if (!stream.ok()) return Result<Arrived>(stream.error());
    return Result<Arrived>(Arrived{std::move(*stream), true});
  });
}

Status Arrivals::refreshTls() {
  uint64_t now = keeper.generation();
  if (tls.get() != nullptr && generation == now) return okStatus();
  auto identity = keeper.current();
  if (identity == nullptr) return Error{ErrorCode::UNSUPPORTED, "this server has no certificate for TLS", {}};
  auto made = rpc::TlsServer::make(*identity);
  if (!made.ok()) return made.error();
  tls = std::move(*made);
  generation = now;
  return okStatus();
}

kj::Promise<void> Arrivals::whenItsTurn() {
  auto paf = kj::newPromiseAndFulfiller<void>();
  waiting.push_back(kj::mv(paf.fulfiller));
  if (!isAdmitting) {
    isAdmitting = true;
    admitting = admitSome().eagerlyEvaluate(nullptr);
  }
  return kj::mv(paf.promise);
}

kj::Promise<void> Arrivals::admitSome() {
  // The timer's promises are kept when the loop looks for input, not before: whoever wants something comes first.
  return timer.afterDelay(1 * kj::NANOSECONDS).then([this]() -> kj::Promise<void> {
    for (unsigned admitted = 0; admitted < HANDSHAKES_PER_TURN && !waiting.empty();) {
      auto next = kj::mv(waiting.front());
      waiting.pop_front();
      if (!next->isWaiting()) continue;  // its deadline was over
      next->fulfill();
      ++admitted;
    }
    if (!waiting.empty()) return admitSome();
    isAdmitting = false;
    return kj::READY_NOW;
  });
}

}  // namespace capstan::server
