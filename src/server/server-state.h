// What all threads of one server share.
#pragma once

#include <array>
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
#include <capstan/server/access/grants-server.h>
#include <capstan/server/access/grants.h>
#include <capstan/server/access/leases.h>
#include <capstan/server/access/login-throttle.h>
#include <capstan/server/access/metering.h>
#include <capstan/server/access/newcomers.h>
#include <capstan/server/compute/computing.h>
#include <capstan/server/owner-token.h>
#include <capstan/server/server.h>
#include <capstan/server/tls-keeper.h>

namespace capstan::server {

inline constexpr size_t AUTHENTICATIONS = size_t(schema::Authentication::TOKEN) + 1;
// Places beyond the limit of connections for those who are the user that runs the server: nobody can lock them out.
inline constexpr uint32_t OWNERS_PLACES = 16;

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

  uint32_t open() const { return openNow.load(std::memory_order_relaxed); }
  uint64_t accepted() const { return acceptedEver.load(std::memory_order_relaxed); }

 private:
  struct State {
    std::set<const Entry*> live;
    Totals finished;
  };
  kj::MutexGuarded<State> state;
  std::atomic<uint32_t> openNow{0};
  std::atomic<uint64_t> acceptedEver{0};
};

struct ServerState final : public GrantsHost {
  // constant once connections are accepted
  ServerOptions options;
  OwnerToken token;
  std::shared_ptr<Grants> grants;
  std::vector<rpc::Address> addresses;
  std::vector<std::string> givenAddresses;  // as the owner gave them, with the real ports
  kj::TimePoint startTime;
  std::string hostName;
  Metering metering;  // thread-safe
  std::unique_ptr<BlockingPool> pool;
  BlockingPool shares{{.threads = 2, .name = "capstan-shares"}};
  std::unique_ptr<files::ServedFolder> folder;    // destroyed before the pool
  std::unique_ptr<compute::Computing> computing;  // destroyed before the folder and the metering
  unsigned threads = 1;
  std::array<kj::Array<capnp::word>, AUTHENTICATIONS> preparedInfo;  // by Authentication; see prepareInfo()
  kj::Array<capnp::word> infoForStrangers;

  // thread-safe
  TlsKeeper tls;
  ConnectionRegistry registry;
  Leases leases;
  LoginThrottle throttle;
  Newcomers newcomers;
  std::atomic<uint32_t> loggedIn{0};  // connections
  std::atomic<uint32_t> sessions{0};
  std::atomic<bool> draining{false};

  explicit ServerState(ServerOptions optionsParam, OwnerToken token)
      : options(std::move(optionsParam)),
        token(std::move(token)),
        startTime(kj::systemPreciseMonotonicClock().now()),
        metering(options.limits),
        newcomers(options.limits[Limit::SERVER_NEWCOMERS], options.limits[Limit::SERVER_NETWORK_NEWCOMERS]) {}
  KJ_DISALLOW_COPY(ServerState);

  std::shared_ptr<Grants> theGrants() override { return grants; }
  BlockingPool& sharesPool() override { return shares; }
  kj::Promise<void> endAllUnder(std::vector<std::shared_ptr<Grant>> ended) override;
  // The same, but for the mutation that is being applied at this moment, which is not waited for.
  kj::Promise<void> cutAllUnder(std::vector<std::shared_ptr<Grant>> ended);
  uint64_t storedBelow(const std::string& path) override { return folder->storedBelow(path); }
  uint32_t connectionsOf(const Grant& grant) override { return leases.count(grant.id); }
  Contact contact() override;

  // That of a connection that has logged in, until it is destroyed; null: there are too many.
  struct Leave {
    void operator()(std::atomic<uint32_t>* count) const { count->fetch_sub(1, std::memory_order_relaxed); }
  };
  using Place = std::unique_ptr<std::atomic<uint32_t>, Leave>;
  Place takePlace(schema::Authentication authentication);
  bool hasPlace(schema::Authentication authentication) const { return loggedIn < mostConnections(authentication); }
  uint64_t mostConnections(schema::Authentication authentication) const;

  uint64_t uptime() const {  // nanoseconds
    return uint64_t((kj::systemPreciseMonotonicClock().now() - startTime) / kj::NANOSECONDS);
  }
};

// What of the limits computing looks at.
compute::ComputeLimits computeLimits(const Limits& limits);

// Makes what preparedInfo() answers: to be called once, when everything else is there.
void prepareInfo(ServerState& state);
// The answer to hello(), but for uptime, made once for all connections: a server is asked this often. Strangers, who
// could not log in yet, hear what a client has to know, and nothing of process and machine.
const kj::Array<capnp::word>& preparedInfo(const ServerState& state, schema::Authentication authentication,
                                           bool isStranger);
schema::ServerInfo::Reader readPrepared(const kj::Array<capnp::word>& words);

// The answer to hello(). `authentication`: what login() needs on this connection.
void fillServerInfo(schema::ServerInfo::Builder info, const ServerState& state, schema::Authentication authentication);
void fillStatus(schema::Status::Builder status, const ServerState& state, schema::Authentication authentication);
// What is the business of whoever came with a share.
void fillShareStatus(schema::Status::Builder status, const ServerState& state, schema::Authentication authentication,
                     const Access& access);

}  // namespace capstan::server
