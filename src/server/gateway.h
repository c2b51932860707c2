// Gateway and Session of one connection: who is there, logging in, and what a login gives.
#pragma once

#include <map>

#include <capnp/message.h>
#include <kj/timer.h>

#include <capstan/server/server-state.h>

namespace capstan::server {

// What the Gateway has to know of its connection. Belongs to the connection's loop; kept alive by each capability.
struct ConnectionContext final : public kj::Refcounted {
  // constant after construction
  ServerState& server;
  kj::Timer& timer;
  std::string peer;     // for the log
  std::string network;  // what wrong tokens count for
  schema::Authentication authentication;
  bool refused;           // beyond the server's limit: no login succeeds
  bool needsTls = false;  // it came without TLS over a network: no login succeeds
  kj::Own<ConnectionScope> scope;
  LoopLeases* leases = nullptr;  // of the loop; null: nothing is ever revoked
  // owned by the loop
  std::string client;     // what the client calls itself
  uint32_t sessions = 0;  // open now
  bool everLoggedIn = false;
  // By the grant's id: one for all logins with it. Values of one are known to the other.
  struct Login {
    kj::Own<Lease> lease;
    Meters::Charge place;                        // among the connections of the grant
    kj::Maybe<schema::Compute::Client> compute;  // made when it is first asked for
  };
  std::map<std::string, Login> logins;

  ConnectionContext(ServerState& server, kj::Timer& timer, std::string peer, schema::Authentication authentication,
                    bool refused, kj::Own<ConnectionScope> scope)
      : server(server),
        timer(timer),
        peer(std::move(peer)),
        network(networkOf(this->peer)),
        authentication(authentication),
        refused(refused),
        scope(kj::mv(scope)) {}

  // Error: limit, where the grant has as many connections as it may.
  Result<Login*> loginOf(std::shared_ptr<Grant> grant);
};

schema::Gateway::Client newGateway(kj::Own<ConnectionContext> context);

}  // namespace capstan::server
