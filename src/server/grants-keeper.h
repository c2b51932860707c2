// What has to be done for the grants of a server from time to time: noticing what other servers of the same folder have
// revoked, which ends here too, and tidying up.
#pragma once

#include <kj/async.h>
#include <kj/timer.h>

#include <capstan/server/server-state.h>

namespace capstan::server {

// Belongs to one event loop; stops when it is destroyed.
class GrantsKeeper {
 public:
  // Both must outlive it.
  GrantsKeeper(ServerState& server, kj::Timer& timer);
  KJ_DISALLOW_COPY(GrantsKeeper);

 private:
  ServerState& server;
  kj::Timer& timer;
  uint64_t looks = 0;
  kj::Promise<void> keeping;

  kj::Promise<void> keep();
  kj::Promise<void> look();
};

}  // namespace capstan::server
