#include <capstan/client/cli/command-serve.h>

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>

#include <kj/async-io.h>
#include <kj/async-unix.h>

#include <capstan/base/file.h>
#include <capstan/base/log.h>
#include <capstan/base/text.h>
#include <capstan/base/user-dirs.h>
#include <capstan/client/cli/exit-status.h>
#include <capstan/client/cli/limit-flags.h>
#include <capstan/client/cli/output.h>
#include <capstan/client/cli/unit-advice.h>
#include <capstan/rpc/address.h>
#include <capstan/rpc/event-loop.h>
#include <capstan/server/sd-listen.h>
#include <capstan/server/sd-notify.h>
#include <capstan/server/server.h>

namespace capstan::cli {

namespace {

constexpr uint64_t MAX_THREADS = 256;
constexpr int ENDING_SIGNALS[] = {SIGTERM, SIGINT};

// `otherwise`: whether those that nobody has asked for are wanted where none is written.
Result<std::vector<rpc::Address>> addressesToListenOn(const std::vector<std::string>& written, bool otherwise) {
  std::vector<rpc::Address> addresses;
  if (written.empty() && otherwise) {
    addresses.push_back({.kind = rpc::Address::Kind::UNIX, .host = {}, .port = 0, .path = defaultSocketPath()});
    addresses.push_back({.kind = rpc::Address::Kind::TCP, .host = "127.0.0.1", .port = DEFAULT_PORT, .path = {}});
  }
  for (const std::string& text : written) {
    auto address = rpc::parseAddress(text);
    if (!address.ok()) return address.error();
    addresses.push_back(std::move(*address));
  }
  return addresses;
}

// One line for each listener; removed when the server goes.
class ReadyFile {
 public:
  explicit ReadyFile(std::string path) : path(std::move(path)) {}
  ~ReadyFile() { remove(); }
  KJ_DISALLOW_COPY(ReadyFile);

  Status write(const std::vector<rpc::Address>& addresses) {
    if (path.empty()) return okStatus();
    std::string lines;
    for (const auto& address : addresses) lines += address.toString() + "\n";
    return writeFileAtomically(path, lines, 0644);
  }
  void remove() {
    if (!path.empty()) unlink(path.c_str());
  }

