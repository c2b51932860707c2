#include <capstan/client/cli/command-serve.h>

#include <signal.h>
#include <unistd.h>

#include <cstdio>

#include <kj/async-io.h>
#include <kj/async-unix.h>

#include <capstan/base/file.h>
#include <capstan/base/log.h>
#include <capstan/base/text.h>
#include <capstan/base/user-dirs.h>
#include <capstan/rpc/address.h>
#include <capstan/server/sd-notify.h>

namespace capstan::cli {

namespace {

Result<std::vector<rpc::Address>> addressesToListenOn(const std::vector<std::string>& written) {
  std::vector<rpc::Address> addresses;
  if (written.empty()) {
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
void greet(const ServeOptions& options, const server::Server& server) {
  std::string text = "Serving " + escapeForTerminal(options.root) + " on\n";
  for (const auto& address : server.addresses()) text += "  " + escapeForTerminal(address.toString()) + "\n";
  if (options.authentication == server::Authentication::TOKEN) {
    text += "Token: " + escapeForTerminal(server.ownerTokenFile()) + "\n";
  }
  bool asDefault = options.listen.empty();
  std::string flag = asDefault ? "" : " --server " + escapeForTerminal(server.addresses()[0].toString());
  text += "In another terminal:  capstan" + flag + " put FILE docs/    capstan" + flag + " ls -l docs    capstan" +
          flag + " shell\nEnd with Ctrl-C.\n";
  fputs(text.c_str(), stderr);
}

// Drains; a second signal ends the process at once, without a destructor: everything on disk is made for that.
int drain(server::Server& server, ReadyFile& ready, kj::AsyncIoContext& io, int signal) {
  ready.remove();
  server::notifySystemd("STOPPING=1");
  int status = signal == SIGINT ? 130 : 0;
  auto activity = server.activity();
  if (activity.uploads + activity.downloads > 0) {
    log::info("draining: letting ", activity.uploads, " uploads and ", activity.downloads,
              " downloads finish; interrupt again to end at once");
  }
  auto& port = io.unixEventPort;
  auto impatient = port.onSignal(SIGINT).exclusiveJoin(port.onSignal(SIGTERM)).then([&ready, status](siginfo_t&& info) {
    ready.remove();
    _exit(info.si_signo == SIGINT ? 130 : status);
  });
  server.drain().exclusiveJoin(kj::mv(impatient)).wait(io.waitScope);
  log::info("ended");
  return status;
}

}  // namespace

Result<int> serve(const ServeOptions& options) {
  auto addresses = addressesToListenOn(options.listen);
  if (!addresses.ok()) return addresses.error();
  kj::UnixEventPort::captureSignal(SIGTERM);
  kj::UnixEventPort::captureSignal(SIGINT);
  signal(SIGPIPE, SIG_IGN);
  auto io = kj::setupAsyncIo();

  server::ServerOptions serverOptions;
  serverOptions.root = options.root;
  serverOptions.stateFolder = options.stateFolder.empty() ? userStateFolder() : options.stateFolder;
  serverOptions.listen = std::move(*addresses);
  serverOptions.authentication = options.authentication;
  serverOptions.insecure = options.insecure;
  serverOptions.threads = options.threads;
  serverOptions.maxConnections = options.maxConnections;
  serverOptions.idleTimeout = options.idleTimeout;
  serverOptions.cacheBytes = options.cacheBytes;
  serverOptions.cachePolicy = options.cachePolicy;

  ReadyFile ready(options.readyFile);
  auto server = server::Server::start(std::move(serverOptions), io.unixEventPort, io.provider->getTimer());
  if (!server.ok()) return server.error();
  auto told = ready.write((*server)->addresses());
  if (!told.ok()) return told.error();
  greet(options, **server);
  server::notifySystemd("READY=1\nSTATUS=Serving");

  auto& port = io.unixEventPort;
  auto signal = port.onSignal(SIGTERM).exclusiveJoin(port.onSignal(SIGINT)).wait(io.waitScope);
  return drain(**server, ready, io, signal.si_signo);
}

}  // namespace capstan::cli
