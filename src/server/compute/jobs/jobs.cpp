#include <capstan/server/compute/jobs/jobs.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <thread>

#include <kj/debug.h>

#include <capstan/base/digest.h>
#include <capstan/base/log.h>
#include <capstan/base/text.h>
#include <capstan/server/access/grants.h>
#include <capstan/server/compute/jobs/compute-folder.h>
#include <capstan/server/compute/jobs/job-loop.h>
#include <capstan/server/compute/jobs/job-table.h>
#include <capstan/server/compute/jobs/job.h>
#include <capstan/server/compute/jobs/submitted-inputs.h>

namespace capstan::server::compute {

namespace {

constexpr size_t ID_BYTES = 10;  // random ones, as 20 hexadecimal digits
// Until a change is written again that the journal could not take.
constexpr int64_t RETRY_DELAY = 500'000'000;
// It has threads for as many long computations as there are processors, about.
constexpr uint32_t LEAST_SLOTS = 2;

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

Error drainingError() {
  return {ErrorCode::SHUTTING_DOWN, "the server is going away and takes no new jobs; try again later", {}};
}

Error deadlyError(uint32_t deaths) {
  return {ErrorCode::IO,
          "the server ended " + std::to_string(deaths) +
              " times while it ran this job, without being asked to, perhaps because the job needs more memory than "
              "there is; it is not begun again",
          {}};
}

std::string cursorOf(uint64_t sequence) {
  std::string cursor(sizeof(sequence), '\0');
  memcpy(cursor.data(), &sequence, sizeof(sequence));
  return cursor;
}

// Calls of the journal's `then` come on its thread; the loop's come on the loop's; all else on any thread. One mutex
// guards the table and all that is marked so; the journal's and the records' own mutexes are taken within it.
class JobsImpl final : public Jobs, public JobLoopOwner, public JobControl {
 public:
  JobsImpl(const ComputeContext& context, std::unique_ptr<JobJournal> opened)
      : context(context),
        table(this->context.limits, std::max(LEAST_SLOTS, std::thread::hardware_concurrency())),
        journal(std::move(opened)) {}

  ~JobsImpl() noexcept(false) {
    loop = nullptr;
    journal = nullptr;  // what waits in it is written, and answered here
  }

  // To be called once, before anything else. Blocks.
  Status start() {
    adopt(journal->takeContents());
    Status cleaned = removeStrays();
    if (!cleaned.ok()) return cleaned;
    loop = std::make_unique<JobLoop>(*this, context, waker);
    return okStatus();
  }

  // ---- Jobs

  std::string newInputName() override { return toHex(randomBytes(ID_BYTES)) + std::string(INPUT_MARK) + "1"; }

  kj::Promise<Result<Record>> submit(std::string grant, StoredTask task, std::string key) override {
    KJ_REQUIRE(isComplete(task), "a task without its operands");
    auto shared = std::make_shared<const StoredTask>(std::move(task));
    // `this` outlives the promises that it hands out.
    auto inputs = std::make_shared<SubmittedInputs>(*this, *shared);
    if (draining) return Result<Record>(drainingError());
    if (key.empty()) return add({std::move(grant), {}, {}, shared, inputs});
    auto& pool = inputBytesOf(*shared) <= QUICK_BYTES ? context.threads.quick : context.threads.bulk;
    auto digest = [&spool = context.spool, shared, unwanted = inputs->unwanted]() {
      return fingerprint(*shared, spool, *unwanted);
    };
    return pool.run(kj::mv(digest))
        .then([this, grant = std::move(grant), key = std::move(key), shared,
               inputs](Result<std::string> print) mutable -> kj::Promise<Result<Record>> {
          if (!print.ok()) return Result<Record>(print.error());
          return add({std::move(grant), std::move(key), std::move(*print), shared, inputs});
        });
  }

  void removeInput(std::string name) override {
    std::lock_guard lock(mutex);
    removals.push_back(std::move(name));
    waker->wake();
  }

