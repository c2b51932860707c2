// Gateway and Session of one connection: who is there, logging in, and what a login gives.
#pragma once

#include <map>
#include <memory>

#include <capnp/message.h>
#include <kj/timer.h>

#include <capstan/rpc/peer-connection.h>
#include <capstan/server/server-state.h>

namespace capstan::server {

// What the Gateway has to know of its connection. Belongs to the connection's loop; kept alive by each capability.
struct ConnectionContext final : public kj::Refcounted, private kj::TaskSet::ErrorHandler {
  // constant after construction
  ServerState& server;
  kj::Timer& timer;
  std::string peer;     // for the log
  std::string network;  // what wrong tokens count for
  schema::Authentication authentication;
  bool needsTls = false;  // it came without TLS over a network: no login succeeds
  kj::Own<ConnectionScope> scope;
  LoopLeases* leases = nullptr;  // of the loop; null: nothing is ever revoked
  // owned by the loop
  std::string client;     // what the client calls itself
  uint32_t sessions = 0;  // open now
  bool everLoggedIn = false;
  uint32_t waitingLogins = 0;                             // those that are not answered at once
  std::unique_ptr<Newcomers::Entry> newcomer;             // until the first login
  ServerState::Place place;                               // from then on
  kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>> ending;  // null: it cannot be ended, or is being
  kj::Maybe<rpc::PeerConnection&> connection;             // null once it has ended
  kj::StringPtr reason;                                   // why this side ended it
  // By the grant's id: one for all logins with it. Values of one are known to the other.
  struct Login {
    kj::Own<Lease> lease;
    Meters::Charge place;                        // among the connections of the grant
    kj::Maybe<schema::Compute::Client> compute;  // made when it is first asked for
  };
  std::map<std::string, std::shared_ptr<Login>> logins;

  ConnectionContext(ServerState& server, kj::Timer& timer, std::string peer, schema::Authentication authentication,
                    kj::Own<ConnectionScope> scope)
      : server(server),
        timer(timer),
        peer(std::move(peer)),
        network(networkOf(this->peer)),
        authentication(authentication),
        scope(kj::mv(scope)),
        tasks(*this) {}

  // Ends the connection; `why` is a literal, for the log.
  void end(kj::StringPtr why);
  // Nothing of the connection is left but what calls under way hold.
  void disconnected();

  // Error: limit, where the grant has as many connections as it may.
  Result<std::shared_ptr<Login>> loginOf(std::shared_ptr<Grant> grant);

 private:
  // When the last of the grants has ended, the connection does, once its last answers had time to get out.
  kj::Promise<void> whenEnded(const std::shared_ptr<Login>& login);
  void taskFailed(kj::Exception&& exception) override;

  kj::TaskSet tasks;
};

schema::Gateway::Client newGateway(kj::Own<ConnectionContext> context);

}  // namespace capstan::server
