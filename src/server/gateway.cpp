#include <capstan/server/gateway.h>

#include <capstan/base/log.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/access/in-turn.h>

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
  SessionServer(kj::Own<ConnectionContext> contextParam, ConnectionContext::Login& login, Meters::Charge charge)
      : Guarded(kj::refcounted<Access>(kj::addRef(*login.lease))),
        context(kj::mv(contextParam)),
        login(login),
        charge(std::move(charge)) {
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
    auto status = call.getResults().initStatus();
    if (access->grant().isOwner()) {
      fillStatus(status, context->server, context->authentication);
    } else {
      fillShareStatus(status, context->server, context->authentication, *access);
    }
    return kj::READY_NOW;
  }

  kj::Promise<void> grants(GrantsContext call) override {
    call.getResults().setGrants(newGrants(kj::addRef(*access), context->server));
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
  const Meters::Charge charge;
};

class GatewayServer final : public schema::Gateway::Server {
 public:
  explicit GatewayServer(kj::Own<ConnectionContext> context) : context(kj::mv(context)) {}

 protected:
  kj::Promise<void> hello(HelloContext call) override {
    uint64_t words = context->server.preparedInfo[size_t(context->authentication)].size();
    auto results = call.getResults(capnp::MessageSize{words + HELLO_OVERHEAD_WORDS, 0});
    results.setInfo(preparedInfo(context->server, context->authentication));
    results.getInfo().setUptime(context->server.uptime());
    return kj::READY_NOW;
  }

  kj::Promise<void> login(LoginContext call) override {
    auto params = call.getParams();
    auto refusal = refusalOf(params);
    KJ_IF_MAYBE (error, refusal) {
      return refuse(call, *error);
    }
    // A token counts as what it opens also where none is needed: an invite gives no more by one way than by another.
    auto token = rpc::asView(params.getToken());
    if (token.empty() && needsToken()) return refuseWithoutToken(call);
    Grants& grants = *context->server.grants;
    auto grant = token.empty() ? grants.owner() : grants.match(token);
    if (grant == nullptr) return refuseToken(kj::mv(call));
    if (auto ended = grants.refusal(*grant)) return refuseEnded(call, *grant, *ended);
    if (grants.mustCount(*grant)) return admitCounted(kj::mv(call), std::move(grant));
    Status used = grants.use(*grant);
    if (!used.ok()) return refuseEnded(call, *grant, used.error());
    return admit(call, std::move(grant));
  }

 private:
  static constexpr uint64_t HELLO_OVERHEAD_WORDS = 8;

  kj::Own<ConnectionContext> context;

  bool needsToken() const { return context->authentication == schema::Authentication::TOKEN; }

  kj::Maybe<Error> refusalOf(schema::Gateway::LoginParams::Reader params) const {
    ServerState& server = context->server;
    if (context->refused) {
      return Error{ErrorCode::LIMIT,
                   "the server has as many connections as it allows (" +
                       std::to_string(server.options.limits[Limit::SERVER_CONNECTIONS]) +
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

  kj::Promise<void> admit(LoginContext& call, std::shared_ptr<Grant> grant) {
    auto login = context->loginOf(grant);
    if (!login.ok()) return refuse(call, login.error());
    auto charge = (*login)->lease->meters.take(Resource::LOGINS);
    if (!charge.ok()) return refuse(call, charge.error());
    if (!context->everLoggedIn) {
      auto name = call.getParams().getClient();
      context->everLoggedIn = true;
      context->client = firstCharacters({name.cStr(), name.size()}, MAX_CLIENT_NAME);
      context->scope->client = context->client;
      const char* share = grant->isOwner() ? "" : grant->id.c_str();
      log::debug(context->peer.c_str(), " logged in as ", context->client.c_str(),
                 *share == 0 ? "" : " with the share ", share);
    }
    call.getResults().setSession(kj::heap<SessionServer>(kj::addRef(*context), **login, std::move(*charge)));
    return kj::READY_NOW;
  }

  // The call's context keeps this object.
  kj::Promise<void> admitCounted(LoginContext call, std::shared_ptr<Grant> grant) {
    auto& scope = *context->scope;
    auto count = [&shares = context->server.shares, grants = context->server.grants, grant]() {
      return shares.run([grants, grant]() { return grants->use(*grant); });
    };
    return inTurn(scope, scope.shareJobs, kj::mv(count)).then([this, call, grant](Status used) mutable {
      // It may have ended since it was counted, and the lease is to be made in the same turn as this is looked at.
      auto ended = used.ok() ? grant->ended() : used.error();
      return ended ? refuseEnded(call, *grant, *ended) : admit(call, std::move(grant));
    });
  }

  static kj::Promise<void> refuse(LoginContext& call, const Error& error) {
    auto results = call.getResults();
    rpc::setError(results.initOutcome(), error);
    results.setSession(rpc::failed<schema::Session>(error));
    return kj::READY_NOW;
  }

  kj::Promise<void> refuseEnded(LoginContext& call, const Grant& grant, const Error& error) {
    log::info(context->peer.c_str(), " was not let in with the share ", grant.id.c_str(), ": ", error.message.c_str());
    return refuse(call, error);
  }

  kj::Promise<void> refuseWithoutToken(LoginContext& call) {
    log::warning(context->peer.c_str(), " came without a token");
    return refuse(call, {ErrorCode::DENIED, "the server wants a token, and none was given", {}});
  }

  // Nothing is held meanwhile but the call itself.
  kj::Promise<void> refuseToken(LoginContext call) {
    call.releaseParams();
    auto failure = context->server.throttle.failed(context->network, context->timer.now());
    log::warning(context->peer.c_str(), " came with a wrong token (", failure.count, " from there lately)");
    return context->timer.afterDelay(failure.delay).then([call = kj::mv(call)]() mutable {
      return refuse(call, {ErrorCode::DENIED, "the token is not one of this server's", {}});
    });
  }
};

}  // namespace

Result<ConnectionContext::Login*> ConnectionContext::loginOf(std::shared_ptr<Grant> grant) {
  auto found = logins.find(grant->id);
  if (found != logins.end()) return &found->second;
  Meters meters = server.metering.metersOf(scope->meter, *grant);
  auto place = meters.take(Resource::CONNECTIONS);
  if (!place.ok()) return place.error();
  auto lease = kj::refcounted<Lease>(grant, kj::addRef(*scope), std::move(meters));
  if (leases != nullptr) leases->add(*lease);
  return &logins.emplace(grant->id, Login{kj::mv(lease), std::move(*place), nullptr}).first->second;
}

schema::Gateway::Client newGateway(kj::Own<ConnectionContext> context) {
  return kj::heap<GatewayServer>(kj::mv(context));
}

}  // namespace capstan::server
