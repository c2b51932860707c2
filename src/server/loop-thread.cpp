#include <capstan/server/loop-thread.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>

#include <future>
#include <list>

#include <kj/time.h>

#include <capstan/base/log.h>
#include <capstan/rpc/event-loop.h>
#include <capstan/rpc/outcome.h>
#include <capstan/rpc/peer-connection.h>
#include <capstan/server/arrival.h>
#include <capstan/server/gateway.h>

namespace capstan::server {

namespace {

// Of one that has not logged in. Ten times what a client sends that has much to say at once.
constexpr uint64_t STRANGERS_MESSAGES = 2048;
constexpr size_t STRANGERS_HIGH_WATER = 64 << 10;
// A login is shorter; what follows it in the same round trip may wait until that is answered.
constexpr size_t STRANGERS_MESSAGE = 64 << 10;
constexpr kj::StringPtr CROWDED_OUT = "it had not logged in, and had to give way to others"_kj;

kj::Duration nanoseconds(uint64_t count) { return int64_t(count) * kj::NANOSECONDS; }

// What a connection is counted by, from the moment it was accepted until nothing of it is left. Made on the acceptor's
// thread, so that the order of the newcomers is that in which they came, however busy their loops are.
struct Place {
  ConnectionRegistry::Entry registered;
  std::atomic<uint32_t>& load;
  const kj::TimePoint since;
  const PeerIdentity peer;
  std::unique_ptr<Newcomers::Entry> newcomer;

  Place(ServerState& server, std::atomic<uint32_t>& load, PeerIdentity peerParam)
      : registered(server.registry),
        load(load),
        since(kj::systemPreciseMonotonicClock().now()),
        peer(std::move(peerParam)),
        newcomer(server.newcomers.enter(networkOf(peer.name))) {
    load.fetch_add(1, std::memory_order_relaxed);
    if (newcomer->crowding) server.metering.countRefusal(*newcomer->crowding);
    log::info(peer.name.c_str(), " connected, ", server.registry.open(), " open");
  }
  ~Place() { load.fetch_sub(1, std::memory_order_relaxed); }
  KJ_DISALLOW_COPY(Place);

  // How long it may still take to log in.
  kj::Duration leftToLogIn(const ServerState& server, kj::TimePoint now) const {
    auto deadline = nanoseconds(server.options.limits[Limit::CONNECTION_LOGIN_TIME]);
    return kj::max(deadline - (now - since), 0 * kj::NANOSECONDS);
  }
};

// One connection from its first message to its last.
class ServedConnection {
 public:
  ServedConnection(ServerState& server, kj::Timer& timer, Arrivals::Arrived arrived, kj::Own<Place> placeParam,
                   LoopLeases& leases)
      : place(kj::mv(placeParam)),
        timer(timer),
        context(newContext(server, timer, *place, arrived.isEncrypted, leases)),
        connection(kj::mv(arrived.stream), capnp::rpc::twoparty::Side::SERVER,
                   capnp::Capability::Client(newGateway(kj::addRef(*context))), place->registered.counters,
                   {.maxMessageBytes = server.options.limits[Limit::CONNECTION_MESSAGE],
                    .strangersHighWater = STRANGERS_HIGH_WATER,
                    .strangersMessages = STRANGERS_MESSAGES,
                    .strangersMessageBytes = STRANGERS_MESSAGE}) {
    context->connection = connection;
  }

  ~ServedConnection() noexcept(false) {
    context->disconnected();
    KJ_IF_MAYBE (violation, connection.violation()) {
      log::warning(context->peer.c_str(), ": ", *violation);
    }
    const char* name = context->client.c_str();
    log::info(context->peer.c_str(), context->client.empty() ? "" : " (", name, context->client.empty() ? "" : ")",
              " disconnected, ", context->server.registry.open() - 1, " open", context->reason.size() > 0 ? ": " : "",
              context->reason);
  }

