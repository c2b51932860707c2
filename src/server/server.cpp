#include <capstan/server/server.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <thread>

#include <capstan/base/file.h>
#include <capstan/base/log.h>
#include <capstan/base/path.h>
#include <capstan/base/text.h>
#include <capstan/rpc/outcome.h>
#include <capstan/rpc/tls.h>
#include <capstan/server/acceptor.h>
#include <capstan/server/grants-keeper.h>
#include <capstan/server/loop-thread.h>
#include <capstan/server/server-state.h>

namespace capstan::server {

namespace {

constexpr unsigned POOL_THREADS = 8;
constexpr size_t POOL_QUEUE = 4096;

// Absolute and without symlinks, as far as it exists.
std::string absolute(const std::string& path) {
  std::error_code problem;
  auto result = std::filesystem::weakly_canonical(std::filesystem::absolute(path, problem), problem);
  return problem ? path : result.string();
}

Status checkRoot(const std::string& root) {
  struct stat status;
  if (stat(root.c_str(), &status) < 0) return errorFromErrno(errno, "cannot serve", root);
  if (!S_ISDIR(status.st_mode)) return errorAt(ErrorCode::NOT_DIRECTORY, root, "cannot serve ", ": it is not a folder");
  return okStatus();
}

// State that lies in the served folder would be served: secrets included.
Status checkState(const std::string& root, const std::string& state) {
  std::string rootPath = absolute(root), statePath = absolute(state);
  if (rootPath == "/") rootPath.clear();  // everything is within
  std::string reserved = rootPath + "/" + std::string(STATE_FOLDER);
  if (isWithin(statePath, rootPath) && !isWithin(statePath, reserved)) {
    return errorAt(ErrorCode::INVALID_ARGUMENT, state, "the state folder ",
                   " lies in the served folder, where everybody could read it; choose another with --state");
  }
  return makeDirectories(state);
}

void raiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

std::string hostName() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? escapeForTerminal(name) : "unknown";
}

// Unix sockets alone need no TLS; of inherited sockets it is not known yet what they are.
bool needsTls(const ServerOptions& options) {
  auto isTcp = [](const rpc::Address& address) { return address.kind == rpc::Address::Kind::TCP; };
  return !options.inherited.empty() || !options.tlsCertificate.empty() || !options.tlsKey.empty() ||
         std::any_of(options.listen.begin(), options.listen.end(), isTcp);
}

// Also tries whether TLS takes it.
Result<rpc::TlsIdentity> readTlsIdentity(const ServerOptions& options) {
  if (options.tlsCertificate.empty() != options.tlsKey.empty()) {
    return Error{ErrorCode::INVALID_ARGUMENT, "a certificate and its key go together: name both, or none", {}};
  }
  auto identity = options.tlsKey.empty() ? rpc::TlsIdentity::loadOrMake(options.stateFolder)
                                         : rpc::TlsIdentity::load(options.tlsCertificate, options.tlsKey);
  if (!identity.ok()) return identity;
  auto tried = rpc::TlsServer::make(*identity);
  if (!tried.ok()) return tried.error();
  return identity;
}

// An address that a user gave, as it is told to others: with the port that was bound, a socket's path from the root.
std::string asGiven(const rpc::Address& given, const rpc::Address& bound) {
  rpc::Address told = given;
  if (given.kind == rpc::Address::Kind::UNIX) told.path = absolute(bound.path);
  if (given.kind == rpc::Address::Kind::TCP) told.port = bound.port;
  return told.toString();
}

Result<std::shared_ptr<Grants>> openGrants(const std::string& root, const OwnerToken& token, const Limits& limits) {
  std::string state = root + "/" + std::string(STATE_FOLDER);
  Status made = makeDirectories(state);
  if (!made.ok()) return made.error();
  kj::AutoCloseFd fd(open(state.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (fd.get() < 0) return errorFromErrno(errno, "cannot open", state);
  return Grants::open({.stateFolder = fd, .sharesLimit = uint32_t(limits[Limit::GRANT_SHARES])}, token.sha256());
}

files::FolderOptions folderOptions(const ServerOptions& options) {
  files::FolderOptions result;
  result.root = options.root;
  result.cacheBytes = options.cacheBytes;
  result.cachePolicy = options.cachePolicy;
  result.listEntries = uint32_t(options.limits[Limit::CONNECTION_LIST_ENTRIES]);
  result.watchNotices = uint32_t(options.limits[Limit::CONNECTION_WATCH_QUEUE]);
  result.watchChanges = options.limits[Limit::SERVER_WATCH_QUEUE];
  result.shareQuota = options.limits[Limit::GRANT_QUOTA];
  return result;
}

class ServerImpl final : public Server {
 public:
  ServerImpl(std::unique_ptr<ServerState> stateParam, std::vector<Listener> listeners, kj::UnixEventPort& port,
             kj::Timer& timer)
      : state(std::move(stateParam)), timer(timer) {
    for (unsigned i = 0; i < state->threads; ++i) loops.push_back(kj::heap<LoopThread>(*state));
    links = TokenLinks(
        state->options.authentication == Authentication::TOKEN ? state->addresses : std::vector<rpc::Address>(),
        state->token.file());
    acceptor = kj::heap<Acceptor>(*state, std::move(listeners), loops, port, timer);
    keeper = kj::heap<GrantsKeeper>(*state, timer);
  }

  const std::vector<rpc::Address>& addresses() const override { return state->addresses; }
  const std::string& ownerTokenFile() const override { return state->token.file(); }

  Status reloadTls() override {
    if (state->tls.current() == nullptr) return okStatus();
    auto identity = readTlsIdentity(state->options);
    if (!identity.ok()) {
      log::error("the TLS key and certificate stay as they were: ", identity.error().message.c_str());
      return identity.error();
    }
    state->tls.replace(std::move(*identity));
    log::info("the TLS key and certificate were read again");
    return okStatus();
  }

  kj::Promise<void> drain() override {
    acceptor = nullptr;
    links = TokenLinks();
    state->draining = true;
    state->computing->beginDrain();
    kj::Vector<kj::Promise<void>> begun;
    for (auto& loop : loops) begun.add(loop->beginDrain());
    auto grace = timer.afterDelay(int64_t(state->options.drainGrace) * kj::NANOSECONDS);
    return kj::joinPromises(begun.releaseAsArray()).then([this]() { return whenQuiet(); }).exclusiveJoin(kj::mv(grace));
  }

  kj::Promise<void> heartbeat() override {
    kj::Vector<kj::Promise<void>> turns;
    for (auto& loop : loops) turns.add(loop->takeTurn());
    return kj::joinPromises(turns.releaseAsArray());
  }

  Activity activity() const override {
    const Meter& meter = state->metering.server();
    return {state->registry.open(), uint32_t(meter.used(Resource::UPLOADS)), uint32_t(meter.used(Resource::STREAMS))};
  }

 private:
  std::unique_ptr<ServerState> state;
  kj::Timer& timer;
  std::vector<kj::Own<LoopThread>> loops;
  TokenLinks links;
  kj::Own<Acceptor> acceptor;
  kj::Own<GrantsKeeper> keeper;

  // Looks a few times a second: what is waited for happens on other threads and on the disk. Quiet has to last for two
  // looks, so that answers get out.
  kj::Promise<void> whenQuiet(unsigned quietLooks = 0) {
    auto now = activity();
    bool quiet = now.uploads == 0 && now.downloads == 0 && state->pool->pending() == 0 &&
                 state->folder->figures().pending == 0 && state->computing->figures().computations == 0;
    if (now.connections == 0 || quietLooks == 2) return kj::READY_NOW;
    return timer.afterDelay(50 * kj::MILLISECONDS).then([this, quiet, quietLooks]() {
      return whenQuiet(quiet ? quietLooks + 1 : 0);
    });
  }
};

}  // namespace

Result<std::unique_ptr<Server>> Server::start(ServerOptions options, kj::UnixEventPort& port, kj::Timer& timer) {
  std::vector<kj::AutoCloseFd> inherited;
  for (const InheritedSocket& each : options.inherited) inherited.emplace_back(each.fd);
  auto usable = checkRoot(options.root);
  if (usable.ok()) usable = checkState(options.root, options.stateFolder);
  if (!usable.ok()) return usable.error();
  options.root = absolute(options.root);
  auto token = OwnerToken::loadOrMake(options.stateFolder);
  if (!token.ok()) return token.error();
  std::optional<rpc::TlsIdentity> identity;
  if (needsTls(options)) {
    auto read = readTlsIdentity(options);
    if (!read.ok()) return read.error();
    identity = std::move(*read);
  }
  bool reachable = identity || options.insecure;
  raiseDescriptorLimit();

  std::vector<Listener> listeners;
  std::vector<std::string> given;
  for (const rpc::Address& address : options.listen) {
    auto bound = listenOn(address, reachable);
    if (!bound.ok()) return bound.error();
    given.push_back(asGiven(address, bound->front().address()));
    for (Listener& listener : *bound) listeners.push_back(std::move(listener));
  }
  for (size_t i = 0; i < inherited.size(); ++i) {
    auto taken = inherit(kj::mv(inherited[i]), options.inherited[i].name, reachable);
    if (!taken.ok()) return taken.error();
    given.push_back(taken->address().toString());
    listeners.push_back(std::move(*taken));
  }

  auto state = std::make_unique<ServerState>(std::move(options), std::move(*token));
  if (identity) state->tls.replace(std::move(*identity));
  for (const Listener& listener : listeners) state->addresses.push_back(listener.address());
  state->givenAddresses = std::move(given);
  state->hostName = hostName();
  state->threads =
      state->options.threads > 0 ? state->options.threads : std::max(1u, std::thread::hardware_concurrency());
  state->pool = std::make_unique<BlockingPool>(BlockingPool::Options{POOL_THREADS, POOL_QUEUE});
  auto folder = files::ServedFolder::open(folderOptions(state->options), *state->pool);
  if (!folder.ok()) return folder.error();
  state->folder = std::move(*folder);
  auto grants = openGrants(state->options.root, state->token, state->options.limits);
  if (!grants.ok()) return grants.error();
  state->grants = std::move(*grants);
  auto computing = compute::Computing::open(
      {state->options.root, computeLimits(state->options.limits), state->grants, &state->metering}, *state->folder);
  if (!computing.ok()) return computing.error();
  state->computing = std::move(*computing);
  prepareInfo(*state);
  unsigned threads = state->threads;
  std::unique_ptr<Server> server;
  KJ_IF_MAYBE (exception, kj::runCatchingExceptions([&]() {
                 server = std::make_unique<ServerImpl>(std::move(state), std::move(listeners), port, timer);
               })) {
    return Error{ErrorCode::OVERLOADED,
                 "cannot start " + std::to_string(threads) + " event loops (" +
                     rpc::errorFromException(*exception).message +
                     "); raise the limit of open files (ulimit -n), or choose fewer with --threads",
                 {}};
  }
  return server;
}

}  // namespace capstan::server
