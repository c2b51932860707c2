// One job at work: its steps, on the pools and on the jobs' event loop, from its operands to a result that is durable
// or placed. What becomes of the job is not decided here.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include <kj/async.h>
#include <kj/timer.h>

#include <capstan/schema/files.capnp.h>
#include <capstan/server/compute/computing.h>
#include <capstan/server/compute/jobs/job-record.h>
#include <capstan/server/compute/jobs/job-work.h>

namespace capstan::server::compute {

// Belongs to one event loop, and outlives the promise of run().
class JobRun {
 public:
  // Journals what is about to be placed, and what the result is.
  using Note = std::function<kj::Promise<Status>(Placing, ContentInfo)>;

  // `context` and `timer` must outlive it. `store`: the tree at the task's StoredOutput::top, with what the job's grant
  // may do there.
  JobRun(const ComputeContext& context, kj::Timer& timer, schema::FileStore::Client store,
         std::shared_ptr<JobRecord> record, std::shared_ptr<const StoredTask> task, Note note);
  KJ_DISALLOW_COPY(JobRun);

  // To be called once. Errors: those of the task; cancelled, only after stop(). Never rejects.
  kj::Promise<Result<JobResult>> run();

  // Somebody cancelled the job. run() resolves within 100 ms, unless it is placing the file already, or looking whether
  // a server before it has: then the job is cancelled only if there is no file, and fails if that cannot be told.
  void cancel();
  // The server ends. The same, but looking is ended too.
  void abandon();
  bool isComparing() const { return comparing; }

 private:
  using Running = kj::Promise<Result<JobResult>>;

  Running findPlaced(JobProgress before);
  Running findPlacedLater(JobProgress before, const Error& reason);
  Running open();
  Running compute(std::unique_ptr<OpenedTask> opened);
  Running place(JobResult result);

  template <typename Func>
  auto onPool(BlockingPool& pool, Func job) -> kj::Promise<decltype(job())>;

  // constant after construction
  const ComputeContext& context;
  kj::Timer& timer;
  schema::FileStore::Client store;
  const std::shared_ptr<JobRecord> record;
  const std::shared_ptr<const StoredTask> task;
  const Note note;

  // owned by the loop
  std::shared_ptr<std::atomic<bool>> claim;  // of the job on a pool: true once it has begun, or never will
  bool comparing;                            // with what a server before this one may have placed, or about to
  bool warned = false;                       // that this cannot be told yet
  bool placing = false;                      // too late to stop
  kj::PromiseFulfillerPair<void> stopped = kj::newPromiseAndFulfiller<void>();
};

}  // namespace capstan::server::compute
