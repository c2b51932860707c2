// Both ends of TLS on a byte stream: a server with its identity, and a client that knows whom it expects. A thin layer
// over kj-tls, with BulkStream below it, and with sentences in place of OpenSSL's errors.
#pragma once

#include <string>

#include <kj/async-io.h>
#include <kj/refcount.h>

#include <capstan/base/error.h>
#include <capstan/rpc/address.h>
#include <capstan/rpc/certificate.h>

namespace kj {
class TlsContext;
}

namespace capstan::rpc {

// How a client speaks to a server, and whom it takes for that server.
struct Security {
  enum class Kind {
    AUTOMATIC,  // PLAIN to this machine (loopback, Unix sockets), SYSTEM to any other
    PLAIN,      // no encryption: whoever can read or change what is on the network sees and does everything
    PINNED,     // TLS with whoever has the key of `certificate`
    SYSTEM      // TLS with whoever the system's authorities have given a certificate for the host's name
  };
  Kind kind = Kind::AUTOMATIC;
  // PINNED: PEM. One that signed itself is trusted by itself, under the name that is in it (where none is: the
  // host's). One that an authority has signed is checked as with SYSTEM, but for the name that is in it, and not pinned
  // to its key: such certificates are replaced every few months.
  std::string certificate = {};
};

// Whether it is TLS that is spoken to this address. Unix sockets never need it.
bool speaksTls(const Security& security, const Address& address);

// Belongs to one event loop. What it accepts may outlive it.
class TlsServer final : public kj::Refcounted {
 public:
  // Errors: invalidArgument where kj-tls does not take the key or certificate.
  static Result<kj::Own<TlsServer>> make(const TlsIdentity& identity);
  explicit TlsServer(kj::Own<kj::TlsContext> context);
  ~TlsServer() noexcept(false);

  // The stream once the handshake is done; an Error with a sentence for the log where it fails. No deadline of its own.
  kj::Promise<Result<kj::Own<kj::AsyncIoStream>>> accept(kj::Own<kj::AsyncIoStream> stream);

 private:
  kj::Own<kj::TlsContext> context;
};

// Belongs to one event loop. What it connects may outlive it.
class TlsClient final {
 public:
  // Precondition: not PLAIN. Reads the system's trust store where that is needed, which takes some milliseconds.
  // Errors: invalidArgument where the certificate is none.
  static Result<kj::Own<TlsClient>> make(const Security& security);
  TlsClient(kj::Own<kj::TlsContext> context, bool pinned, std::string name);
  ~TlsClient() noexcept(false);

  // The stream once the server has proved who it is: nothing is sent before. `address` is what was dialled. Errors:
  // `denied` when it is not the expected server, because a retry cannot help and might help an attacker; `unreachable`
  // when it does not speak TLS, or ended the handshake.
  kj::Promise<Result<kj::Own<kj::AsyncIoStream>>> connect(kj::Own<kj::AsyncIoStream> stream, const Address& address);

 private:
  kj::Own<kj::TlsContext> context;
  bool pinned;
  std::string name;  // whom the certificate has to be for; empty: the host that is dialled

  Error explain(const kj::Exception& exception, const Address& address) const;
};

}  // namespace capstan::rpc
