// What one server has for computing: threads, limits, the folder for what is too large for memory, and the jobs. The
// door from a connection to it is newCompute().
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include <kj/timer.h>

#include <capstan/base/blocking-pool.h>
#include <capstan/schema/compute.capnp.h>
#include <capstan/server/compute/sort/sort.h>
#include <capstan/server/compute/spool.h>
#include <capstan/server/files/served-folder.h>

namespace capstan::server {
class Metering;  // access/metering.h
}

namespace capstan::server::compute {

class Jobs;
struct ConnectionBudgets;

// The numbers go into schema::Limits.
struct ComputeLimits {
  uint64_t valueBytes = 16ull << 30;  // of one connection: what they may take, runs of their sorts included
  uint64_t sortMemory = DEFAULT_SORT_MEMORY;
  // Of the owner; or of one share that the owner made, with all that were made from it.
  uint32_t jobsRunning = 2;  // in all, no more than the threads for long work
  uint32_t jobsQueued = 100;
  uint32_t jobsKept = 1000;                               // that have ended
  uint32_t jobDeaths = 5;                                 // servers that may die while they run one job: then it fails
  uint64_t jobResultBytes = 8ull << 30;                   // as jobsRunning
  uint64_t jobResultTime = 24ull * 3600 * 1'000'000'000;  // nanoseconds
};

// Threads below the priority of the event loops. Short work (well under a second) has threads of its own, so that it
// never waits for long work.
struct ComputeThreads {
  BlockingPool& quick;
  BlockingPool& bulk;
};
// Elements of binary content, or bytes of lines, up to which a computation is short.
inline constexpr uint64_t QUICK_BYTES = 16 << 20;

// What computing code needs of its server. All of it outlives what is computed.
struct ComputeContext {
  ComputeThreads threads;
  const Spool& spool;  // in the compute folder
  files::ServedFolder& folder;
  const ComputeLimits limits;
  const std::shared_ptr<Grants> grants = nullptr;  // those that jobs belong to; null: all are the owner's
  Metering* const metering = nullptr;              // where what jobs store is counted; null: nowhere
};

// Thread-safe. Destroying it stops what is computed and waits for it: within 100 ms. Must outlive every capability made
// from it.
class Computing {
 public:
  struct Options {
    std::string root;  // the served folder: compute state is in ROOT/.capstan/compute/
    ComputeLimits limits;
    std::shared_ptr<Grants> grants = nullptr;  // those that jobs belong to; null: all are the owner's
    Metering* metering = nullptr;              // where what jobs store is counted; outlives it; null: nowhere
  };
  // Makes or adopts the compute folder, opens the journal, and begins again what a dead server left unfinished.
  // `folder` must outlive it. Blocks.
  static Result<std::unique_ptr<Computing>> open(Options options, files::ServedFolder& folder);
  virtual ~Computing() noexcept(false) = default;

  // For one grant on one connection, on that connection's loop. What one connection may have is shared by all of its
  // logins.
  virtual schema::Compute::Client newCompute(kj::Own<Access> access, kj::Timer& timer) = 0;

  struct Figures {
    uint32_t jobs = 0;          // queued or running
    uint32_t computations = 0;  // others under way
    uint32_t values = 0;        // held by clients
    uint64_t valueBytes = 0;
  };
  virtual Figures figures() const = 0;

  // Jobs whose grant has ended fail for that: those that run, soon, and the others when this returns. They do so by
  // themselves when a grant's time is over.
  virtual void endJobs() = 0;

  // New jobs are refused, and queued ones stay queued for the next server; those running go on.
  virtual void beginDrain() = 0;
};

}  // namespace capstan::server::compute