  Record known(const std::string& grant, const std::string& key) override {
    std::lock_guard lock(mutex);
    Record record = table.byKey(grant, key);
    return record != nullptr && record->inTable.acknowledged && !gone(*record) ? record : nullptr;
  }

  Result<Record> find(std::string_view grant, std::string_view id) override {
    std::lock_guard lock(mutex);
    Record record = table.byId(grant, id);
    if (record != nullptr) {
      if (auto error = gone(*record)) return *error;
      return record;
    }
    if (table.isBuried(grant, id)) return expiredJobError(id, context.limits.jobResultTime);
    return unknownJobError(id);
  }

  Page list(std::string_view grant, std::string_view cursor, uint32_t maxEntries) override {
    Page page;
    uint64_t before = UINT64_MAX;
    if (cursor.size() == sizeof(before)) memcpy(&before, cursor.data(), sizeof(before));
    page.atEnd = true;
    if (!cursor.empty() && cursor.size() != sizeof(before)) return page;
    size_t count = maxEntries == 0 ? files::MAX_LIST_ENTRIES : std::min(maxEntries, files::MAX_LIST_ENTRIES);
    std::lock_guard lock(mutex);
    page.jobs = table.before(grant, before, count + 1);
    page.atEnd = page.jobs.size() <= count;
    if (!page.atEnd) page.jobs.pop_back();
    if (!page.jobs.empty()) page.cursor = cursorOf(page.jobs.back()->origin.sequence);
    return page;
  }

  uint32_t unfinished() const override {
    std::lock_guard lock(mutex);
    return table.unfinished();
  }
  JobJournal::Figures journalFigures() const override { return journal->figures(); }
  void endJobs() override {
    std::lock_guard lock(mutex);
    endUngranted();
    waker->wake();
  }
  void beginDrain() override { draining = true; }

  schema::Job::Client newJob(kj::Own<Access> access, Record record, kj::Timer& timer, NewValue newValue) override {
    return kj::heap<JobServer>(kj::mv(access), *this, kj::mv(record), timer, std::move(newValue));
  }

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

  void adopt(JobJournal::Contents contents) {
    std::lock_guard lock(mutex);
    for (auto& tombstone : contents.tombstones) table.bury(std::move(tombstone));
    for (auto& job : contents.jobs) adopt(std::move(job));
  }

  void adopt(JobJournal::Job job) {
    lastSequence = std::max(lastSequence, job.origin.sequence);
    bool ended = hasEnded(job.progress.state);
    if (!ended) job.progress.state = JobState::QUEUED;
    uint32_t deaths = job.progress.starts - std::min(job.progress.starts, job.progress.stops);
    auto record = std::make_shared<JobRecord>(std::move(job.origin), job.progress, context.limits.jobResultTime);
    auto task = parseStoredTask(job.task);
    if (!ended && task.ok()) {
      record->inTable.inputBytes = inputBytesOf(*task);
      record->inTable.task = std::make_shared<const StoredTask>(std::move(*task));
    }
    record->inTable.adopted = true;
    table.insert(record);
    table.enqueue(record);
    // One whose file was about to be placed may be done, and to look at that kills nobody.
    uint32_t most = context.limits.jobDeaths;
    bool isDeadly = deaths >= (record->progress().placing.digest.empty() ? most : 2 * most);
    if (!ended && task.ok() && !isDeadly) return;
    table.unqueue(*record);
    if (!ended) return settle(record, JobState::FAILED, task.ok() ? deadlyError(deaths) : task.error());
    record->inTable.settled = true;
    table.keep(record);
  }

