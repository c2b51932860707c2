#include <capstan/server/gateway.h>

#include <algorithm>

#include <capstan/base/log.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/access/guarded.h>
#include <capstan/server/access/in-turn.h>

namespace capstan::server {

namespace {

constexpr size_t MAX_CLIENT_NAME = 64;
constexpr uint32_t OLDEST_PROTOCOL_VERSION = 1;
// So that whoever waits for an answer reads why there is none.
constexpr kj::Duration ENDED_GRACE = 5 * kj::SECONDS;

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
  SessionServer(kj::Own<ConnectionContext> contextParam, std::shared_ptr<ConnectionContext::Login> loginParam,
                Meters::Charge charge)
      : Guarded(kj::refcounted<Access>(kj::addRef(*loginParam->lease))),
        context(kj::mv(contextParam)),
        login(std::move(loginParam)),
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
    if (login->compute == nullptr) {
      login->compute = context->server.computing->newCompute(kj::addRef(*access), context->timer);
    }
    call.getResults().setCompute(KJ_ASSERT_NONNULL(login->compute));
    return kj::READY_NOW;
  }

 private:
  kj::Own<ConnectionContext> context;
  const std::shared_ptr<ConnectionContext::Login> login;
  const Meters::Charge charge;
};

class GatewayServer final : public schema::Gateway::Server {
 public:
  explicit GatewayServer(kj::Own<ConnectionContext> context) : context(kj::mv(context)) {}

