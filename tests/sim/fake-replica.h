// A side of the synchroniser over a FakeDisk, with everything that may go wrong on the way: answers that get lost,
// looks that race with users, operations that are carried out in part. When it goes on is decided by the simulation.
#pragma once

#include <capstan/sync/replica.h>

#include "fake-disk.h"
#include "random.h"

namespace capstan::sync::sim {

// What replicas ask of the simulation.
class Scheduler {
 public:
  virtual ~Scheduler() noexcept(false) = default;
  // Resolves when the simulation has chosen this one to go on; users may have changed anything until then.
  virtual kj::Promise<void> pause() = 0;
  virtual void note(const std::string& line) = 0;      // for the trace
  virtual void complain(const std::string& line) = 0;  // a promise was broken
  virtual Random& random() = 0;
  virtual bool faults() const = 0;  // whether things may go wrong now
};

class FakeReplica final : public Replica {
 public:
  FakeReplica(Scheduler& scheduler, FakeDisk& disk, Side side) : scheduler(scheduler), disk(disk), side(side) {}

  kj::Promise<Result<Look>> look(const State& state, const IgnoreRules& ignore, LookOptions options) override;
  kj::Promise<Result<std::optional<Node>>> stat(std::string path) override;
  kj::Promise<std::vector<Result<std::string>>> digests(std::vector<std::string> paths) override;
  kj::Promise<Result<Fetched>> fetch(std::string path, Node expected) override;
  kj::Promise<Result<kj::Own<Content>>> open(std::string path, Node expected) override;
  kj::Promise<std::vector<Result<Done>>> apply(std::vector<Operation> operations, Replica& from,
                                               const ApplyOptions& options) override;
  kj::Promise<void> onChange() override { return kj::NEVER_DONE; }
  std::string watching() const override { return "simulation"; }

  FakeDisk& getDisk() { return disk; }
  uint64_t changes = 0;      // operations that were carried out here
  bool mayRemove = true;     // false: whatever is removed is removed without a good reason
  std::string mayNotRemove;  // nor anything in this folder; empty: none

  // For tests of one thing that goes wrong; may be empty. Before each operation, which fails with what is answered; and
  // when all were carried out, before anybody hears of it.
  std::function<std::optional<Error>(const Operation&)> beforeOperation;
  std::function<void()> beforeAnswer;
  std::optional<Error> lookError;

 private:
  struct Looking;
  struct Applying;
  void lookAtPart(Looking& looking, bool firstHalf);
  void choosePaths(Looking& looking);
  void choosePathsTold(Looking& looking, size_t from);
  void chooseBelow(Looking& looking, const std::string& path);
  void lookAt(Looking& looking, const std::string& path);
  Result<Look> endLook(Looking& looking);
  kj::Promise<void> applyNext(Applying& applying);
  kj::Promise<void> put(Applying& applying, const Operation& operation);
  Result<Done> carryOut(const Operation& operation);
  Result<Done> finishPut(const Operation& operation, FakeDisk& from, const Item& read, const Node& node);
  std::optional<Error> whyNot(const Operation& operation) const;
  Error error(ErrorCode code, const std::string& path) const;

  Scheduler& scheduler;
  FakeDisk& disk;
  const Side side;
  // Up to which this one has looked: in the disk's journal, or of the server's side in what the server has noticed.
  std::optional<size_t> position;
  uint64_t epoch = 0;
  bool inTrouble = false, otherInTrouble = false;  // the last look did not see everything
};

}  // namespace capstan::sync::sim