  Status removeStrays() {
    std::lock_guard lock(mutex);  // the journal may be answering already
    auto names = context.spool.names();
    if (!names.ok()) return names.error();
    // Files of jobs that could not be taken over yet are not known by their jobs.
    if (std::any_of(names->begin(), names->end(), isAdoptedJournal)) return okStatus();
    std::set<std::string> owned;
    for (auto& record : table.all()) {
      auto progress = record->progress();
      if (progress.state == JobState::DONE) owned.insert(resultFileOf(record->origin.id));
      if (record->inTable.task == nullptr) continue;
      for (auto& name : inputFilesOf(*record->inTable.task)) owned.insert(name);
    }
    for (auto& name : *names) {
      if (!belongsToJobs(name) || owned.count(name) > 0) continue;
      Status removed = context.spool.removeFile(name);
      if (!removed.ok()) return removed;
    }
    return okStatus();
  }

  // ---- submitting

  struct Submission {
    std::string grant;
    std::string key;
    std::string fingerprint;
    std::shared_ptr<const StoredTask> task;
    std::shared_ptr<SubmittedInputs> inputs;
  };

  kj::Promise<Result<Record>> add(const Submission& submission) {
    Answer<Result<Record>> answer;
    std::lock_guard lock(mutex);
    if (draining) return Result<Record>(drainingError());
    if (Record known = table.byKey(submission.grant, submission.key)) {
      if (known->origin.fingerprint != submission.fingerprint) {
        return Result<Record>(Error{
            ErrorCode::CONFLICT,
            "the idempotency key is that of the job " + known->origin.id + ", which is another task; use another key",
            {}});
      }
      whenAcknowledged(known, answer.fulfill);
      return kj::mv(answer.promise);
    }
    Status free = table.mayQueue(submission.grant, inputBytesOf(*submission.task));
    if (!free.ok()) return Result<Record>(free.error());
    Record record = newRecord(submission);
    submission.inputs->handOver();
    whenAcknowledged(record, answer.fulfill);
    table.insert(record);
    journal->add(record->origin, serialize(*submission.task),
                 [this, record](const Status& status) { acknowledge(record, status); });
    return kj::mv(answer.promise);
  }

  Record newRecord(const Submission& submission) {
    JobOrigin origin;
    origin.sequence = ++lastSequence;
    origin.id = toHex(randomBytes(ID_BYTES));
    origin.grant = submission.grant;
    origin.key = submission.key;
    origin.fingerprint = submission.fingerprint;
    origin.kind = submission.task->kind;
    origin.label = submission.task->label;
    if (submission.task->output) origin.output = submission.task->output->path;
    origin.submitted = wallClock();
    auto record = std::make_shared<JobRecord>(std::move(origin), JobProgress(), context.limits.jobResultTime);
    record->inTable.task = submission.task;
    record->inTable.inputBytes = inputBytesOf(*submission.task);
    return record;
  }

  // With the mutex held.
  static void whenAcknowledged(const Record& record, std::function<void(Result<Record>)> then) {
    if (record->inTable.acknowledged) return then(record);
    // Weak, since the function is the record's own.
    record->inTable.whenAcknowledged.push_back([self = std::weak_ptr(record), then](const Status& status) {
      then(status.ok() ? Result<Record>(self.lock()) : status.error());
    });
  }

  void acknowledge(const Record& record, const Status& status) {
    std::lock_guard lock(mutex);
    if (status.ok()) {
      table.enqueue(record);
    } else {
      table.erase(*record);
      for (auto& name : inputFilesOf(*record->inTable.task)) removals.push_back(name);
    }
    for (auto& then : record->inTable.whenAcknowledged) then(status);
    record->inTable.whenAcknowledged.clear();
    waker->wake();
  }

  // ---- running: on the loop's thread

  Record startNext() override {
    std::lock_guard lock(mutex);
    endUngranted();
    Record record = table.startNext(draining);
    if (record == nullptr) return nullptr;
    auto progress = record->progress();
    progress.state = JobState::RUNNING;
    progress.started = wallClock();
    ++progress.starts;
    record->publish(std::move(progress));
    return record;
  }

  // A later server begins it again in any case. How often, it has to know of a job that may be what servers die of: not
  // of one that is begun for the first time, which is not made to wait for the disk.
  kj::Promise<void> noteStart(Record record) override {
    Answer<Status> answer;
    bool waits = record->inTable.adopted;
    journal->update(record->origin.sequence, record->progress(), answer.fulfill);
    if (!waits) return kj::READY_NOW;
    // With a full disk it is begun all the same.
    return answer.promise.ignoreResult();
  }