 private:
  std::string path;
};

// The message for whoever has started the server by hand, with what to type next.
void greet(const ServeOptions& options, const std::string& root, bool withToken, const server::Server& server) {
  if (options.quiet) return;
  if (runsAsUnit()) {  // nobody reads this at a terminal
    std::string on;
    for (const auto& address : server.addresses()) on += (on.empty() ? "" : ", ") + address.toString();
    return log::info("serving ", root.c_str(), " on ", on.c_str());
  }
  std::string text = "Serving " + escapeForTerminal(root) + " on\n";
  for (const auto& address : server.addresses()) text += "  " + escapeForTerminal(address.toString()) + "\n";
  if (withToken) text += "Token: " + escapeForTerminal(server.ownerTokenFile()) + "\n";
  // `./run` says that it is what a newcomer can type: there is no `capstan` in the path yet.
  const char* typed = getenv("CAPSTAN_COMMAND");
  std::string command = typed != nullptr ? escapeForTerminal(typed) : "capstan";
  if (server.addresses()[0].toString() != "unix:" + defaultSocketPath())
    command += " --server " + escapeForTerminal(server.addresses()[0].toString());
  text += "In another terminal:\n";
  for (const char* example : {"put FILE docs/", "ls -l docs", "shell"}) text += "  " + command + " " + example + "\n";
  text += "End with Ctrl-C.\n";
  fputs(text.c_str(), stderr);
}

kj::Promise<siginfo_t> whenSignalled(kj::UnixEventPort& port) {
  kj::Promise<siginfo_t> any = kj::NEVER_DONE;
  for (int each : ENDING_SIGNALS) any = any.exclusiveJoin(port.onSignal(each));
  return any;
}

bool hasTerminal() { return isatty(STDERR_FILENO) || isatty(STDIN_FILENO); }

// To a server in the background SIGHUP says that there is a new certificate; to one in a terminal mostly that the
// terminal is closed. Resolves in that case.
kj::Promise<siginfo_t> whenHungUp(server::Server& server, kj::UnixEventPort& port, bool hadTerminal) {
  return port.onSignal(SIGHUP).then([&server, &port, hadTerminal](siginfo_t&& info) -> kj::Promise<siginfo_t> {
    if (hadTerminal && !hasTerminal()) return kj::mv(info);
    // What went wrong is in the log.
    [[maybe_unused]] bool isNew = server.reloadTls().ok();
    return whenHungUp(server, port, hadTerminal);
  });
}

// Tells systemd's watchdog that the server is alive, for as long as all its loops take their turns.
kj::Promise<void> feedWatchdog(server::Server& server, kj::Timer& timer, kj::Duration pause) {
  return server.heartbeat()
      .then([&timer, pause]() {
        server::notifySystemd("WATCHDOG=1");
        return timer.afterDelay(pause);
      })
      .then([&server, &timer, pause]() { return feedWatchdog(server, timer, pause); });
}

// Drains; a second signal ends the process at once, without a destructor: everything on disk is made for that.
int drain(server::Server& server, ReadyFile& ready, kj::AsyncIoContext& io, int signal) {
  ready.remove();
  server::notifySystemd("STOPPING=1");
  int status = signal == SIGINT ? 130 : 0;
  auto activity = server.activity();
  if (activity.uploads + activity.downloads > 0) {
    auto counted = [](uint32_t count, const char* what) { return kj::str(count, what, count == 1 ? "" : "s"); };
    log::info("draining: letting ", counted(activity.uploads, " upload"), " and ",
              counted(activity.downloads, " download"), " finish",
              runsAsUnit() || log::isInJournal() ? "" : "; interrupt again to end at once");
  }
  auto impatient = whenSignalled(io.unixEventPort).then([&ready, status](siginfo_t&& info) {
    ready.remove();
    _exit(info.si_signo == SIGINT ? 130 : status);
  });
  server.drain().exclusiveJoin(kj::mv(impatient)).wait(io.waitScope);
  log::info("ended");
  return status;
}

template <typename T>
Result<T> oneOf(const std::optional<std::string>& text, T otherwise, std::string_view flag,
                std::initializer_list<std::pair<std::string_view, T>> known) {
  if (!text) return otherwise;
  std::string names;
  for (const auto& [name, value] : known) {
    if (*text == name) return value;
    names += (names.empty() ? "" : " or ") + std::string(name);
  }
  return Error{
      ErrorCode::INVALID_ARGUMENT, std::string(flag) + " takes " + names + ", not " + escapeForTerminal(*text), {}};
}

Result<server::Limits> limitsFrom(const ServeOptions& options) {
  server::Limits limits;
  for (const std::string& each : options.limits) {
    auto set = setLimit(limits, each);
    if (!set.ok()) return set.error();
  }
  if (options.maxConnections) {
    auto set = limits.set(server::Limit::SERVER_CONNECTIONS, *options.maxConnections);
    if (!set.ok()) return Error{ErrorCode::INVALID_ARGUMENT, "--max-connections: " + set.error().message, {}};
  }
  if (options.idleTimeout) {
    auto set = limits.set(server::Limit::CONNECTION_IDLE_TIME, *options.idleTimeout);
    if (!set.ok()) return Error{ErrorCode::INVALID_ARGUMENT, "--idle-timeout: " + set.error().message, {}};
  }
  return limits;
}

Result<server::ServerOptions> translated(const ServeOptions& options) {
  server::ServerOptions result;
  auto inherited = server::takeSocketsFromSystemd();
  if (!inherited.ok()) return inherited.error();
  auto addresses = addressesToListenOn(options.listen, inherited->empty());
  if (!addresses.ok()) return addresses.error();
  auto policy = oneOf(options.cachePolicy, server::files::CachePolicy::FIFO, "--cache-policy",
                      {{"fifo", server::files::CachePolicy::FIFO}, {"lru", server::files::CachePolicy::LRU}});
  if (!policy.ok()) return policy.error();
  auto authentication = oneOf(options.authentication, server::Authentication::TOKEN, "--auth",
                              {{"token", server::Authentication::TOKEN}, {"none", server::Authentication::NONE}});
  if (!authentication.ok()) return authentication.error();
  auto limits = limitsFrom(options);
  if (!limits.ok()) return limits.error();
  result.root = options.root.value_or(".");
  result.stateFolder = options.state.value_or(userStateFolder());
  result.listen = std::move(*addresses);
  result.inherited = std::move(*inherited);
  result.authentication = *authentication;
  if (options.tlsCertificate.has_value() != options.tlsKey.has_value()) {
    return Error{ErrorCode::INVALID_ARGUMENT, "--tls-cert and --tls-key go together", {}};
  }
  result.tlsCertificate = options.tlsCertificate.value_or("");
  result.tlsKey = options.tlsKey.value_or("");
  result.insecure = options.insecure;
  result.threads = unsigned(std::min<uint64_t>(options.threads.value_or(0), MAX_THREADS));
  result.limits = *limits;
  result.cacheBytes = options.cacheBytes.value_or(result.cacheBytes);
  result.cachePolicy = *policy;
  return result;
}

void complain(const ServeOptions& options, const Error& problem) {
  Error error = runsAsUnit() ? withUnitSettings(problem) : problem;
  std::string line = options.json ? errorAsJson(kebabCase(error.code), error.message, error.path)
                                  : "capstan: " + std::string(kebabCase(error.code)) + ": " + error.message;
  fputs((std::string(log::priorityPrefix(log::Level::ERROR)) + line + "\n").c_str(), stderr);
}

Result<int> run(const ServeOptions& options) {
  auto wanted = translated(options);
  if (!wanted.ok()) {
    complain(options, wanted.error());
    return USAGE;
  }
  std::string root = wanted->root;
  bool withToken = wanted->authentication == server::Authentication::TOKEN;

  rpc::setUpMalloc();
  for (int each : ENDING_SIGNALS) kj::UnixEventPort::captureSignal(each);
  kj::UnixEventPort::captureSignal(SIGHUP);
  signal(SIGPIPE, SIG_IGN);
  auto io = kj::setupAsyncIo();
  auto server = server::Server::start(std::move(*wanted), io.unixEventPort, io.provider->getTimer());
  if (!server.ok()) return server.error();

  ReadyFile ready(options.readyFile.value_or(""));
  auto told = ready.write((*server)->addresses());
  if (!told.ok()) return told.error();
  greet(options, root, withToken, **server);
  server::notifySystemd("READY=1\nSTATUS=Serving");
  kj::Promise<void> watchdog = kj::NEVER_DONE;
  if (auto interval = server::watchdogInterval()) {
    watchdog =
        feedWatchdog(**server, io.provider->getTimer(), int64_t(*interval) * kj::NANOSECONDS).eagerlyEvaluate(nullptr);
  }

  auto signal = whenSignalled(io.unixEventPort)
                    .exclusiveJoin(whenHungUp(**server, io.unixEventPort, hasTerminal()))
                    .wait(io.waitScope);
  return drain(**server, ready, io, signal.si_signo);
}

}  // namespace

int serve(const ServeOptions& options) {
  log::setLevel(options.quiet ? log::Level::WARNING : options.verbose ? log::Level::DEBUG : log::Level::INFO);
  if (std::find(options.limits.begin(), options.limits.end(), "help") != options.limits.end()) {
    fputs(describeLimits(server::Limits()).c_str(), stdout);
    return 0;
  }
  auto status = run(options);
  if (status.ok()) return *status;
  complain(options, status.error());
  return exitStatusOf(status.error().code);
}

}  // namespace capstan::cli
