#include <capstan/server/compute/jobs/job-table.h>

#include <algorithm>

#include <kj/debug.h>

#include <capstan/base/text.h>

namespace capstan::server::compute {

Status JobTable::mayQueue(const std::string& grant, uint64_t inputBytes) const {
  auto found = grants.find(grant);
  uint32_t queued = found == grants.end() ? 0 : found->second.queued;
  if (queued > 0 && queued >= limits.jobsQueued) {
    return Error{ErrorCode::LIMIT,
                 "there are " + std::to_string(queued) + " jobs queued, and no more than " +
                     std::to_string(limits.jobsQueued) + " may be; wait until some have ended, or cancel some",
                 {}};
  }
  uint64_t before = found == grants.end() ? 0 : found->second.inputBytes;
  uint64_t limit = limits.jobResultBytes;
  if (inputBytes == 0 || (before <= limit && inputBytes <= limit - before)) return okStatus();
  return Error{ErrorCode::QUOTA,
               "the inputs of jobs that have not ended would have more than " + formatSize(limit) +
                   "; wait until some have ended, or store the input as a file and name that, which costs nothing",
               {}};
}

void JobTable::insert(Record record) {
  auto& origin = record->origin;
  auto& grant = grants[origin.grant];
  ids[origin.id] = record;
  grant.jobs[origin.sequence] = record;
  if (!origin.key.empty()) grant.keys[origin.key] = record;
  grant.inputBytes += record->inTable.inputBytes;
  ++grant.queued;
  ++unfinishedCount;
}

void JobTable::enqueue(Record record) {
  record->inTable.acknowledged = true;
  auto& part = record->progress().placing.digest.empty() ? queue : placing;
  part[record->origin.sequence] = std::move(record);
}

void JobTable::unqueue(const JobRecord& record) {
  auto& grant = grants[record.origin.grant];
  queue.erase(record.origin.sequence);
  placing.erase(record.origin.sequence);
  --grant.queued;
  ++grant.ending;
}

void JobTable::erase(const JobRecord& record) {
  auto& origin = record.origin;
  auto found = grants.find(origin.grant);
  if (found == grants.end()) return;
  auto& grant = found->second;
  auto job = grant.jobs.find(origin.sequence);
  if (job == grant.jobs.end()) return;
  Record hold = job->second;  // `record` may be a reference into what is erased here
  grant.jobs.erase(job);
  if (grant.kept.erase({record.progress().ended, origin.sequence}) > 0) {
    grant.keptBytes -= resultBytes(record);
  } else {
    KJ_ASSERT(!hold->inTable.acknowledged);  // whatever is, ends first
    grant.inputBytes -= hold->inTable.inputBytes;
    --grant.queued;
    --unfinishedCount;
  }
  queue.erase(origin.sequence);
  placing.erase(origin.sequence);
  ids.erase(origin.id);
  auto key = grant.keys.find(origin.key);
  if (key != grant.keys.end() && key->second == hold) grant.keys.erase(key);
  if (grant.jobs.empty()) grants.erase(found);
}

JobTable::Record JobTable::startNext(bool onlyPlacing) {
  if (!placing.empty()) return start(placing.begin()->second);
  if (onlyPlacing || running >= slots) return nullptr;
  for (auto& [sequence, record] : queue) {
    if (grants[record->origin.grant].running < limits.jobsRunning) return start(record);
  }
  return nullptr;
}

JobTable::Record JobTable::start(Record record) {
  queue.erase(record->origin.sequence);
  placing.erase(record->origin.sequence);
  auto& grant = grants[record->origin.grant];
  record->inTable.running = true;
  --grant.queued;
  ++grant.running;
  ++running;
  return record;
}

void JobTable::stopped(JobRecord& record) {
  auto& grant = grants[record.origin.grant];
  record.inTable.running = false;
  --grant.running;
  --running;
  ++grant.ending;
}

uint64_t JobTable::resultBytes(const JobRecord& record) {
  auto progress = record.progress();
  return progress.state == JobState::DONE && !record.origin.output ? progress.result.bytes : 0;
}

void JobTable::keep(Record record) {
  auto& grant = grants[record->origin.grant];
  grant.inputBytes -= record->inTable.inputBytes;
  grant.keptBytes += resultBytes(*record);
  grant.kept[{record->progress().ended, record->origin.sequence}] = std::move(record);
  --grant.ending;
  --unfinishedCount;
}

std::vector<JobTable::Record> JobTable::surplus(int64_t now) const {
  std::vector<Record> found;
  for (auto& [name, grant] : grants) {
    size_t count = grant.kept.size();
    uint64_t bytes = grant.keptBytes + grant.inputBytes;
    for (auto& [place, record] : grant.kept) {
      // The latest result stays, whatever its size: it was within the limit when it was made.
      bool tooMuch = bytes > limits.jobResultBytes && count > 1;
      if (count <= limits.jobsKept && !tooMuch && record->expires() > now) break;
      found.push_back(record);
      bytes -= resultBytes(*record);
      --count;
    }
  }
  return found;
}

int64_t JobTable::nextExpiry() const {
  int64_t next = INT64_MAX;
  for (auto& [name, grant] : grants) {
    if (!grant.kept.empty()) next = std::min(next, grant.kept.begin()->second->expires());
  }
  return next;
}

JobTable::Record JobTable::byKey(const std::string& grant, const std::string& key) const {
  auto found = grants.find(grant);
  if (key.empty() || found == grants.end()) return nullptr;
  auto record = found->second.keys.find(key);
  return record == found->second.keys.end() ? nullptr : record->second;
}

JobTable::Record JobTable::byId(std::string_view grant, std::string_view id) const {
  auto found = ids.find(std::string(id));
  if (found == ids.end() || found->second->origin.grant != grant) return nullptr;
  return found->second->inTable.acknowledged ? found->second : nullptr;
}

std::vector<JobTable::Record> JobTable::before(std::string_view grant, uint64_t sequence, size_t count) const {
  std::vector<Record> found;
  auto owner = grants.find(grant);
  if (owner == grants.end()) return found;
  auto& jobs = owner->second.jobs;
  for (auto place = jobs.lower_bound(sequence); place != jobs.begin() && found.size() < count;) {
    --place;
    if (place->second->inTable.acknowledged) found.push_back(place->second);
  }
  return found;
}

void JobTable::bury(JobJournal::Tombstone tombstone) {
  buriedIds[tombstone.id] = tombstone.grant;
  int64_t oldest = tombstone.when - TOMBSTONE_TIME;
  tombstones.push_back(std::move(tombstone));
  while (tombstones.size() > MAX_TOMBSTONES || tombstones.front().when < oldest) {
    buriedIds.erase(tombstones.front().id);
    tombstones.pop_front();
  }
}

bool JobTable::isBuried(std::string_view grant, std::string_view id) const {
  auto found = buriedIds.find(std::string(id));
  return found != buriedIds.end() && found->second == grant;
}

std::vector<std::string> JobTable::busyGrants() const {
  std::vector<std::string> busy;
  for (auto& [id, grant] : grants) {
    if (grant.queued > 0 || grant.running > 0) busy.push_back(id);
  }
  return busy;
}

std::vector<JobTable::Record> JobTable::busyJobs(std::string_view grant) const {
  std::vector<Record> busy;
  auto found = grants.find(grant);
  if (found == grants.end()) return busy;
  for (auto& [sequence, record] : found->second.jobs) {
    if (record->inTable.acknowledged && !record->inTable.settled) busy.push_back(record);
  }
  return busy;
}

std::vector<JobTable::Record> JobTable::all() const {
  std::vector<Record> records;
  for (auto& [id, record] : ids) records.push_back(record);
  return records;
}

}  // namespace capstan::server::compute
