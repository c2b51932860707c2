// What one connection may hold, and does hold.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include <capnp/capability.h>
#include <kj/refcount.h>
#include <kj/timer.h>

#include <capstan/schema/files.capnp.h>
#include <capstan/server/access/budget.h>
#include <capstan/server/access/limits.h>

namespace capstan::server {

class Grants;  // grants.h

inline constexpr uint32_t BATCHES_LIMIT = 16;           // open at the same time on one connection
inline constexpr size_t ANSWER_BYTES_LIMIT = 16 << 20;  // in answers of one connection that wait for the disk

// What one connection may hold, and does hold, of files. Belongs to the connection's loop, and is kept alive by every
// capability made from it; the atomics are read by other threads for status.
struct ConnectionScope : public kj::Refcounted {
  explicit ConnectionScope(std::shared_ptr<Meter> meter = newConnectionMeter()) : meter(std::move(meter)) {}

  // constant after construction
  const std::shared_ptr<Meter> meter;  // of the connection alone; what is held is counted at a lease's
  uint32_t openFilesLimit = 256;
  uint32_t uploadsLimit = 64;
  uint32_t downloadsLimit = 256;  // streams at the same time
  uint32_t batchesLimit = BATCHES_LIMIT;
  uint32_t subscriptionsLimit = 64;
  kj::Timer* timer = nullptr;      // of the loop; null: nothing waits for time
  std::shared_ptr<Grants> grants;  // where shares are made; null: nothing is shared
  // owned by the loop
  uint32_t openFiles = 0;
  uint32_t uploads = 0;
  uint32_t subscriptions = 0;
  uint32_t batches = 0;
  size_t batchBytes = 0;          // in memory; see BATCH_BYTES in files/served-folder.h
  uint64_t batchStagedBytes = 0;  // on the disk
  std::string client;             // as it named itself at login
  bool shuttingDown = false;      // new work answers shuttingDown; what is in flight goes on
  Budget answers{ANSWER_BYTES_LIMIT};
  bool gone = false;  // the connection has ended: long work that it began is not gone on with
  capnp::CapabilityServerSet<schema::File> files;  // by which those made here are known again
  capnp::CapabilityServerSet<schema::FileStore> stores;
  // shared by all connections; outlive the scope
  struct Totals {
    std::atomic<uint32_t> openFiles{0};
    std::atomic<uint32_t> uploads{0};
    std::atomic<uint32_t> downloads{0};
    std::atomic<uint32_t> subscriptions{0};
  };
  Totals* totals = nullptr;
};

}  // namespace capstan::server
