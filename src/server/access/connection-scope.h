// One connection, as all that is made on it knows it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include <capnp/capability.h>
#include <kj/refcount.h>
#include <kj/timer.h>

#include <capstan/base/blocking-pool.h>
#include <capstan/schema/files.capnp.h>
#include <capstan/server/access/budget.h>
#include <capstan/server/access/limits.h>
#include <capstan/server/access/places.h>

namespace capstan::server {

class Grants;  // grants.h

// Jobs of one connection on the threads for files, or in their queue. Enough that these are never idle for want of
// work, and little enough that others do not wait long behind it.
inline constexpr size_t FILE_JOBS_AT_ONCE = 16;
inline constexpr size_t SHARE_JOBS_AT_ONCE = 1;  // the same with shares' files, of which one is written at a time
inline constexpr size_t ANSWER_BYTES_LIMIT = 16 << 20;  // in answers of one connection that wait for the disk

// What belongs to one connection. Lives on the connection's loop, and is kept alive by every capability made from it.
struct ConnectionScope : public kj::Refcounted {
  explicit ConnectionScope(std::shared_ptr<Meter> meter = newConnectionMeter()) : meter(std::move(meter)) {}

  // constant after construction
  const std::shared_ptr<Meter> meter;  // of the connection alone; what is held is counted at a lease's
  kj::Timer* timer = nullptr;          // of the loop; null: nothing waits for time
  std::shared_ptr<Grants> grants;      // where shares are made; null: nothing is shared
  BlockingPool* sharesPool = nullptr;  // for methods of `grants` that block; not null if that is not
  // owned by the loop
  std::string client;         // as it named itself at login
  bool shuttingDown = false;  // new work answers shuttingDown; what is in flight goes on
  Budget answers{ANSWER_BYTES_LIMIT};
  Budget fileJobs{FILE_JOBS_AT_ONCE};
  Budget shareJobs{SHARE_JOBS_AT_ONCE};
  std::shared_ptr<Places> filePlaces;  // of the share whose file jobs these are; null: the owner's
  bool isOwners = false;               // who has logged in on it
  bool gone = false;                   // the connection has ended: long work that it began is not gone on with
  capnp::CapabilityServerSet<schema::File> files;  // by which those made here are known again
  capnp::CapabilityServerSet<schema::FileStore> stores;
};

}  // namespace capstan::server
