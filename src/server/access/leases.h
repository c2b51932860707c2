// All leases of a server, over its event loops: the way in which a revocation reaches calls in flight on other threads.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <kj/async.h>

#include <capstan/server/access/access.h>

namespace capstan::server {

class Leases;

// The leases of one event loop; belongs to it. Must be destroyed before the Leases, and on its loop.
class LoopLeases {
 public:
  explicit LoopLeases(Leases& all);
  ~LoopLeases() noexcept(false);
  KJ_DISALLOW_COPY(LoopLeases);

  // Remembers the lease until it is destroyed. At most once for each.
  void add(Lease& lease);

  struct Impl;

 private:
  const std::shared_ptr<Impl> impl;
};

// Thread-safe.
class Leases {
 public:
  Leases();
  ~Leases() noexcept(false);
  KJ_DISALLOW_COPY(Leases);

  // Cuts what is in flight under these grants, which have ended, on every loop, and lets go of what is held. Resolves on
  // the calling loop when that is so: all those calls have been answered. Dropping the promise changes nothing, and
  // waits for nobody.
  kj::Promise<void> cut(std::vector<std::shared_ptr<Grant>> grants);

  // How many there are of the grant: connections that are logged in with it.
  uint32_t count(const std::string& grant) const;

  struct Impl;

 private:
  friend class LoopLeases;
  const std::shared_ptr<Impl> impl;
};

}  // namespace capstan::server
