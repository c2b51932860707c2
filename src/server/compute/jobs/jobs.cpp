#include <capstan/server/compute/jobs/jobs-impl.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include <kj/debug.h>

#include <capstan/base/digest.h>
#include <capstan/base/text.h>
#include <capstan/server/access/grants.h>
#include <capstan/server/compute/jobs/compute-folder.h>

namespace capstan::server::compute {

namespace {

constexpr size_t ID_BYTES = 10;  // random ones, as 20 hexadecimal digits
// It has threads for as many long computations as there are processors, about.
constexpr uint32_t LEAST_SLOTS = 2;

Error drainingError() {
  return {ErrorCode::SHUTTING_DOWN, "the server is going away and takes no new jobs; try again later", {}};
}

// The owner's share that the grant is, or was made from; the owner's own, and those that nobody knows any more, count
// by themselves.
std::string topmostOf(const Grants* grants, const std::string& id) {
  auto found = grants == nullptr ? nullptr : grants->find(id);
  if (found == nullptr) return id;
  const Grant* each = found.get();
  while (!each->isOwner() && !each->parent->isOwner()) each = each->parent.get();
  return each->id;
}

std::string cursorOf(uint64_t sequence) {
  std::string cursor(sizeof(sequence), '\0');
  memcpy(cursor.data(), &sequence, sizeof(sequence));
  return cursor;
}

}  // namespace

JobsImpl::JobsImpl(const ComputeContext& context, std::unique_ptr<JobJournal> opened)
    : context(context),
      table(this->context.limits, std::max(LEAST_SLOTS, std::thread::hardware_concurrency()),
            [grants = context.grants](const std::string& grant) { return topmostOf(grants.get(), grant); }),
      journal(std::move(opened)) {}

JobsImpl::~JobsImpl() noexcept(false) {
  loop = nullptr;
  journal = nullptr;  // what waits in it is written, and answered here
}

// ---- Jobs

std::string JobsImpl::newInputName() { return toHex(randomBytes(ID_BYTES)) + std::string(INPUT_MARK) + "1"; }

kj::Promise<Result<Record>> JobsImpl::submit(std::string grant, StoredTask task, std::string key) {
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

void JobsImpl::removeInput(std::string name) {
  std::lock_guard lock(mutex);
  removals.push_back(std::move(name));
  waker->wake();
}

Record JobsImpl::known(const std::string& grant, const std::string& key) {
  std::lock_guard lock(mutex);
  Record record = table.byKey(grant, key);
  return record != nullptr && record->inTable.acknowledged && !gone(*record) ? record : nullptr;
}

Result<Record> JobsImpl::find(std::string_view grant, std::string_view id) {
  std::lock_guard lock(mutex);
  Record record = table.byId(grant, id);
  if (record != nullptr) {
    if (auto error = gone(*record)) return *error;
    return record;
  }
  if (table.isBuried(grant, id)) return expiredJobError(id, context.limits.jobResultTime);
  return unknownJobError(id);
}

Jobs::Page JobsImpl::list(std::string_view grant, std::string_view cursor, uint32_t maxEntries) {
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

uint32_t JobsImpl::unfinished() const {
  std::lock_guard lock(mutex);
  return table.unfinished();
}

void JobsImpl::endJobs() {
  std::lock_guard lock(mutex);
  endUngranted();
  waker->wake();
}

schema::Job::Client JobsImpl::newJob(kj::Own<Access> access, Record record, kj::Timer& timer, NewValue newValue) {
  return newGuarded<JobServer>(kj::mv(access), *this, kj::mv(record), timer, std::move(newValue));
}

// ---- submitting

kj::Promise<Result<Record>> JobsImpl::add(const Submission& submission) {
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

Record JobsImpl::newRecord(const Submission& submission) {
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

void JobsImpl::whenAcknowledged(const Record& record, std::function<void(Result<Record>)> then) {
  if (record->inTable.acknowledged) return then(record);
  // Weak, since the function is the record's own.
  record->inTable.whenAcknowledged.push_back([self = std::weak_ptr(record), then](const Status& status) {
    then(status.ok() ? Result<Record>(self.lock()) : status.error());
  });
}

void JobsImpl::acknowledge(const Record& record, const Status& status) {
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

// ---- JobControl

void JobsImpl::cancel(Record record) {
  std::lock_guard lock(mutex);
  stop(record, JobState::CANCELLED, {});
}

void JobsImpl::stop(const Record& record, JobState state, Error error) {
  if (record->inTable.settled) return;
  record->cancelled = true;
  // A server that died over it may have placed its file: then it is done, and whoever runs it will see.
  if (record->inTable.running || !record->progress().placing.digest.empty()) return waker->wake();
  table.unqueue(*record);
  settle(record, state, std::move(error));
}

kj::Promise<Status> JobsImpl::forget(Record record) {
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

std::optional<Error> JobsImpl::gone(const JobRecord& record) {
  if (auto error = record.gone()) return error;
  int64_t expires = record.expires();
  if (expires == 0 || expires > wallClock()) return std::nullopt;
  waker->wake();
  return expiredJobError(record.origin.id, context.limits.jobResultTime);
}

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
