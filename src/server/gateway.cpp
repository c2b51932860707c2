#include <capstan/server/gateway.h>

#include <algorithm>

#include <capstan/base/log.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>

namespace capstan::server {

namespace {

constexpr size_t MAX_CLIENT_NAME = 64;
constexpr uint32_t OLDEST_PROTOCOL_VERSION = 1;

// At most `count` characters of UTF-8. The log escapes what should not be in a name.
std::string firstCharacters(std::string_view text, size_t count) {
  auto begins = [](char byte) { return (static_cast<unsigned char>(byte) & 0xc0) != 0x80; };
  size_t end = 0;
  for (; end < text.size(); ++end) {
    if (begins(text[end]) && count-- == 0) break;
  }
  return std::string(text.substr(0, end));
}

class SessionServer final : public Guarded<schema::Session> {
 public:
  SessionServer(kj::Own<ConnectionContext> contextParam, ConnectionContext::Login& login)
      : Guarded(kj::refcounted<Access>(kj::addRef(*login.lease))), context(kj::mv(contextParam)), login(login) {
    ++context->sessions;
    context->server.sessions.fetch_add(1, std::memory_order_relaxed);
  }
  ~SessionServer() noexcept(false) {
    --context->sessions;
    context->server.sessions.fetch_sub(1, std::memory_order_relaxed);
  }

 protected:
  kj::Promise<void> fileStore(FileStoreContext call) override {
    call.getResults().setFileStore(context->server.folder->newFileStore(kj::addRef(*access)));
    return kj::READY_NOW;
  }

  kj::Promise<void> status(StatusContext call) override {
    fillStatus(call.getResults().initStatus(), context->server, context->authentication);
    return kj::READY_NOW;
  }

  kj::Promise<void> compute(ComputeContext call) override {
    if (login.compute == nullptr) {
      login.compute = context->server.computing->newCompute(kj::addRef(*access), context->timer);
    }
    call.getResults().setCompute(KJ_ASSERT_NONNULL(login.compute));
    return kj::READY_NOW;
  }

 private:
  kj::Own<ConnectionContext> context;
  ConnectionContext::Login& login;  // the context's
};

class GatewayServer final : public schema::Gateway::Server {
 public:
  explicit GatewayServer(kj::Own<ConnectionContext> contextParam) : context(kj::mv(contextParam)) {
    fillServerInfo(prepared.initRoot<schema::ServerInfo>(), context->server, context->authentication);
    auto words = prepared.getRoot<schema::ServerInfo>().totalSize().wordCount;
    helloSize = capnp::MessageSize{words + HELLO_OVERHEAD_WORDS, 0};
  }

 protected:
  // Copies what was prepared: a server is asked this often.
  kj::Promise<void> hello(HelloContext call) override {
    auto results = call.getResults(helloSize);
    results.setInfo(prepared.getRoot<schema::ServerInfo>().asReader());
    results.getInfo().setUptime(context->server.uptime());
    return kj::READY_NOW;
  }

  kj::Promise<void> login(LoginContext call) override {
    auto params = call.getParams();
    auto refusal = refusalOf(params);
    KJ_IF_MAYBE (error, refusal) {
      return refuse(call, *error);
    }
    if (needsToken() && !context->server.token.matches(rpc::asView(params.getToken()))) return refuseToken(call);

    if (!context->everLoggedIn) {
      context->everLoggedIn = true;
      context->client = firstCharacters({params.getClient().cStr(), params.getClient().size()}, MAX_CLIENT_NAME);
      context->scope->client = context->client;
      log::debug(context->peer.c_str(), " logged in as ", context->client.c_str());
    }
    call.getResults().setSession(
        kj::heap<SessionServer>(kj::addRef(*context), context->loginOf(context->server.owner)));
    return kj::READY_NOW;
  }

 private:
  static constexpr uint64_t HELLO_OVERHEAD_WORDS = 8;

  kj::Own<ConnectionContext> context;
  capnp::MallocMessageBuilder prepared;
  capnp::MessageSize helloSize;

  bool needsToken() const { return context->authentication == schema::Authentication::TOKEN; }

  kj::Maybe<Error> refusalOf(schema::Gateway::LoginParams::Reader params) const {
    ServerState& server = context->server;
    if (context->refused) {
      return Error{ErrorCode::LIMIT,
                   "the server has as many connections as it allows (" + std::to_string(server.options.maxConnections) +
                       "); try again later, or start it with a higher --max-connections",
                   {}};
    }
    if (context->needsTls) {
      // The client tells a wrong token from this by the word, which is not in here.
      return Error{
          ErrorCode::DENIED,
          "the server takes connections over a network with TLS only; use an invite (--server @FILE), or leave "
          "out --insecure",
          {}};
    }
    if (server.draining) return Error{ErrorCode::SHUTTING_DOWN, "the server is shutting down; try again later", {}};
    uint32_t version = params.getProtocolVersion();
    if (version != 0 && (version < OLDEST_PROTOCOL_VERSION || version > schema::PROTOCOL_VERSION)) {
      return Error{ErrorCode::PROTOCOL_VERSION,
                   "the client speaks protocol version " + std::to_string(version) + ", the server versions " +
                       std::to_string(OLDEST_PROTOCOL_VERSION) + " to " + std::to_string(schema::PROTOCOL_VERSION) +
                       "; update the older of the two",
                   {}};
    }
    return nullptr;
  }

  static kj::Promise<void> refuse(LoginContext call, const Error& error) {
    auto results = call.getResults();
    rpc::setError(results.initOutcome(), error);
    results.setSession(rpc::failed<schema::Session>(error));
    return kj::READY_NOW;
  }

  // Each wrong token on a connection is answered later than the one before: 100 ms, doubling up to 5 s.
  kj::Promise<void> refuseToken(LoginContext call) {
    bool empty = call.getParams().getToken().size() == 0;
    Error error{ErrorCode::DENIED,
                empty ? "the server wants a token, and none was given" : "the token is not one of this server's",
                {}};
    unsigned doublings = std::min<uint32_t>(context->wrongTokens++, 6);
    log::warning(context->peer.c_str(), empty ? " came without a token" : " came with a wrong token", " (",
                 context->wrongTokens, " so far on this connection)");
    if (empty) return refuse(kj::mv(call), error);
    auto delay = std::min<kj::Duration>(100 * kj::MILLISECONDS * (1u << doublings), 5 * kj::SECONDS);
    return context->timer.afterDelay(delay).then(
        [call = kj::mv(call), error = kj::mv(error)]() mutable { return refuse(kj::mv(call), error); });
  }
};

}  // namespace

ConnectionContext::Login& ConnectionContext::loginOf(std::shared_ptr<Grant> grant) {
  auto found = logins.find(grant->id);
  if (found != logins.end()) return found->second;
  auto lease = kj::refcounted<Lease>(grant, kj::addRef(*scope));
  return logins.emplace(grant->id, Login{kj::mv(lease), nullptr}).first->second;
}

schema::Gateway::Client newGateway(kj::Own<ConnectionContext> context) {
  return kj::heap<GatewayServer>(kj::mv(context));
}

}  // namespace capstan::server
