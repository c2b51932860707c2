// All leases of a server, over its event loops: the way in which a revocation reaches calls in flight on other threads.
#pragma once

#include <memory>
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

  // Remembers the lease until it is destroyed.
  void add(Lease& lease);

 private:
  struct Impl;
  kj::Own<Impl> impl;
};

// Thread-safe.
class Leases {
 public:
  Leases();
  ~Leases() noexcept(false);
  KJ_DISALLOW_COPY(Leases);

  // Cuts what is in flight under these grants, which have ended, on every loop. Resolves on the calling loop when that
  // is so. Dropping the promise changes nothing, and waits for nobody.
  kj::Promise<void> cut(std::vector<std::shared_ptr<Grant>> grants);

 private:
  friend class LoopLeases;
  struct Impl;
  std::shared_ptr<Impl> impl;
};

}  // namespace capstan::server
