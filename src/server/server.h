// The server as a whole: listeners, event loops, connections, and its orderly end. Embeddable: `capstan serve` adds signals, the
// ready file and messages on the terminal.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <kj/async-io.h>

#include <capstan/base/error.h>
#include <capstan/rpc/address.h>
#include <capstan/server/files/served-folder.h>

namespace capstan::server {

enum class Authentication { NONE, TOKEN };

struct ServerOptions {
  std::string root;                            // the folder to serve; must exist
  std::string stateFolder;                     // made if missing, mode 0700
  std::vector<rpc::Address> listen;            // port 0 picks one
  Authentication authentication = Authentication::TOKEN;
  bool insecure = false;                       // allow addresses that are not loopback, without TLS
  unsigned threads = 0;                        // event loops; 0: one per core
  unsigned maxConnections = 1024;
  uint64_t idleTimeout = 0;                    // nanoseconds without a message before a connection is ended; 0: never
  uint64_t drainGrace = 10'000'000'000;        // nanoseconds that uploads in flight have after drain() began
  size_t cacheBytes = 64 << 20;
  files::CachePolicy cachePolicy = files::CachePolicy::FIFO;
};

// start() and drain() are called on one event loop, the acceptor's; that loop must run for new connections to be
// accepted. Connections live on threads of the server's own.
class Server {
 public:
  // Opens the root and state, makes the owner's token if there is none, binds, and starts the threads. What a user can
  // cause (no such folder, address in use, not loopback without `insecure`) is an Error.
  static Result<std::unique_ptr<Server>> start(ServerOptions options, kj::AsyncIoProvider& io, kj::LowLevelAsyncIoProvider& lowLevel,
                                               kj::Timer& timer);
  virtual ~Server() noexcept(false) = default;

  // The bound addresses, with the real ports, in the order of ServerOptions.listen.
  virtual std::vector<rpc::Address> addresses() const = 0;
  virtual std::string ownerTokenFile() const = 0;

  // Resolves only with an exception: accepting cannot go on.
  virtual kj::Promise<void> run() = 0;

  // Stops accepting, tells sessions (new work answers shuttingDown), lets uploads and calls in flight finish within the grace period, then
  // closes every connection. Afterwards the object may be destroyed. Idempotent.
  virtual kj::Promise<void> drain() = 0;
};

}  // namespace capstan::server
