#include <capstan/server/compute/jobs/jobs-impl.h>

#include <algorithm>
#include <set>

#include <capstan/server/compute/jobs/compute-folder.h>

namespace capstan::server::compute {

namespace {

Error deadlyError(uint32_t deaths) {
  return {ErrorCode::IO,
          "the server ended " + std::to_string(deaths) +
              " times while it ran this job, without being asked to, perhaps because the job needs more memory than "
              "there is; it is not begun again",
          {}};
}

}  // namespace

Status JobsImpl::start() {
  adopt(journal->takeContents());
  Status cleaned = removeStrays();
  if (!cleaned.ok()) return cleaned;
  loop = std::make_unique<JobLoop>(*this, context, waker);
  return okStatus();
}

void JobsImpl::adopt(JobJournal::Contents contents) {
  std::lock_guard lock(mutex);
  for (auto& tombstone : contents.tombstones) table.bury(std::move(tombstone));
  for (auto& job : contents.jobs) adopt(std::move(job));
}

void JobsImpl::adopt(JobJournal::Job job) {
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

Status JobsImpl::removeStrays() {
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

}  // namespace capstan::server::compute
