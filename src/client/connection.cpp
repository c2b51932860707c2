#include <capstan/client/connection.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>

#include <capstan/base/text.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>

namespace capstan::client {

ServerInfo readServerInfo(schema::ServerInfo::Reader from) {
  ServerInfo info;
  auto text = [](capnp::Text::Reader value) { return std::string(value.begin(), value.size()); };
  info.name = text(from.getName());
  info.version = text(from.getVersion());
  info.host = text(from.getHost());
  info.protocolVersion = from.getProtocolVersion();
  info.oldestProtocolVersion = from.getOldestProtocolVersion();
  info.processId = from.getProcessId();
  info.uptime = from.getUptime();
  auto limits = from.getLimits();
  info.maxRead = limits.getRead();
  info.maxPut = limits.getPut();
  info.writeChunk = limits.getWriteChunk();
  info.maxOpenFiles = limits.getOpenFiles();
  info.maxUploads = limits.getUploads();
  info.needsToken = from.getAuthentication() == schema::Authentication::TOKEN;
  return info;
}

namespace {

// The high-water marks are a server's: two ends that both stop reading would wait for each other.
rpc::PeerOptions peerOptions() {
  rpc::PeerOptions options;
  options.outgoingHighWater = 0;
  options.incomingHighWater = 0;
  return options;
}

}  // namespace

Connection::Connection(kj::Own<kj::AsyncIoStream> stream, const Options& options, bool isWithheld, kj::Timer& timer,
                       rpc::WireCounters& counters, kj::TaskSet& graveyard)
    : Connection(kj::newPromiseAndFulfiller<void>(), kj::mv(stream), options, isWithheld, timer, counters, graveyard) {}

Connection::Connection(kj::PromiseFulfillerPair<void> breaking, kj::Own<kj::AsyncIoStream> stream,
                       const Options& options, bool isWithheld, kj::Timer& timer, rpc::WireCounters& counters,
                       kj::TaskSet& graveyard)
    : options(options),
      isWithheld(isWithheld),
      graveyard(graveyard),
      peer(kj::heap<rpc::PeerConnection>(kj::mv(stream), capnp::rpc::twoparty::Side::CLIENT, nullptr, counters,
                                         peerOptions())),
      broken(breaking.promise.fork()),
      breaker(kj::mv(breaking.fulfiller)),
      gatewayClient(peer->bootstrap().castAs<schema::Gateway>()),
      sessionClient(nullptr),
      fileStoreClient(nullptr),
      login(sendLogin().fork()),
      watchdog(watchForSilence(timer).eagerlyEvaluate(nullptr)) {}

Connection::~Connection() noexcept(false) {
  // A PeerConnection must not be destroyed inside an event of its own, and the last reference may go in one.
  graveyard.add(kj::evalLater([peer = kj::mv(peer)]() mutable { peer = nullptr; }));
}

kj::Promise<kj::Maybe<Error>> Connection::sendLogin() {
  auto request = gatewayClient.loginRequest();
  if (!isWithheld) request.setToken(rpc::asData(options.token));
  request.setProtocolVersion(PROTOCOL_VERSION);
  request.setClient(options.name.c_str());
  auto login = request.send();
  auto hello = gatewayClient.helloRequest().send();
  sessionClient = login.getSession();
  fileStoreClient = sessionClient.fileStoreRequest().send().getFileStore();

  // `this`: the promises are members.
  auto informed = hello
                      .then([this](capnp::Response<schema::Gateway::HelloResults>&& response) {
                        serverInfo = readServerInfo(response.getInfo());
                      })
                      .catch_([](kj::Exception&&) {})
                      .fork();
  auto refusal =
      [this, informed = informed.addBranch()](
          capnp::Response<schema::Gateway::LoginResults>&& response) mutable -> kj::Promise<kj::Maybe<Error>> {
    answered = true;
    kj::Maybe<Error> error = rpc::errorIn(response.getOutcome());
    KJ_IF_MAYBE (e, error) {
      // The versions that the server speaks come with hello.
      return informed.then([this, e = kj::mv(*e)]() mutable { return kj::Maybe<Error>(explainRefusal(kj::mv(e))); });
    }
    accepted = true;
    // So that the reply to hello is not cancelled: it tells the limits.
    return informed.then([]() { return kj::Maybe<Error>(nullptr); });
  };
  return login.then(kj::mv(refusal),
                    [](kj::Exception&&) -> kj::Promise<kj::Maybe<Error>> { return kj::Maybe<Error>(nullptr); });
}

kj::Promise<void> Connection::watchForSilence(kj::Timer& timer) {
  auto tooLate = timer.afterDelay(patience(options)).then([this]() {
    if (answered) return;
    silent = true;
    breaker->reject(KJ_EXCEPTION(DISCONNECTED, "the server did not answer in time"));
  });
  return tooLate.exclusiveJoin(login.addBranch().ignoreResult());
}

schema::Compute::Client& Connection::compute() {
  if (computeClient == nullptr) computeClient = sessionClient.computeRequest().send().getCompute();
  return KJ_ASSERT_NONNULL(computeClient);
}

bool Connection::isForeign() const { return peer->violation() != nullptr; }

kj::Maybe<const ServerInfo&> Connection::info() const {
  KJ_IF_MAYBE (i, serverInfo) {
    return *i;
  }
  return nullptr;
}

kj::Promise<void> Connection::onDisconnect() { return peer->onDisconnect(); }

Error Connection::explain(const kj::Exception& exception) const {
  std::string address = escapeForTerminal(options.address.toString());
  KJ_IF_MAYBE (violation, peer->violation()) {
    return {ErrorCode::UNREACHABLE,
            address + " answers, but not as a Capstan server does (" + escapeForTerminal(violation->cStr()) +
                "); check host and port",
            {}};
  }
  if (silent) {
    return {ErrorCode::UNREACHABLE,
            address + " accepts connections but did not answer within " +
                formatDuration(patience(options) / kj::NANOSECONDS) +
                ": it is not a Capstan server, or it hangs; check host and port",
            {}};
  }
  if (!answered) {
    return {ErrorCode::UNREACHABLE,
            address +
                " closed the connection without an answer: it is not a Capstan server, or one that takes no more "
                "connections; check host and port",
            {}};
  }
  std::string reason = rpc::errorFromException(exception).message;
  constexpr std::string_view KNOWN = "the connection was lost: ";
  if (reason.starts_with(KNOWN)) reason.erase(0, KNOWN.size());
  return {ErrorCode::UNREACHABLE, "the connection to " + address + " broke (" + reason + ")", {}};
}

Error Connection::explainRefusal(Error error) const {
  std::string address = escapeForTerminal(options.address.toString());
  // `denied` is also what a server says that wants TLS.
  if (error.code == ErrorCode::DENIED && error.message.find("token") != std::string::npos) {
    const char* where =
        "; the server's owner finds one in the file owner.token in the server's state folder (see --token-file)";
    if (isWithheld) {
      error.message = address +
                      " asks for a token, and this user's own was not sent: it is not certain that nobody else listens "
                      "there; use an invite (--server @FILE), or name the file of the token that is meant for it with "
                      "--token-file";
    } else if (options.token.empty()) {
      error.message = address + " asks for a token, and none was given" + where;
    } else {
      error.message = address + " does not accept this token" + where;
    }
  } else if (error.code == ErrorCode::PROTOCOL_VERSION) {
    std::string theirs = "another protocol version";
    KJ_IF_MAYBE (i, serverInfo) {
      theirs = "protocol version " + std::to_string(i->protocolVersion);
      if (i->oldestProtocolVersion != i->protocolVersion) {
        theirs = "protocol versions " + std::to_string(i->oldestProtocolVersion) + " to " +
                 std::to_string(i->protocolVersion);
      }
    }
    error.message = address + " speaks " + theirs + ", and this client speaks version " +
                    std::to_string(PROTOCOL_VERSION) + "; update the older of the two";
  } else {
    error.message = address + ": " + error.message;
  }
  error.path.clear();
  return error;
}

kj::Duration patience(const Options& options) {
  return int64_t(std::max(options.connectTimeout, options.answerTimeout)) * kj::NANOSECONDS;
}

void tuneSocket(kj::AsyncIoStream& stream, const rpc::Address& address) {
  if (address.kind != rpc::Address::Kind::TCP) return;
  auto set = [&stream](int level, int option, int value) { stream.setsockopt(level, option, &value, sizeof(value)); };
  kj::runCatchingExceptions([&]() {
    set(IPPROTO_TCP, TCP_NODELAY, 1);
    set(SOL_SOCKET, SO_KEEPALIVE, 1);
    set(IPPROTO_TCP, TCP_KEEPIDLE, 20);
    set(IPPROTO_TCP, TCP_KEEPINTVL, 10);
    set(IPPROTO_TCP, TCP_KEEPCNT, 3);
    set(IPPROTO_TCP, TCP_USER_TIMEOUT, 50'000);
  });
}

}  // namespace capstan::client