  // Resolves when the connection has to end, whoever wants that.
  kj::Promise<void> whenOver() {
    auto crowdedOut = context->newcomer->whenCrowdedOut().then([this]() { context->reason = CROWDED_OUT; });
    auto ending = kj::newPromiseAndFulfiller<void>();
    context->ending = kj::mv(ending.fulfiller);
    return connection.onDisconnect()
        .exclusiveJoin(whenLoginIsLate())
        .exclusiveJoin(whenIdle())
        .exclusiveJoin(kj::mv(crowdedOut))
        .exclusiveJoin(kj::mv(ending.promise));
  }

  void beginDrain() { context->scope->shuttingDown = true; }

 private:
  kj::Own<Place> place;
  kj::Timer& timer;
  kj::Own<ConnectionContext> context;
  rpc::PeerConnection connection;
  uint64_t messagesBefore = 0;

  static kj::Own<ConnectionContext> newContext(ServerState& server, kj::Timer& timer, Place& place, bool isEncrypted,
                                               LoopLeases& leases) {
    auto scope = kj::refcounted<ConnectionScope>(server.metering.newConnection());
    scope->timer = &timer;
    scope->grants = server.grants;
    scope->sharesPool = &server.shares;
    scope->shuttingDown = server.draining;
    auto authentication = place.peer.isUnix                                       ? schema::Authentication::SAME_USER
                          : server.options.authentication == Authentication::NONE ? schema::Authentication::NONE
                                                                                  : schema::Authentication::TOKEN;
    auto context = kj::refcounted<ConnectionContext>(server, timer, place.peer.name, authentication, kj::mv(scope));
    context->newcomer = std::move(place.newcomer);
    context->leases = &leases;
    context->needsTls = !isEncrypted && !mayBePlain(place.peer, server.options.insecure);
    return context;
  }

  kj::Promise<void> whenLoginIsLate() {
    auto left = place->leftToLogIn(context->server, timer.now());
    return timer.afterDelay(left).then([this]() -> kj::Promise<void> {
      // `this` outlives the promise: the loop destroys both together, the promise first.
      if (context->everLoggedIn) return kj::NEVER_DONE;
      context->reason = "it did not log in in time";
      context->server.metering.countRefusal(Limit::CONNECTION_LOGIN_TIME);
      return kj::READY_NOW;
    });
  }

  // A transfer whose other end has stalled is not idleness.
  bool isTransferring() const {
    const Meter& meter = *context->scope->meter;
    return meter.used(Resource::UPLOADS) + meter.used(Resource::STREAMS) > 0;
  }

  kj::Promise<void> whenIdle() {
    uint64_t limit = context->server.options.limits[Limit::CONNECTION_IDLE_TIME];
    if (limit == 0) return kj::NEVER_DONE;
    messagesBefore = place->registered.counters.messagesReceived.load(std::memory_order_relaxed);
    return timer.afterDelay(nanoseconds(limit)).then([this]() -> kj::Promise<void> {
      uint64_t messages = place->registered.counters.messagesReceived.load(std::memory_order_relaxed);
      if (messages != messagesBefore || isTransferring()) return whenIdle();
      context->reason = "it was idle for too long";
      context->server.metering.countRefusal(Limit::CONNECTION_IDLE_TIME);
      return kj::READY_NOW;
    });
  }
};

void tuneSocket(int fd, const PeerIdentity& peer) {
  if (peer.isUnix) return;
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  // A peer that has vanished without a word is noticed within about two minutes.
  int idle = 60, interval = 15, probes = 4;
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

}  // namespace

// Lives on the thread's stack.
class LoopThread::Loop final : public kj::TaskSet::ErrorHandler {
 public:
  Loop(ServerState& server, kj::AsyncIoContext& io)
      : server(server),
        timer(io.provider->getTimer()),
        leases(server.leases),
        arrivals(server.tls, *io.lowLevelProvider, io.unixEventPort, timer),
        endings(*this) {}

