#include <capstan/server/compute/jobs/jobs-impl.h>

#include <algorithm>

#include <capstan/base/log.h>
#include <capstan/server/access/grants.h>

namespace capstan::server::compute {

namespace {

// Until a change is written again that the journal could not take.
constexpr int64_t RETRY_DELAY = 500'000'000;

}  // namespace

// ---- running: on the loop's thread

Record JobsImpl::startNext() {
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
kj::Promise<void> JobsImpl::noteStart(Record record) {
  Answer<Status> answer;
  bool waits = record->inTable.adopted;
  journal->update(record->origin.sequence, record->progress(), answer.fulfill);
  if (!waits) return kj::READY_NOW;
  // With a full disk it is begun all the same.
  return answer.promise.ignoreResult();
}

std::shared_ptr<const StoredTask> JobsImpl::taskOf(const JobRecord& record) {
  std::lock_guard lock(mutex);
  return record.inTable.task;
}

kj::Promise<Status> JobsImpl::notePlacing(Record record, Placing placing, ContentInfo result) {
  Answer<Status> answer;
  std::lock_guard lock(mutex);
  auto progress = record->progress();
  progress.placing = std::move(placing);
  progress.result = result;
  record->publish(progress);
  journal->update(record->origin.sequence, std::move(progress), answer.fulfill);
  return kj::mv(answer.promise);
}

void JobsImpl::ended(Record record, Result<JobResult> result, bool abandoned) {
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

void JobsImpl::settle(const Record& record, JobState state, Error error) {
  settle(record, state, std::move(error), record->progress());
}

void JobsImpl::settle(const Record& record, JobState state, Error error, JobProgress progress) {
  record->inTable.settled = true;
  progress.state = state;
  progress.ended = wallClock();
  progress.error = std::move(error);
  writeEnd(record, std::make_shared<const JobProgress>(std::move(progress)));
}

void JobsImpl::writeEnd(const Record& record, std::shared_ptr<const JobProgress> progress) {
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

void JobsImpl::tryAgain(const Status& status, std::function<void()> again) {
  if (retries.empty()) {
    log::warning(status.error().message.c_str(), "; it is tried again");
    retryAt = wallClock() + RETRY_DELAY;
  }
  retries.push_back(std::move(again));
  waker->wake();
}

// ---- housekeeping: on the loop's thread

int64_t JobsImpl::lookAfter() {
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

void JobsImpl::bury(const Record& record) {
  JobJournal::Tombstone tombstone{record->origin.id, record->origin.grant, wallClock()};
  record->setGone(expiredJobError(record->origin.id, context.limits.jobResultTime));
  table.erase(*record);
  table.bury(tombstone);
  removals.push_back(resultFileOf(record->origin.id));
  writeTombstone(record->origin.sequence, tombstone);
}

void JobsImpl::writeTombstone(uint64_t sequence, const JobJournal::Tombstone& tombstone) {
  journal->bury(sequence, tombstone, [this, sequence, tombstone](const Status& status) {
    if (status.ok()) return;
    std::lock_guard lock(mutex);
    tryAgain(status, [this, sequence, tombstone]() { writeTombstone(sequence, tombstone); });
  });
}

std::vector<std::string> JobsImpl::takeRemovals() {
  std::lock_guard lock(mutex);
  std::vector<std::string> taken;
  taken.swap(removals);
  return taken;
}

// ---- grants that end: with the mutex held

int64_t JobsImpl::endUngranted() {
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

}  // namespace capstan::server::compute
