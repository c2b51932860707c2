// What all threads of one server share.
#pragma once

#include <atomic>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <kj/mutex.h>
#include <kj/time.h>

#include <capstan/base/blocking-pool.h>
#include <capstan/rpc/peer-options.h>
#include <capstan/schema/gateway.capnp.h>
#include <capstan/server/compute/computing.h>
#include <capstan/server/owner-token.h>
#include <capstan/server/server.h>
#include <capstan/server/tls-keeper.h>

namespace capstan::server {

inline constexpr uint32_t OPEN_FILES_LIMIT = 256;  // for each connection
inline constexpr uint32_t UPLOADS_LIMIT = 64;
inline constexpr uint32_t SUBSCRIPTIONS_LIMIT = 64;
inline constexpr uint32_t EXTRA_CONNECTIONS = 16;  // beyond the limit, to be told that it is reached

// The connections that are open, and what those that have ended have moved. Thread-safe.
class ConnectionRegistry {
 public:
  // One open connection. Counts from its construction to its destruction.
  class Entry {
   public:
    explicit Entry(ConnectionRegistry& registry);
    ~Entry();
    KJ_DISALLOW_COPY(Entry);

    rpc::WireCounters counters;

   private:
    ConnectionRegistry& registry;
  };

  struct Totals {
    uint64_t bytesReceived = 0, bytesSent = 0, messagesReceived = 0;
  };
  Totals totals() const;

  // What one connection holds of files. Counts as long as it lives.
  class Holdings {
   public:
    explicit Holdings(ConnectionRegistry& registry);
    ~Holdings();
    KJ_DISALLOW_COPY(Holdings);

    ConnectionScope::Totals totals;

   private:
    ConnectionRegistry& registry;
  };
  struct Held {
    uint32_t openFiles = 0, uploads = 0, downloads = 0, subscriptions = 0;
  };
  Held held() const;

  uint32_t open() const { return openNow.load(std::memory_order_relaxed); }
  uint64_t accepted() const { return acceptedEver.load(std::memory_order_relaxed); }

 private:
  struct State {
    std::set<const Entry*> live;
    std::set<const Holdings*> holdings;
    Totals finished;
  };
  kj::MutexGuarded<State> state;
  std::atomic<uint32_t> openNow{0};
  std::atomic<uint64_t> acceptedEver{0};
};

// A scope with totals of its own, so that one connection's transfers can be told from another's.
struct CountedScope final : public ConnectionScope {
  ConnectionRegistry::Holdings holdings;

  explicit CountedScope(ConnectionRegistry& registry) : holdings(registry) { totals = &holdings.totals; }
};

struct ServerState {
  // constant once connections are accepted
  ServerOptions options;
  OwnerToken token;
  const std::shared_ptr<Grant> owner = Grant::newOwner();
  std::vector<rpc::Address> addresses;
  kj::TimePoint startTime;
  std::string hostName;
  std::unique_ptr<BlockingPool> pool;
  std::unique_ptr<files::ServedFolder> folder;  // destroyed before the pool
  std::unique_ptr<compute::Computing> computing;  // destroyed before the folder
  unsigned threads = 1;

  // thread-safe
  TlsKeeper tls;
  ConnectionRegistry registry;
  std::atomic<uint32_t> sessions{0};
  std::atomic<bool> draining{false};

  explicit ServerState(ServerOptions options, OwnerToken token)
      : options(std::move(options)), token(std::move(token)), startTime(kj::systemPreciseMonotonicClock().now()) {}
  KJ_DISALLOW_COPY(ServerState);

  uint64_t uptime() const {  // nanoseconds
    return uint64_t((kj::systemPreciseMonotonicClock().now() - startTime) / kj::NANOSECONDS);
  }
};

// The answer to hello(), but for uptime. `authentication`: what login() needs on this connection.
void fillServerInfo(schema::ServerInfo::Builder info, const ServerState& state, schema::Authentication authentication);
void fillStatus(schema::Status::Builder status, const ServerState& state, schema::Authentication authentication);

}  // namespace capstan::server