  void adopt(kj::AutoCloseFd socket, kj::Own<Place> place) {
    tuneSocket(socket.get(), place->peer);
    if (place->peer.isUnix) return serve({arrivals.wrap(kj::mv(socket)), false}, kj::mv(place));
    auto late = timer.afterDelay(place->leftToLogIn(server, timer.now())).then([]() {
      return Result<Arrivals::Arrived>(Error{ErrorCode::TIMED_OUT, "it did not log in in time", {}});
    });
    auto crowdedOut = place->newcomer->whenCrowdedOut().then([]() {
      return Result<Arrivals::Arrived>(Error{ErrorCode::LIMIT, CROWDED_OUT.cStr(), {}});
    });
    // `this` outlives `endings`.
    endings.add(arrivals.receive(kj::mv(socket))
                    .exclusiveJoin(kj::mv(late))
                    .exclusiveJoin(kj::mv(crowdedOut))
                    .then([this, place = kj::mv(place)](Result<Arrivals::Arrived>&& arrived) mutable {
                      if (arrived.ok()) return serve(std::move(*arrived), kj::mv(place));
                      log::info(place->peer.name.c_str(), " disconnected, ", server.registry.open() - 1,
                                " open: ", arrived.error().message.c_str());
                    }));
  }

  void beginDrain() {
    for (auto& connection : open) connection->beginDrain();
  }

 private:
  ServerState& server;
  kj::Timer& timer;
  LoopLeases leases;
  Arrivals arrivals;
  std::list<kj::Own<ServedConnection>> open;
  kj::TaskSet endings;  // destroyed before the connections

  void serve(Arrivals::Arrived arrived, kj::Own<Place> place) {
    auto connection = kj::heap<ServedConnection>(server, timer, kj::mv(arrived), kj::mv(place), leases);
    auto over = connection->whenOver();
    auto position = open.insert(open.end(), kj::mv(connection));
    endings.add(over.catch_([](kj::Exception&&) {}).then([this, position]() {
      // Not destroyed here: this continuation belongs to a promise of the connection's own. `this` outlives `endings`.
      endings.add(kj::evalLater([this, position]() { open.erase(position); }));
    }));
  }

  void taskFailed(kj::Exception&& exception) override {
    log::error("a connection's task failed: ", rpc::errorFromException(exception).message.c_str());
  }
};

LoopThread::LoopThread(ServerState& server) : server(server) {
  std::promise<void> started;
  thread = std::thread([this, &started]() {
    pthread_setname_np(pthread_self(), "capstan-loop");
    log::LinesOfKj linesOfKj;
    bool ready = false;
    auto failure = kj::runCatchingExceptions([&]() {
      run([&](Loop& theLoop, kj::Own<const kj::Executor> theExecutor,
              kj::Own<kj::CrossThreadPromiseFulfiller<void>> theStop) {
        loop = &theLoop;
        executor = kj::mv(theExecutor);
        stop = kj::mv(theStop);
        ready = true;
        started.set_value();
      });
    });
    KJ_IF_MAYBE (exception, failure) {
      if (ready) kj::throwFatalException(kj::mv(*exception));
      started.set_exception(std::make_exception_ptr(*exception));
    }
  });
  try {
    started.get_future().get();
  } catch (...) {
    thread.join();
    throw;
  }
}

LoopThread::~LoopThread() noexcept(false) {
  stop->fulfill();
  thread.join();
}

void LoopThread::run(
    std::function<void(Loop&, kj::Own<const kj::Executor>, kj::Own<kj::CrossThreadPromiseFulfiller<void>>)> ready) {
  auto io = kj::setupAsyncIo();
  rpc::setUpEventLoop(io.waitScope);
  auto stopping = kj::newPromiseAndCrossThreadFulfiller<void>();
  Loop theLoop(server, io);
  ready(theLoop, kj::getCurrentThreadExecutor().addRef(), kj::mv(stopping.fulfiller));
  stopping.promise.wait(io.waitScope);
}

kj::Promise<void> LoopThread::adopt(kj::AutoCloseFd socket, PeerIdentity peer) {
  auto place = kj::heap<Place>(server, connections, std::move(peer));
  return executor->executeAsync(
      [this, socket = kj::mv(socket), place = kj::mv(place)]() mutable { loop->adopt(kj::mv(socket), kj::mv(place)); });
}

kj::Promise<void> LoopThread::beginDrain() {
  return executor->executeAsync([this]() { loop->beginDrain(); });
}

kj::Promise<void> LoopThread::takeTurn() {
  return executor->executeAsync([]() {});
}

}  // namespace capstan::server
