#include <capstan/rpc/tls.h>

#include <arpa/inet.h>

#include <kj/compat/tls.h>

#include <capstan/base/text.h>
#include <capstan/rpc/bulk-stream.h>
#include <capstan/rpc/openssl.h>
#include <capstan/rpc/outcome.h>

namespace capstan::rpc {

namespace {

using Stream = kj::Own<kj::AsyncIoStream>;

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// OpenSSL's errors of one handshake must not be there when the next connection of this thread asks for its own.
template <typename Handshake>
kj::Promise<Stream> shakeHands(Handshake&& handshake) {
  ERR_clear_error();
  return kj::evalNow(kj::fwd<Handshake>(handshake)).catch_([](kj::Exception&& exception) -> kj::Promise<Stream> {
    ERR_clear_error();
    return kj::mv(exception);
  });
}

std::string reasonOf(const kj::Exception& exception) {
  std::string text = clamped(kj::cp(exception)).getDescription().cStr();
  // "error:0A00010B:SSL routines::wrong version number": the last part is for people.
  if (contains(text, "SSL routines:")) text.erase(0, text.rfind(':') + 1);
  return escapeForTerminal(text.substr(0, text.find('\n')));
}

bool isNumeric(const std::string& host) {
  in_addr v4;
  return inet_pton(AF_INET, host.c_str(), &v4) == 1 || contains(host, ":");
}

template <typename Make>
kj::Maybe<Error> problemWith(Make&& make) {
  ErrorsForgotten forgotten;
  KJ_IF_MAYBE (exception, kj::runCatchingExceptions(kj::fwd<Make>(make))) {
    return Error{ErrorCode::INVALID_ARGUMENT, "TLS cannot be set up: " + reasonOf(*exception), {}};
  }
  return nullptr;
}

kj::StringPtr asKj(const std::string& text) { return {text.c_str(), text.size()}; }

}  // namespace

bool speaksTls(const Security& security, const Address& address) {
  if (address.kind == Address::Kind::UNIX) return false;
  switch (security.kind) {
    case Security::Kind::AUTOMATIC: return !address.isLoopback();
    case Security::Kind::PLAIN: return false;
    case Security::Kind::PINNED:
    case Security::Kind::SYSTEM: return true;
  }
  return true;
}

Result<kj::Own<TlsServer>> TlsServer::make(const TlsIdentity& identity) {
  kj::Own<kj::TlsContext> context;
  auto problem = problemWith([&]() {
    kj::TlsKeypair pair{kj::TlsPrivateKey(asKj(identity.key)), kj::TlsCertificate(asKj(identity.certificate))};
    kj::TlsContext::Options options;
    options.useSystemTrustStore = false;
    options.minVersion = kj::TlsVersion::TLS_1_2;
    options.defaultKeypair = pair;
    context = kj::heap<kj::TlsContext>(kj::mv(options));
  });
  KJ_IF_MAYBE (error, problem) {
    return kj::mv(*error);
  }
  return kj::refcounted<TlsServer>(kj::mv(context));
}

TlsServer::TlsServer(kj::Own<kj::TlsContext> context) : context(kj::mv(context)) {}

TlsServer::~TlsServer() noexcept(false) {}

kj::Promise<Result<Stream>> TlsServer::accept(Stream stream) {
  return shakeHands([this, &stream]() { return context->wrapServer(Stream(kj::heap<BulkStream>(kj::mv(stream)))); })
      .then([](Stream&& encrypted) { return Result<Stream>(kj::mv(encrypted)); },
            [](kj::Exception&& exception) {
              return Result<Stream>(
                  Error{ErrorCode::UNREACHABLE, "the TLS handshake failed: " + reasonOf(exception), {}});
            })
      .attach(kj::addRef(*this));
}

Result<kj::Own<TlsClient>> TlsClient::make(const Security& security) {
  bool pinned = security.kind == Security::Kind::PINNED;
  CertificateFacts facts;
  if (pinned) {
    auto read = factsOf(security.certificate, "the server's certificate");
    if (!read.ok()) return read.error();
    facts = std::move(*read);
  }
  kj::Own<kj::TlsContext> context;
  auto problem = problemWith([&]() {
    kj::Vector<kj::TlsCertificate> anchors;
    for (const std::string& each : certificatesIn(security.certificate)) anchors.add(asKj(each));
    kj::TlsContext::Options options;
    options.useSystemTrustStore = !pinned || !facts.isSelfSigned;
    options.trustedCertificates = anchors;
    options.minVersion = kj::TlsVersion::TLS_1_2;
    context = kj::heap<kj::TlsContext>(kj::mv(options));
  });
  KJ_IF_MAYBE (error, problem) {
    return kj::mv(*error);
  }
  return kj::heap<TlsClient>(kj::mv(context), pinned, facts.name);
}

TlsClient::TlsClient(kj::Own<kj::TlsContext> context, bool pinned, std::string name)
    : context(kj::mv(context)), pinned(pinned), name(std::move(name)) {}

TlsClient::~TlsClient() noexcept(false) {}

kj::Promise<Result<Stream>> TlsClient::connect(Stream stream, const Address& address) {
  const std::string& expected = name.empty() ? address.host : name;
  return shakeHands([this, &stream, &expected]() {
           return context->wrapClient(Stream(kj::heap<BulkStream>(kj::mv(stream))), asKj(expected));
         })
      // `this` outlives the promise, as its user keeps one client for all connections.
      .then([](Stream&& encrypted) { return Result<Stream>(kj::mv(encrypted)); },
            [this, address](kj::Exception&& exception) { return Result<Stream>(explain(exception, address)); });
}

Error TlsClient::explain(const kj::Exception& exception, const Address& address) const {
  std::string where = escapeForTerminal(address.toString());
  std::string reason = reasonOf(exception);
  if (contains(reason, "not trusted")) {
    if (pinned) {
      return {ErrorCode::DENIED,
              where +
                  " shows another certificate than the one that was expected: either the server was set up anew, or "
                  "somebody is in between. Nothing was sent to it; ask its owner for a new invite",
              {}};
    }
    bool named = contains(reason, "ostname mismatch") || contains(reason, "IP address mismatch");
    std::string detail = named && isNumeric(address.host)
                             ? "; certificates are for names: write the server's name, or use an invite (@FILE)"
                             : "; use an invite (@FILE), which holds the certificate, or name the server as it does";
    size_t colon = reason.find("reason = ");
    std::string why = colon == std::string::npos ? reason : reason.substr(colon + 9);
    return {
        ErrorCode::DENIED, where + " shows a certificate that this system does not trust (" + why + ")" + detail, {}};
  }
  if (contains(reason, "wrong version number") || contains(reason, "unexpected message")) {
    return {ErrorCode::UNREACHABLE,
            where + " answers, but does not speak TLS; check host and port (--insecure speaks without encryption)",
            {}};
  }
  if (isDisconnected(exception)) {
    return {ErrorCode::UNREACHABLE,
            where + " ended the connection before anything was said: it takes no more connections, or speaks no TLS",
            {}};
  }
  return {ErrorCode::UNREACHABLE, "no TLS with " + where + ": " + reason, {}};
}

}  // namespace capstan::rpc