 protected:
  kj::Promise<void> hello(HelloContext call) override {
    bool isStranger = needsToken() && !context->everLoggedIn;
    auto& prepared = preparedInfo(context->server, context->authentication, isStranger);
    auto results = call.getResults(capnp::MessageSize{prepared.size() + HELLO_OVERHEAD_WORDS, 0});
    results.setInfo(readPrepared(prepared));
    if (!isStranger) results.getInfo().setUptime(context->server.uptime());
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
  static constexpr uint32_t MAX_WAITING_LOGINS = 8;

  kj::Own<ConnectionContext> context;

  // To be attached to what mayWait() has let wait.
  auto noLongerWaits() {
    return kj::defer([context = kj::addRef(*context)]() mutable { --context->waitingLogins; });
  }

  bool needsToken() const { return context->authentication == schema::Authentication::TOKEN; }

  kj::Maybe<Error> refusalOf(schema::Gateway::LoginParams::Reader params) const {
    ServerState& server = context->server;
    if (!context->everLoggedIn && !server.hasPlace(context->authentication)) {
      server.metering.countRefusal(Limit::SERVER_CONNECTIONS);
      return tooManyConnections();
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

  Error tooManyConnections() const {
    return {ErrorCode::LIMIT,
            "the server has as many connections as it allows (" +
                std::to_string(context->server.options.limits[Limit::SERVER_CONNECTIONS]) +
                "); try again later, or start it with a higher --max-connections",
            {}};
  }

  kj::Promise<void> admit(LoginContext& call, std::shared_ptr<Grant> grant) {
    auto login = context->loginOf(grant);
    if (!login.ok()) return refuse(call, login.error());
    auto charge = (*login)->lease->meters.take(Resource::LOGINS);
    if (!charge.ok()) return refuse(call, charge.error());
    if (!context->everLoggedIn) {
      auto place = context->server.takePlace(context->authentication);
      if (place == nullptr) return refuse(call, tooManyConnections());
      context->place = std::move(place);
      context->newcomer = nullptr;
      KJ_IF_MAYBE (connection, context->connection) connection->trust();
      auto name = call.getParams().getClient();
      context->everLoggedIn = true;
      context->client = firstCharacters({name.cStr(), name.size()}, MAX_CLIENT_NAME);
      context->scope->client = context->client;
      const char* share = grant->isOwner() ? "" : grant->id.c_str();
      log::debug(context->peer.c_str(), " logged in as ", context->client.c_str(),
                 *share == 0 ? "" : " with the share ", share);
    }
    call.getResults().setSession(
        newGuarded<SessionServer>(kj::addRef(*context), std::move(*login), std::move(*charge)));
    return kj::READY_NOW;
  }

  // The call's context keeps this object.
  kj::Promise<void> admitCounted(LoginContext call, std::shared_ptr<Grant> grant) {
    if (!mayWait()) return tooManyLogins();
    auto& scope = *context->scope;
    auto count = [&shares = context->server.shares, grants = context->server.grants, grant]() {
      return shares.run([grants, grant]() { return grants->use(*grant); });
    };
    return inTurn(scope, scope.shareJobs, kj::mv(count))
        .then([this, call, grant](Status used) mutable {
          // It may have ended since it was counted, and the lease is to be made in the same turn as this is looked at.
          auto ended = used.ok() ? grant->ended() : used.error();
          return ended ? refuseEnded(call, *grant, *ended) : admit(call, std::move(grant));
        })
        .attach(noLongerWaits());
  }

  // Whether one more login may be answered later than at once: what waits takes memory, and the peer may be anybody.
  bool mayWait() {
    if (context->waitingLogins >= MAX_WAITING_LOGINS) return false;
    ++context->waitingLogins;
    return true;
  }
  kj::Promise<void> tooManyLogins() {
    context->end("it had too many logins under way");
    return KJ_EXCEPTION(OVERLOADED, "too many logins under way");
  }

  // One line in a second about each network: else whoever is refused could fill the disk with lines.
  template <typename Line>
  void tell(Line&& line) {
    auto untold = context->server.throttle.mayTell(context->network, context->timer.now());
    if (!untold) return;
    if (*untold == 0) return line();
    line("; ", *untold, " more lines about peers from there were left out");
  }

  static kj::Promise<void> refuse(LoginContext& call, const Error& error) {
    auto results = call.getResults();
    rpc::setError(results.initOutcome(), error);
    results.setSession(rpc::failed<schema::Session>(error));
    return kj::READY_NOW;
  }

  kj::Promise<void> refuseEnded(LoginContext& call, const Grant& grant, const Error& error) {
    tell([&](auto... more) {
      log::info(context->peer.c_str(), " was not let in with the share ", grant.id.c_str(), ": ", error.message.c_str(),
                more...);
    });
    return refuse(call, error);
  }

  kj::Promise<void> refuseWithoutToken(LoginContext& call) {
    tell([&](auto... more) { log::warning(context->peer.c_str(), " came without a token", more...); });
    return refuse(call, {ErrorCode::DENIED, "the server wants a token, and none was given", {}});
  }

  // Nothing is held meanwhile but the call itself, which keeps this object.
  kj::Promise<void> refuseToken(LoginContext call) {
    call.releaseParams();
    auto failure = context->server.throttle.failed(context->network, context->timer.now());
    tell([&](auto... more) {
      log::warning(context->peer.c_str(), " came with a wrong token (", failure.count, " from there lately)", more...);
    });
    if (!mayWait()) return tooManyLogins();
    return context->timer.afterDelay(failure.delay)
        .then([call = kj::mv(call)]() mutable {
          return refuse(call, {ErrorCode::DENIED, "the token is not one of this server's", {}});
        })
        .attach(noLongerWaits());
  }
};

}  // namespace

Result<std::shared_ptr<ConnectionContext::Login>> ConnectionContext::loginOf(std::shared_ptr<Grant> grant) {
  auto found = logins.find(grant->id);
  if (found != logins.end()) return found->second;
  Meters meters = server.metering.metersOf(scope->meter, *grant);
  auto place = meters.take(Resource::CONNECTIONS);
  if (!place.ok()) return place.error();
  auto lease = kj::refcounted<Lease>(grant, kj::addRef(*scope), std::move(meters));
  if (leases != nullptr) leases->add(*lease);
  auto login = std::make_shared<Login>(Login{kj::mv(lease), std::move(*place), nullptr});
  logins.emplace(grant->id, login);
  if (!grant->isOwner()) tasks.add(whenEnded(login));
  return login;
}

kj::Promise<void> ConnectionContext::whenEnded(const std::shared_ptr<Login>& login) {
  // `this`: the task is of a member.
  auto cut = login->lease->whenCut();
  return cut
      .then([this, login]() {
        login->compute = nullptr;
        return timer.afterDelay(ENDED_GRACE);
      })
      .then([this, login]() {
        logins.erase(login->lease->grant->id);
        if (logins.empty()) end("what it had logged in with has ended");
      });
}

void ConnectionContext::taskFailed(kj::Exception&& exception) {
  log::error("ending what a share gave failed: ", rpc::errorFromException(exception).message.c_str());
}

void ConnectionContext::end(kj::StringPtr why) {
  KJ_IF_MAYBE (fulfiller, ending) {
    reason = why;
    (*fulfiller)->fulfill();
  }
  ending = nullptr;
}

void ConnectionContext::disconnected() {
  connection = nullptr;
  ending = nullptr;
  newcomer = nullptr;
  place = nullptr;
  scope->gone = true;
}

schema::Gateway::Client newGateway(kj::Own<ConnectionContext> context) {
  return kj::heap<GatewayServer>(kj::mv(context));
}

}  // namespace capstan::server
