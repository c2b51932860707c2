// Batch: operations that a client streams, and that are carried out together at commit. Content is staged as it comes,
// by several jobs at the same time; everything else is kept.
#pragma once

#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include <capstan/server/access/guarded.h>
#include <capstan/server/files/batch-copies.h>
#include <capstan/server/files/folder-state.h>
#include <capstan/server/files/slot.h>
#include <capstan/server/files/view.h>
#include <capstan/storage/mutation.h>
#include <capstan/storage/run.h>

namespace capstan::server::files {

// Content of an operation on its way to staging.
struct PutJob {
  size_t operation;  // its number in the batch
  std::string path;
  Expectation expectation;
  Attributes attributes;
  bool makeParents;
  ContentCheck check;
  std::string content;
};

// The place of a batch, and what it holds of the memory and disk that the connection, its grant and the server may.
// Belongs to the connection's loop.
class BatchSlot {
 public:
  explicit BatchSlot(Slot slotParam)
      : slot(kj::mv(slotParam)),
        kept(slot.none(Resource::BATCH_BYTES)),
        staged(slot.none(Resource::BATCH_STAGED_BYTES)),
        stagedInAll(slot.none(Resource::STAGED_BYTES)) {}

  // Counts more. An error is for a batch that changes nothing and is thrown away.
  Status hold(size_t keptBytes, uint64_t stagedBytes) {
    Status status = kept.grow(keptBytes);
    if (status.ok()) status = staged.grow(stagedBytes);
    if (status.ok()) status = stagedInAll.grow(stagedBytes);
    return status;
  }
  // What was held: it is in the tree now, or was thrown away.
  void giveBack() {
    for (auto* each : {&kept, &staged, &stagedInAll}) each->giveBack();
  }

  Access& access() { return slot.access(); }
  ConnectionScope& connection() { return slot.connection(); }

 private:
  Slot slot;
  Meters::Charge kept, staged, stagedInAll;
};

// Belongs to its connection's loop. The folder must outlive it. Dropped before commit, it throws away what is staged.
class BatchServer final : public Guarded<schema::Batch> {
 public:
  BatchServer(FolderState& folder, std::shared_ptr<const View> view, BatchSlot slot, std::shared_ptr<Run> run);
  ~BatchServer() noexcept(false);

 protected:
  kj::Promise<void> add(AddContext context) override;
  kj::Promise<void> commit(CommitContext context) override;

 private:
  using Staged = std::vector<std::unique_ptr<Mutation>>;

  kj::Maybe<Error> refusal();
  // Of further operations; then the batch has failed.
  kj::Maybe<Error> overLimit(capnp::List<schema::Operation>::Reader operations);
  // Destroys on the pool what was to be carried out: thousands of files may be staged.
  void throwAway();
  // Takes the operation as the next one: kept, or as one of the jobs.
  void take(schema::Operation::Reader operation, std::vector<PutJob>& jobs);
  kj::Promise<void> stage(std::vector<PutJob> jobs, size_t bytes);
  void staged(const std::vector<size_t>& operations, size_t bytes, Result<Staged> result);
  kj::Promise<void> drained();
  kj::Promise<void> carryOut(CommitContext context, Committer::Ticket ticket);
  // Stages what is copied before the turn of the ticket is used, and counts it.
  kj::Promise<Status> stageCopies(const Committer::Ticket& ticket);
  static void answer(CommitContext& context, const std::vector<Result<Entry>>& results);

  // constant after construction
  FolderState& folder;
  const std::shared_ptr<const View> view;
  BatchSlot slot;

  // owned by the loop
  std::shared_ptr<Run> run;  // until the commit: then it is over, if no other batch goes on with it
  std::vector<std::unique_ptr<Mutation>> mutations;  // null: being staged, or a copy
  std::shared_ptr<BatchCopies> copies;
  bool committed = false;
  kj::Maybe<Error> failed;  // of the batch as a whole: commit changes nothing
  size_t pendingBytes = 0;  // of content on its way to staging
  size_t jobsUnderWay = 0;
  std::deque<kj::Own<kj::PromiseFulfiller<void>>> waitingForRoom;
  std::vector<kj::Own<kj::PromiseFulfiller<void>>> waitingForAll;
  struct Failures final : kj::TaskSet::ErrorHandler {
    BatchServer& batch;
    explicit Failures(BatchServer& batch) : batch(batch) {}
    void taskFailed(kj::Exception&& exception) override;
  };
  Failures failures;
  kj::TaskSet tasks;
};

}  // namespace capstan::server::files
