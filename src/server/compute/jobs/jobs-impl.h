// The parts of Jobs, as one class: what is asked of it (jobs.cpp), what it finds when it starts (jobs-start.cpp), and
// what its loop asks of it while jobs run and end (jobs-running.cpp). Internal to src/server/compute/jobs.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <capstan/server/compute/jobs/job-loop.h>
#include <capstan/server/compute/jobs/job-table.h>
#include <capstan/server/compute/jobs/job.h>
#include <capstan/server/compute/jobs/submitted-inputs.h>

namespace capstan::server::compute {

using Record = std::shared_ptr<JobRecord>;

// A promise that any thread may fulfil, by a function that may be copied.
template <typename T>
struct Answer {
  kj::Promise<T> promise = nullptr;
  std::function<void(T)> fulfill;

  Answer() {
    auto paf = kj::newPromiseAndCrossThreadFulfiller<T>();
    promise = kj::mv(paf.promise);
    auto shared = std::make_shared<kj::Own<kj::CrossThreadPromiseFulfiller<T>>>(kj::mv(paf.fulfiller));
    fulfill = [shared](T value) { (*shared)->fulfill(kj::mv(value)); };
  }
};

// Calls of the journal's `then` come on its thread; the loop's come on the loop's; all else on any thread. One mutex
// guards the table and all that is marked so; the journal's and the records' own mutexes are taken within it.
class JobsImpl final : public Jobs, public JobLoopOwner, public JobControl {
 public:
  JobsImpl(const ComputeContext& context, std::unique_ptr<JobJournal> opened);
  ~JobsImpl() noexcept(false);

  // To be called once, before anything else. Blocks.
  Status start();

  // ---- Jobs
  std::string newInputName() override;
  void removeInput(std::string name) override;
  kj::Promise<Result<Record>> submit(std::string grant, StoredTask task, std::string key) override;
  Record known(const std::string& grant, const std::string& key) override;
  Result<Record> find(std::string_view grant, std::string_view id) override;
  Page list(std::string_view grant, std::string_view cursor, uint32_t maxEntries) override;
  uint32_t unfinished() const override;
  JobJournal::Figures journalFigures() const override { return journal->figures(); }
  void endJobs() override;
  void beginDrain() override { draining = true; }
  schema::Job::Client newJob(kj::Own<Access> access, Record record, kj::Timer& timer, NewValue newValue) override;

  // ---- JobLoopOwner
  Record startNext() override;
  std::shared_ptr<const StoredTask> taskOf(const JobRecord& record) override;
  kj::Promise<void> noteStart(Record record) override;
  kj::Promise<Status> notePlacing(Record record, Placing placing, ContentInfo result) override;
  void ended(Record record, Result<JobResult> result, bool abandoned) override;
  int64_t lookAfter() override;
  std::vector<std::string> takeRemovals() override;

  // ---- JobControl
  void cancel(Record record) override;
  kj::Promise<Status> forget(Record record) override;
  std::optional<Error> gone(const JobRecord& record) override;
  const ComputeContext& computeContext() const override { return context; }

 private:
  const ComputeContext context;
  const std::shared_ptr<Waker> waker = std::make_shared<Waker>();
  std::atomic<bool> draining{false};

  // protected by mutex
  mutable std::mutex mutex;
  JobTable table;
  uint64_t lastSequence = 0;
  std::vector<std::function<void()>> retries;  // changes that the journal could not take; called with the mutex held
  int64_t retryAt = 0;                         // by the wall clock
  std::vector<std::string> removals;

  std::unique_ptr<JobJournal> journal;
  std::unique_ptr<JobLoop> loop;

  // ---- at start
  void adopt(JobJournal::Contents contents);
  void adopt(JobJournal::Job job);
  Status removeStrays();

  // ---- submitting
  struct Submission {
    std::string grant;
    std::string key;
    std::string fingerprint;
    std::shared_ptr<const StoredTask> task;
    std::shared_ptr<SubmittedInputs> inputs;
  };
  kj::Promise<Result<Record>> add(const Submission& submission);
  Record newRecord(const Submission& submission);
  // With the mutex held.
  static void whenAcknowledged(const Record& record, std::function<void(Result<Record>)> then);
  void acknowledge(const Record& record, const Status& status);

  // ---- ending: with the mutex held
  // One that does not run ends so at once; one that does, later, as ended() finds.
  void stop(const Record& record, JobState state, Error error);
  void settle(const Record& record, JobState state, Error error);
  void settle(const Record& record, JobState state, Error error, JobProgress progress);
  // Nobody is told before it is durable: else a later server would run a job again that somebody saw ended.
  void writeEnd(const Record& record, std::shared_ptr<const JobProgress> progress);
  void tryAgain(const Status& status, std::function<void()> again);
  // Its result goes at once, so that there is room for the journal to say so.
  void bury(const Record& record);
  void writeTombstone(uint64_t sequence, const JobJournal::Tombstone& tombstone);
  // Ends the jobs of grants that have ended. Answers when the next one does by itself; INT64_MAX: none.
  int64_t endUngranted();
};

}  // namespace capstan::server::compute