  std::shared_ptr<const StoredTask> taskOf(const JobRecord& record) override {
    std::lock_guard lock(mutex);
    return record.inTable.task;
  }

  kj::Promise<Status> notePlacing(Record record, Placing placing, ContentInfo result) override {
    Answer<Status> answer;
    std::lock_guard lock(mutex);
    auto progress = record->progress();
    progress.placing = std::move(placing);
    progress.result = result;
    record->publish(progress);
    journal->update(record->origin.sequence, std::move(progress), answer.fulfill);
    return kj::mv(answer.promise);
  }

  void ended(Record record, Result<JobResult> result, bool abandoned) override {
    std::lock_guard lock(mutex);
    if (abandoned) {
      auto progress = record->progress();
      ++progress.stops;
      return journal->update(record->origin.sequence, std::move(progress), [](const Status&) {});
    }
    table.stopped(*record);
    waker->wake();
    if (result.ok()) {
      auto progress = record->progress();
      progress.result = result->info;
      progress.resultBytes = std::move(result->bytes);
      return settle(record, JobState::DONE, {}, std::move(progress));
    }
    bool cancelled = result.error().code == ErrorCode::CANCELLED && record->cancelled;
    if (cancelled && record->inTable.grantEnded) return settle(record, JobState::FAILED, *record->inTable.grantEnded);
    settle(record, cancelled ? JobState::CANCELLED : JobState::FAILED, cancelled ? Error() : result.error());
  }

  // ---- ending: with the mutex held

  void settle(const Record& record, JobState state, Error error) {
    settle(record, state, std::move(error), record->progress());
  }

  void settle(const Record& record, JobState state, Error error, JobProgress progress) {
    record->inTable.settled = true;
    progress.state = state;
    progress.ended = wallClock();
    progress.error = std::move(error);
    writeEnd(record, std::make_shared<const JobProgress>(std::move(progress)));
  }

  // Nobody is told before it is durable: else a later server would run a job again that somebody saw ended.
  void writeEnd(const Record& record, std::shared_ptr<const JobProgress> progress) {
    journal->update(record->origin.sequence, *progress, [this, record, progress](const Status& status) {
      std::lock_guard lock(mutex);
      if (!status.ok()) return tryAgain(status, [this, record, progress]() { writeEnd(record, progress); });
      if (record->inTable.task != nullptr) {
        for (auto& name : inputFilesOf(*record->inTable.task)) removals.push_back(name);
      }
      if (progress->state != JobState::DONE) removals.push_back(resultFileOf(record->origin.id));
      record->inTable.task = nullptr;
      record->publish(*progress);
      table.keep(record);
      waker->wake();
    });
  }

  void tryAgain(const Status& status, std::function<void()> again) {
    if (retries.empty()) {
      log::warning(status.error().message.c_str(), "; it is tried again");
      retryAt = wallClock() + RETRY_DELAY;
    }
    retries.push_back(std::move(again));
    waker->wake();
  }

  // ---- housekeeping: on the loop's thread

  int64_t lookAfter() override {
    std::lock_guard lock(mutex);
    int64_t now = wallClock();
    // A clock that was set back does not put it off.
    bool due = now >= retryAt || retryAt - now > RETRY_DELAY;
    if (!retries.empty() && due) {
      auto taken = std::move(retries);
      retries.clear();
      for (auto& again : taken) again();
    }
    for (auto& record : table.surplus(now)) bury(record);
    int64_t next = table.nextExpiry();
    next = std::min(next, endUngranted());
    if (!retries.empty()) next = std::min(next, retryAt);
    return std::max<int64_t>(next - now, 0);
  }

