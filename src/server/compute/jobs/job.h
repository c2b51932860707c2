// The capability for one job.
#pragma once

#include <memory>

#include <kj/async.h>
#include <kj/timer.h>

#include <capstan/schema/compute.capnp.h>
#include <capstan/server/access/guarded.h>
#include <capstan/server/compute/jobs/job-record.h>
#include <capstan/server/compute/jobs/jobs.h>

namespace capstan::server::compute {

// What the capability asks of the jobs. Thread-safe.
class JobControl {
 public:
  virtual ~JobControl() noexcept(false) = default;

  // Asks for it; the job ends later, if it has not ended.
  virtual void cancel(std::shared_ptr<JobRecord> record) = 0;
  // Resolves on the calling loop when it is durable. Errors: conflict (it has not ended), notFound, expired, noSpace,
  // io.
  virtual kj::Promise<Status> forget(std::shared_ptr<JobRecord> record) = 0;
  // Why there is nothing more to be known of the job, if so.
  virtual std::optional<Error> gone(const JobRecord& record) = 0;
  virtual const ComputeContext& computeContext() const = 0;
};

// Belongs to its connection's loop, with `timer`. The control must outlive it; the record is shared.
class JobServer final : public Guarded<schema::Job> {
 public:
  JobServer(kj::Own<Access> access, JobControl& control, std::shared_ptr<JobRecord> record, kj::Timer& timer,
            Jobs::NewValue newValue);

 protected:
  kj::Promise<void> status(StatusContext context) override;
  kj::Promise<void> wait(WaitContext context) override;
  kj::Promise<void> watch(WatchContext context) override;
  kj::Promise<void> cancel(CancelContext context) override;
  kj::Promise<void> result(ResultContext context) override;
  kj::Promise<void> forget(ForgetContext context) override;

 private:
  JobControl& control;
  const std::shared_ptr<JobRecord> record;
  kj::Timer& timer;
  const Jobs::NewValue newValue;

  template <typename Context>
  void answerStatus(Context& context);
  kj::Promise<Result<std::shared_ptr<const Content>>> content();
};

}  // namespace capstan::server::compute
