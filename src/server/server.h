// The server as a whole: listeners, event loops, connections, and its orderly end. Embeddable: `capstan serve` adds
// signals, the ready file and messages on the terminal.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <kj/async-unix.h>
#include <kj/timer.h>

#include <capstan/base/error.h>
#include <capstan/rpc/address.h>
#include <capstan/server/access/limits.h>
#include <capstan/server/files/served-folder.h>

namespace capstan::server {

enum class Authentication { NONE, TOKEN };

// A listening socket that another program has bound (server/sd-listen.h).
struct InheritedSocket {
  int fd;
  std::string name;  // for sentences
};

struct ServerOptions {
  std::string root;                  // the folder to serve; must exist
  std::string stateFolder;           // made if missing, mode 0700
  std::vector<rpc::Address> listen;  // port 0 picks one
  // Listening sockets that the process was given; they are the server's from start() on, whatever that answers.
  std::vector<InheritedSocket> inherited;
  Authentication authentication = Authentication::TOKEN;
  bool insecure = false;  // take connections without TLS also where they come over a network
  // The user's own certificate (PEM, with those that signed it) and its key; both or none. None: the state folder's.
  std::string tlsCertificate, tlsKey;
  unsigned threads = 0;  // event loops; 0: one per core
  Limits limits;
  uint64_t drainGrace = 10'000'000'000;  // nanoseconds that uploads in flight have after drain() began
  size_t cacheBytes = 64 << 20;
  files::CachePolicy cachePolicy = files::CachePolicy::FIFO;
};

// Belongs to one event loop, the acceptor's, which must run for new connections to be accepted. Connections live on
// threads of the server's own.
class Server {
 public:
  // Opens the root and state, makes the owner's token and the TLS key if there are none, binds, and starts the threads.
  // What a user can cause (no such folder, address in use, a TCP listener without a usable key) is an Error. `port` and
  // `timer` are the calling loop's, and must outlive the server.
  static Result<std::unique_ptr<Server>> start(ServerOptions options, kj::UnixEventPort& port, kj::Timer& timer);

  // Ends all connections at once and joins the threads.
  virtual ~Server() noexcept(false) = default;

  // The bound addresses, with the real ports, in the order of ServerOptions.listen, then those of
  // ServerOptions.inherited.
  virtual const std::vector<rpc::Address>& addresses() const = 0;
  virtual const std::string& ownerTokenFile() const = 0;

  // Reads key and certificate again, for the connections that come from now on. An Error is logged too, and the old
  // ones stay. Blocks as long as it takes to read two small files.
  virtual Status reloadTls() = 0;

  // Stops accepting; new work answers shuttingDown. Resolves when no transfer and no commit is open any more, or after
  // ServerOptions.drainGrace. Connections stay open until the server is destroyed. At most once.
  virtual kj::Promise<void> drain() = 0;

  // Resolves when all event loops have taken a turn since: none is stuck.
  virtual kj::Promise<void> heartbeat() = 0;

  // Connections, uploads and downloads that are open now.
  struct Activity {
    uint32_t connections = 0, uploads = 0, downloads = 0;
  };
  virtual Activity activity() const = 0;
};

}  // namespace capstan::server
