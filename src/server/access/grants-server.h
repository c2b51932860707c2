// The capability by which a login looks at its grant and at those made from it, and ends them; and what it asks of the
// server around it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <kj/async.h>

#include <capstan/base/blocking-pool.h>
#include <capstan/server/access/access.h>
#include <capstan/server/access/grants.h>

namespace capstan::server {

// Thread-safe; outlives the capabilities.
class GrantsHost {
 public:
  virtual ~GrantsHost() noexcept(false) = default;

  virtual std::shared_ptr<Grants> theGrants() = 0;
  // For the methods of Grants that block, and nothing else.
  virtual BlockingPool& sharesPool() = 0;

  // Ends whatever goes on under these grants, which have ended: calls in flight, mutations that are about to be
  // applied, jobs. Resolves on the calling loop when nothing is left that could still succeed.
  virtual kj::Promise<void> endAllUnder(std::vector<std::shared_ptr<Grant>> grants) = 0;

  // What the files below this path hold, for which some share has a quota, as it was last measured; 0: it was not.
  virtual uint64_t storedBelow(const std::string& path) = 0;

  // Connections that are logged in with the grant now.
  virtual uint32_t connectionsOf(const Grant& grant) = 0;

  // What goes into an invite.
  struct Contact {
    std::vector<std::string> addresses;
    std::string certificate;  // PEM; empty: none
  };
  virtual Contact contact() = 0;
};

schema::Grants::Client newGrants(kj::Own<Access> access, GrantsHost& host);

// One share as it is for somebody whose tree is at `top`. `stored`: what counts against its quota.
void fillShare(schema::Share::Builder to, const Grants::Info& info, std::string_view top, uint32_t connections,
               uint64_t stored);

}  // namespace capstan::server
