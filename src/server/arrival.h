// What happens to a newcomer on a TCP listener before anything is done for it: its first bytes tell whether it speaks
// TLS, and then there is a handshake. Handshakes are the one expensive thing that anybody can ask for without a login:
// they take turns with the connections that are open already.
#pragma once

#include <deque>

#include <kj/async-io.h>
#include <kj/async-unix.h>
#include <kj/timer.h>

#include <capstan/base/error.h>
#include <capstan/rpc/tls.h>
#include <capstan/server/listener.h>
#include <capstan/server/tls-keeper.h>

namespace capstan::server {

// Whether a peer may speak without TLS where it arrived. What never leaves this machine may; `insecure` allows all.
bool mayBePlain(const PeerIdentity& peer, bool insecure);

// What the first bytes of a peer say.
enum class FirstBytes {
  NONE,   // nothing came yet
  PART,   // the beginning of a TLS record, which is not all there yet
  TLS,    // the whole of a first TLS record, or what was there of it when the peer ended its sending
  PLAIN,  // anything else; a message of 23 segments would be taken for TLS, and no client begins with one
  GONE    // the peer ended, or the socket is broken
};
// Looks without taking anything away; `atEnd`: nothing more will come.
FirstBytes lookAt(int socket, bool atEnd);

// Belongs to one event loop; must outlive the promises that it returns.
class Arrivals {
 public:
  // All must outlive it.
  Arrivals(const TlsKeeper& keeper, kj::LowLevelAsyncIoProvider& provider, kj::UnixEventPort& port, kj::Timer& timer);
  ~Arrivals() noexcept(false);
  KJ_DISALLOW_COPY(Arrivals);

  struct Arrived {
    kj::Own<kj::AsyncIoStream> stream;
    bool isEncrypted = false;
  };
  // Resolves when the peer has shown how it speaks and, with TLS, has shaken hands. An Error is the reason why that
  // came to nothing, for the log. No deadline of its own: dropping the promise closes the socket.
  kj::Promise<Result<Arrived>> receive(kj::AutoCloseFd socket);

  // Without looking: for Unix sockets.
  kj::Own<kj::AsyncIoStream> wrap(kj::AutoCloseFd socket);

 private:
  struct Newcomer;

  const TlsKeeper& keeper;
  kj::LowLevelAsyncIoProvider& provider;
  kj::UnixEventPort& port;
  kj::Timer& timer;

  kj::Own<rpc::TlsServer> tls;
  uint64_t generation = 0;  // of what `tls` was made from

  // Those whose handshake may begin, in order, and the task that lets them.
  std::deque<kj::Own<kj::PromiseFulfiller<void>>> waiting;
  bool isAdmitting = false;
  kj::Promise<void> admitting = nullptr;

  kj::Promise<FirstBytes> whenShown(Newcomer& newcomer);
  kj::Promise<Result<Arrived>> proceed(kj::Own<Newcomer> newcomer, FirstBytes shown);
  kj::Promise<Result<Arrived>> shakeHands(kj::AutoCloseFd socket);
  kj::Promise<void> whenItsTurn();
  kj::Promise<void> admitSome();
  Status refreshTls();
};

}  // namespace capstan::server
