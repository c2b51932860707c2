// The second half of a cycle: a plan is carried out slice by slice, and what came of each slice is remembered before
// the next one begins. Nothing is remembered that is not durable.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <capstan/sync/cycle-impl.h>

namespace capstan::sync {

// Used once. Both must outlive it, and it its promise.
class Execution {
 public:
  Execution(Cycle::Impl& cycle, Pass& pass);
  KJ_DISALLOW_COPY(Execution);

  // Resolves when all was tried, or `pass.broken` is set.
  kj::Promise<void> run() { return nextSlice(); }

 private:
  using Done = Result<Replica::Done>;

  // How often a path of one side occurs in the plan, and where it is changed last.
  struct Mention {
    uint32_t count = 0;
    size_t lastChange = 0;
  };

  kj::Promise<void> nextSlice();
  kj::Promise<void> nextGroup();
  kj::Promise<void> send(Side side, std::vector<size_t> group);
  void take(const std::vector<size_t>& group, std::vector<Done> results);
  void takeOne(size_t index, Done result);
  void fail(size_t index, Error error);
  void leaveStubborn(size_t index);
  size_t endOfSlice(size_t from) const;
  bool isBlocked(const Operation& operation) const;
  bool isHeldBack(size_t index) const;
  void holdBack(const Operation& operation);
  void refresh(Operation& operation) const;
  const Node* latestAt(Side side, const std::string& path) const;
  void setLatest(Side side, const std::string& path, std::optional<Node> node);
  void noteMove(Side side, const Operation& operation);
  bool isChangedAfter(Side side, const std::string& path, size_t index) const;
  bool changesLater(size_t index) const;
  bool changesLaterOn(Side side, size_t index) const;
  void agreeOnTheRest();
  void recordSlice();
  void record(size_t index, std::vector<StateChange>& changes);
  void recordMove(size_t index, std::vector<StateChange>& changes);
  StateChange setOf(const Operation& operation, Node own, Node others) const;
  void noteConflict(const Operation& operation);
  void releaseKept(const std::vector<StateChange>& changes);
  std::function<std::optional<std::vector<Chunk>>(const std::string&)> chunksOf(const std::vector<size_t>& group);

  Cycle::Impl& cycle;
  Pass& pass;
  std::vector<Operation>& operations;
  std::unordered_map<std::string_view, Mention> mentions[2];
  ByPath<std::optional<Node>> latest[2];  // what is at paths that occur again, after what was done so far
  PathSet blocked[2];                     // where something failed
  PathSet left[2];                        // folders that could not be removed
  std::optional<Error> outOfRoom;         // why deletions are not carried out any more
  size_t deletionsBegin = 0;              // the first of those at the end of the plan
  size_t position = 0, sliceBegin = 0, sliceEnd = 0;
  std::vector<std::optional<Replica::Done>> done;  // of the slice
};

// Adds what an operation has done, or would do, to the counts of a report.
void countOperation(CycleReport& report, const Operation& operation, uint64_t travelled);

}  // namespace capstan::sync
