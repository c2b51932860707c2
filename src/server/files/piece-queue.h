// Content that a client streams, between the calls that bring it and the jobs that store it.
#pragma once

#include <list>
#include <vector>

#include <kj/async.h>
#include <kj/function.h>

#include <capstan/base/error.h>
#include <capstan/server/files/storage.h>
#include <capstan/storage/staged-content.h>

namespace capstan::server::files {

// Takes pieces in order and has them stored by one job after the other, each with all that came during the one before.
// Belongs to one loop. Destroying it drops the job that runs.
class PieceQueue {
 public:
  // Starts a job; resolves when it has ended. Called only when the one before has. What it throws counts as its error.
  using Store = kj::Function<kj::Promise<Status>(std::vector<Piece>)>;
  // Zeros may cost nothing where they become holes, or as much as other bytes.
  enum class Zeros { FREE, COUNT };
  explicit PieceQueue(Store store, Zeros zeros = Zeros::FREE);
  ~PieceQueue() noexcept(false);
  KJ_DISALLOW_COPY(PieceQueue);

  // Resolves when a sender may send more: that is the stream's back-pressure.
  kj::Promise<void> add(Piece piece);
  kj::Promise<void> addBytes(kj::ArrayPtr<const kj::byte> bytes);
  // Resolves when everything added so far is stored, or has failed.
  kj::Promise<void> drained();

  // The first error of a job. Nothing is stored after it.
  const kj::Maybe<Error>& failure() const { return failed; }

 private:
  Store store;
  const Zeros zeros;
  kj::Maybe<Error> failed;
  std::vector<Piece> pieces;  // for the next job
  size_t pendingBytes = 0;    // in them
  bool running = false;
  std::list<kj::Own<kj::PromiseFulfiller<void>>> waitingForRoom;
  std::list<kj::Own<kj::PromiseFulfiller<void>>> waitingForAll;
  kj::Promise<void> job;  // the one that runs

  kj::Promise<void> runJobs();
};

}  // namespace capstan::server::files
