// `capstan serve`: what the flags say, and the running of a server until a signal ends it. The table of commands fills
// the options in; everything that can be wrong with their values is told by serve() itself.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace capstan::cli {

// As the flags have it; unset means the default.
struct ServeOptions {
  std::optional<std::string> root;            // [ROOT]; unset: the current folder
  std::vector<std::string> listen;            // --listen ADDR...; empty: the user's Unix socket and 127.0.0.1:4457
  std::optional<std::string> readyFile;       // --ready-file FILE
  std::optional<std::string> state;           // --state DIR; unset: userStateFolder()
  std::optional<uint64_t> threads;            // --threads N; unset or 0: one per core
  std::optional<uint64_t> cacheBytes;         // --cache SIZE; unset: 64 MiB, 0: none
  std::optional<std::string> cachePolicy;     // --cache-policy fifo|lru
  std::optional<std::string> authentication;  // --auth token|none
  bool insecure = false;                      // --insecure: TCP without TLS is taken on all addresses
  std::optional<std::string> tlsCertificate;  // --tls-cert FILE; unset: the server's own
  std::optional<std::string> tlsKey;          // --tls-key FILE
  std::optional<uint64_t> maxConnections;     // --max-connections N
  std::optional<uint64_t> idleTimeout;        // --idle-timeout DUR, nanoseconds; 0: never
  std::vector<std::string> limits;            // --limit NAME=VALUE...; "help": serve nothing, list them
  // Of all commands.
  bool json = false;     // errors as JSON
  bool quiet = false;    // -q: only warnings and errors are logged, no greeting
  bool verbose = false;  // -v: logs what helps to find a fault, too
};

// Serves until SIGTERM or SIGINT (or SIGHUP, when the terminal that it was started from is gone; else that one reads
// the TLS key and certificate again), blocking, with an event loop of its own and its threads; answers the exit status:
// 0 after a clean end, 130 after SIGINT. Messages and the log go to standard error. To be called on the main thread
// before any other thread is made, because it captures signals.
int serve(const ServeOptions& options);

}  // namespace capstan::cli
