// The thread that jobs are started from: an event loop which gives work to the pools, hears of its end, and looks after
// what has to be done in time. Which jobs those are is its owner's business.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <kj/async.h>

#include <capstan/server/compute/computing.h>
#include <capstan/server/compute/jobs/job-record.h>
#include <capstan/server/compute/jobs/job-work.h>

namespace capstan::server::compute {

// What the loop asks of its owner, always on the loop's thread.
class JobLoopOwner {
 public:
  virtual ~JobLoopOwner() noexcept(false) = default;

  // The job to be begun next, given a slot already; null if there is none.
  virtual std::shared_ptr<JobRecord> startNext() = 0;
  virtual std::shared_ptr<const StoredTask> taskOf(const JobRecord& record) = 0;
  // Resolves when the job may begin its work: that it was begun is durable, where that counts.
  virtual kj::Promise<void> noteStart(std::shared_ptr<JobRecord> record) = 0;
  virtual kj::Promise<Status> notePlacing(std::shared_ptr<JobRecord> record, Placing placing, ContentInfo result) = 0;
  // `abandoned`: it was stopped because the loop ends, and not because somebody wanted it. It has not ended then.
  virtual void ended(std::shared_ptr<JobRecord> record, Result<JobResult> result, bool abandoned) = 0;
  // What has to be done from time to time. Answers when it wants to be called again, in nanoseconds from now.
  virtual int64_t lookAfter() = 0;
  // Spool files that belong to nobody any more.
  virtual std::vector<std::string> takeRemovals() = 0;
};

// Lets any thread wake the loop. Outlives it.
class Waker {
 public:
  // Thread-safe.
  void wake();

  // On the loop: resolves at the next wake(), or at once if there was one since the last call.
  kj::Promise<void> next();

 private:
  std::mutex mutex;
  // protected by mutex
  bool pending = false;
  kj::Maybe<kj::Own<kj::CrossThreadPromiseFulfiller<void>>> fulfiller;
};

class JobLoop {
 public:
  // `owner` and `context` must outlive it. Throws if there can be no event loop.
  JobLoop(JobLoopOwner& owner, const ComputeContext& context, std::shared_ptr<Waker> waker);
  // Stops what runs, and waits for it.
  ~JobLoop() noexcept(false);
  KJ_DISALLOW_COPY(JobLoop);

 private:
  class Loop;

  JobLoopOwner& owner;
  const ComputeContext& context;
  const std::shared_ptr<Waker> waker;
  std::atomic<bool> ending{false};
  std::thread thread;

  void run(std::function<void()> ready);
};

}  // namespace capstan::server::compute