  // With the mutex held. Its result goes at once, so that there is room for the journal to say so.
  void bury(const Record& record) {
    JobJournal::Tombstone tombstone{record->origin.id, record->origin.grant, wallClock()};
    record->setGone(expiredJobError(record->origin.id, context.limits.jobResultTime));
    table.erase(*record);
    table.bury(tombstone);
    removals.push_back(resultFileOf(record->origin.id));
    writeTombstone(record->origin.sequence, tombstone);
  }

  void writeTombstone(uint64_t sequence, const JobJournal::Tombstone& tombstone) {
    journal->bury(sequence, tombstone, [this, sequence, tombstone](const Status& status) {
      if (status.ok()) return;
      std::lock_guard lock(mutex);
      tryAgain(status, [this, sequence, tombstone]() { writeTombstone(sequence, tombstone); });
    });
  }

  std::vector<std::string> takeRemovals() override {
    std::lock_guard lock(mutex);
    std::vector<std::string> taken;
    taken.swap(removals);
    return taken;
  }

  // ---- grants that end: with the mutex held

  // Ends the jobs of grants that have ended. Answers when the next one does by itself; INT64_MAX: none.
  int64_t endUngranted() {
    int64_t next = INT64_MAX;
    if (context.grants == nullptr) return next;
    for (auto& id : table.busyGrants()) {
      auto grant = context.grants->find(id);
      // One whose file is gone from the folder was ended by that.
      auto error = grant == nullptr ? Error{ErrorCode::REVOKED, "the share " + id + " does not exist any more", {}}
                                    : grant->ended();
      if (!error && grant->expires != 0) next = std::min(next, grant->expires);
      if (!error) continue;
      for (auto& record : table.busyJobs(id)) {
        if (record->inTable.grantEnded) continue;
        record->inTable.grantEnded = error;
        stop(record, JobState::FAILED, *error);
      }
    }
    return next;
  }

  // ---- JobControl

  void cancel(Record record) override {
    std::lock_guard lock(mutex);
    stop(record, JobState::CANCELLED, {});
  }

  // With the mutex held. One that does not run ends so at once; one that does, later, as ended() finds.
  void stop(const Record& record, JobState state, Error error) {
    if (record->inTable.settled) return;
    record->cancelled = true;
    // A server that died over it may have placed its file: then it is done, and whoever runs it will see.
    if (record->inTable.running || !record->progress().placing.digest.empty()) return waker->wake();
    table.unqueue(*record);
    settle(record, state, std::move(error));
  }

  kj::Promise<Status> forget(Record record) override {
    if (auto error = gone(*record)) return Status(*error);
    if (!record->ended()) {
      return Status(Error{ErrorCode::CONFLICT,
                          "the job " + record->origin.id + " has not ended yet; cancel it first, or wait for it",
                          {}});
    }
    Answer<Status> answer;
    journal->remove(record->origin.sequence, [this, record, fulfill = answer.fulfill](const Status& status) {
      std::lock_guard lock(mutex);
      if (status.ok() && !record->gone()) {
        record->setGone(unknownJobError(record->origin.id));
        table.erase(*record);
        removals.push_back(resultFileOf(record->origin.id));
        waker->wake();
      }
      fulfill(status);
    });
    return kj::mv(answer.promise);
  }

  std::optional<Error> gone(const JobRecord& record) override {
    if (auto error = record.gone()) return error;
    int64_t expires = record.expires();
    if (expires == 0 || expires > wallClock()) return std::nullopt;
    waker->wake();
    return expiredJobError(record.origin.id, context.limits.jobResultTime);
  }

  const ComputeContext& computeContext() const override { return context; }
};

}  // namespace

Result<std::unique_ptr<Jobs>> Jobs::open(const std::string& folder, const ComputeContext& context,
                                         JournalOptions options) {
  auto journal = JobJournal::open(folder, options);
  if (!journal.ok()) return journal.error();
  auto jobs = std::make_unique<JobsImpl>(context, std::move(*journal));
  Status started = jobs->start();
  if (!started.ok()) return started.error();
  return std::unique_ptr<Jobs>(std::move(jobs));
}

}  // namespace capstan::server::compute
