// The local folder as a side of the synchroniser. Looking walks it on a thread, in the order of the state, and forgets
// at once what is as agreed; changing goes through capstan::storage, with its expectations, durability and trash.
#pragma once

#include <memory>

#include <kj/async-io.h>

#include <capstan/base/blocking-pool.h>
#include <capstan/sync/replica.h>

namespace capstan::sync {

struct LocalOptions {
  std::string folder;  // absolute
  bool watch = true;
  bool mayChange = true;  // false (push): nothing is ever written, not even the state folder
  uint64_t pollInterval = 4'000'000'000;
};

// `pool` must outlive it. The folder need not exist yet.
kj::Own<Replica> newLocalReplica(BlockingPool& pool, LocalOptions options);

}  // namespace capstan::sync
