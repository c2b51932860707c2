// Catching up with what other programs have changed, for many callers at once: it blocks, for long where a large tree
// is looked at for the first time, and must not take more than one thread of the pool from everybody else.
#pragma once

#include <mutex>
#include <vector>

#include <kj/async.h>

#include <capstan/base/error.h>

namespace capstan::server::files {

class FolderState;

// Thread-safe.
class CatchUps {
 public:
  // Starts the noticing if need be, and answers where the journal ends once all that has happened before this call is
  // in it.
  kj::Promise<Result<uint64_t>> join(FolderState& folder);

 private:
  using Answer = kj::Maybe<Result<uint64_t>>;  // null: whoever was to do it has gone; join again
  using Fulfiller = kj::Own<kj::CrossThreadPromiseFulfiller<Answer>>;
  // Does it for all who wait, in one job of the pool; if that never runs, tells them.
  class Turn;

  std::vector<Fulfiller> take();
  void serve(FolderState& folder);

  std::mutex mutex;
  std::vector<Fulfiller> waiting;  // protected by mutex
  bool isServed = false;           // protected by mutex
};

}  // namespace capstan::server::files
