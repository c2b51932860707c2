// Compute for one connection: makes values of calls, and jobs of tasks.
#pragma once

#include <capstan/server/access/guarded.h>
#include <capstan/server/compute/jobs/jobs.h>
#include <capstan/server/compute/operand.h>
#include <capstan/server/compute/reduce.h>

namespace capstan::server::compute {

// Belongs to its connection's loop. Holds no state of its own but the scope.
class ComputeServer final : public Guarded<schema::Compute> {
 public:
  ComputeServer(kj::Own<ComputeScope> scope, kj::Timer& timer);

 protected:
  kj::Promise<void> add(AddContext context) override;
  kj::Promise<void> sort(SortContext context) override;
  kj::Promise<void> reduce(ReduceContext context) override;
  kj::Promise<void> collect(CollectContext context) override;
  kj::Promise<void> submit(SubmitContext context) override;
  kj::Promise<void> find(FindContext context) override;
  kj::Promise<void> list(ListContext context) override;

 private:
  kj::Own<ComputeScope> scope;
  kj::Timer& timer;

  // A value that is computed from one input, once there is room for what that brings along. `Job` is called on a
  // thread.
  template <typename Context, typename Job>
  kj::Promise<void> answerFromInput(Context context, schema::Operand::Reader operand, Job job);

  // Why nothing new can be begun, if so.
  kj::Maybe<Error> refusal() const;
  schema::Job::Client newJob(std::shared_ptr<JobRecord> record);
};

// SortOptions off the wire, within the server's limits. Errors: invalidArgument.
Result<SortOptions> readSortOptions(schema::SortOptions::Reader from, uint64_t memoryLimit);
Result<Reduction> readReduction(schema::Reduction from);

}  // namespace capstan::server::compute
