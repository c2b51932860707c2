#include <capstan/server/compute/jobs/job-record.h>

#include <algorithm>

#include <capstan/base/text.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/server/compute/jobs/jobs.h>

namespace capstan::server::compute {

JobRecord::JobRecord(JobOrigin origin, JobProgress progress, uint64_t resultTime)
    : origin(std::move(origin)), resultTime(resultTime), current(std::move(progress)) {}

JobProgress JobRecord::progress() const {
  std::lock_guard lock(mutex);
  return current;
}

int64_t JobRecord::expires() const {
  std::lock_guard lock(mutex);
  int64_t result;
  if (!hasEnded(current.state)) return 0;
  bool tooFar = __builtin_add_overflow(current.ended, resultTime, &result);
  return tooFar ? INT64_MAX : result;
}

kj::Promise<void> JobRecord::whenEnded() const {
  std::lock_guard lock(mutex);
  if (hasEnded(current.state)) return kj::READY_NOW;
  // Those who gave up waiting would add up for a job that takes long.
  auto givenUp = [](auto& waiter) { return !waiter->isWaiting(); };
  waiters.erase(std::remove_if(waiters.begin(), waiters.end(), givenUp), waiters.end());
  auto paf = kj::newPromiseAndCrossThreadFulfiller<void>();
  waiters.push_back(kj::mv(paf.fulfiller));
  return kj::mv(paf.promise);
}

std::optional<Error> JobRecord::gone() const {
  std::lock_guard lock(mutex);
  return goneError;
}

void JobRecord::publish(JobProgress progress) {
  decltype(waiters) ready;
  {
    std::lock_guard lock(mutex);
    current = std::move(progress);
    if (hasEnded(current.state)) ready.swap(waiters);
  }
  for (auto& waiter : ready) waiter->fulfill();
}

void JobRecord::setGone(Error error) {
  std::lock_guard lock(mutex);
  if (!goneError) goneError = std::move(error);
}

Error unknownJobError(std::string_view id) {
  return {ErrorCode::NOT_FOUND, "there is no job \"" + escapeForTerminal(id.substr(0, 64)) + "\"", {}};
}

Error expiredJobError(std::string_view id, uint64_t resultTime) {
  return {ErrorCode::EXPIRED,
          "the job \"" + escapeForTerminal(id) + "\" was forgotten: jobs and their results are kept for " +
              formatDuration(resultTime) + " after their end, or until later ones of the same grant push them out",
          {}};
}

namespace {

void fill(schema::ValueInfo::Builder to, const ContentInfo& info) {
  to.setType(schema::ElementType(info.type));
  to.setCount(info.count);
  to.setSingle(info.single);
  to.setEncoding(schema::Encoding(info.encoding));
  to.setBytes(info.bytes);
}

void fill(schema::Error::Builder to, const Error& error) {
  to.setCode(schema::Error::Code(error.code));
  to.setMessage(error.message.c_str());
  if (!error.path.empty()) to.setPath(rpc::asData(error.path));
}

}  // namespace

void fillJobStatus(schema::JobStatus::Builder to, const JobRecord& record) {
  auto& origin = record.origin;
  // Read before the state: what has ended is never shown with less than all of its work.
  uint64_t done = record.work.done.load(std::memory_order_relaxed);
  uint64_t total = record.work.total.load(std::memory_order_relaxed);
  JobProgress progress = record.progress();
  to.setId(origin.id.c_str());
  to.setState(schema::JobState(progress.state));
  to.setKind(schema::JobKind(origin.kind));
  to.setLabel(origin.label.c_str());
  to.setSubmitted(origin.submitted);
  to.setStarted(progress.started);
  to.setEnded(progress.ended);
  to.setExpires(record.expires());
  to.setWorkDone(progress.state == JobState::DONE ? total : done);
  to.setWorkTotal(total);
  if (progress.state == JobState::DONE) fill(to.initResult(), progress.result);
  if (progress.state == JobState::FAILED) fill(to.initError(), progress.error);
  if (origin.output) to.setOutput(rpc::asData(*origin.output));
  to.setStarts(progress.starts);
}

std::string idOf(const JobRecord& record) { return record.origin.id; }

}  // namespace capstan::server::compute
