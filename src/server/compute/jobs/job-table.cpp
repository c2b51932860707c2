#include <capstan/server/compute/jobs/job-table.h>

#include <algorithm>

#include <kj/debug.h>

#include <capstan/base/text.h>

namespace capstan::server::compute {

Status JobTable::mayQueue(const std::string& grant, uint64_t inputBytes) const {
  std::string name = payerNamed(grant);
  auto found = payers.find(name);
  std::string where = name == grant ? "" : ", those of the share that this one was made from among them";
  uint32_t queued = found == payers.end() ? 0 : found->second.queued;
  if (queued > 0 && queued >= limits.jobsQueued) {
    return Error{ErrorCode::LIMIT,
                 "there are " + std::to_string(queued) + " jobs queued" + where + ", and no more than " +
                     std::to_string(limits.jobsQueued) + " may be; wait until some have ended, or cancel some",
                 {}};
  }
  uint64_t before = found == payers.end() ? 0 : found->second.inputBytes;
  uint64_t limit = limits.jobResultBytes;
  if (inputBytes == 0 || (before <= limit && inputBytes <= limit - before)) return okStatus();
  return Error{ErrorCode::QUOTA,
               "the inputs of jobs that have not ended would have more than " + formatSize(limit) + where +
                   "; wait until some have ended, or store the input as a file and name that, which costs nothing",
               {}};
}

void JobTable::insert(Record record) {
  auto& origin = record->origin;
  record->inTable.payer = payerNamed(origin.grant);
  auto& grant = grantOf(*record);
  ids[origin.id] = record;
  grant.jobs[origin.sequence] = record;
  if (!origin.key.empty()) grant.keys[origin.key] = record;
  ++grant.busy;
  auto& counted = payer(*record);
  counted.inputBytes += record->inTable.inputBytes;
  ++counted.jobs;
  ++counted.queued;
  ++unfinishedCount;
}

void JobTable::enqueue(Record record) {
  record->inTable.acknowledged = true;
  auto& part = record->progress().placing.digest.empty() ? payer(*record).queue : placing;
  part[record->origin.sequence] = std::move(record);
}

void JobTable::unqueue(const JobRecord& record) {
  leaveQueue(record);
  --payer(record).queued;
  --grantOf(record).busy;
}

void JobTable::leaveQueue(const JobRecord& record) {
  payer(record).queue.erase(record.origin.sequence);
  placing.erase(record.origin.sequence);
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
  auto& counted = payer(record);
  if (counted.kept.erase({record.progress().ended, origin.sequence}) > 0) {
    counted.keptBytes -= resultBytes(record);
  } else {
    KJ_ASSERT(!hold->inTable.acknowledged);  // whatever is, ends first
    counted.inputBytes -= hold->inTable.inputBytes;
    --counted.queued;
    --grant.busy;
    --unfinishedCount;
  }
  leaveQueue(record);
  ids.erase(origin.id);
  auto key = grant.keys.find(origin.key);
  if (key != grant.keys.end() && key->second == hold) grant.keys.erase(key);
  if (grant.jobs.empty()) grants.erase(found);
  if (--counted.jobs == 0) payers.erase(hold->inTable.payer);
}

JobTable::Record JobTable::startNext(bool onlyPlacing) {
  if (!placing.empty()) return start(placing.begin()->second);
  if (onlyPlacing || running >= slots) return nullptr;
  auto mayRun = [this](const auto& each) {
    return !each.second.queue.empty() && each.second.running < limits.jobsRunning;
  };
  // Behind the one whose turn was last, and round to it.
  auto after = payers.upper_bound(lastPayer);
  auto next = std::find_if(after, payers.end(), mayRun);
  if (next == payers.end()) {
    next = std::find_if(payers.begin(), after, mayRun);
    if (next == after) return nullptr;
  }
  lastPayer = next->first;
  return start(next->second.queue.begin()->second);
}

JobTable::Record JobTable::start(Record record) {
  leaveQueue(*record);
  auto& counted = payer(*record);
  record->inTable.running = true;
  --counted.queued;
  ++counted.running;
  ++running;
  return record;
}

void JobTable::stopped(JobRecord& record) {
  record.inTable.running = false;
  --payer(record).running;
  --grantOf(record).busy;
  --running;
}

uint64_t JobTable::resultBytes(const JobRecord& record) {
  auto progress = record.progress();
  return progress.state == JobState::DONE && !record.origin.output ? progress.result.bytes : 0;
}

void JobTable::keep(Record record) {
  auto& counted = payer(*record);
  counted.inputBytes -= record->inTable.inputBytes;
  counted.keptBytes += resultBytes(*record);
  counted.kept[{record->progress().ended, record->origin.sequence}] = std::move(record);
  --unfinishedCount;
}

std::vector<JobTable::Record> JobTable::surplus(int64_t now) const {
  std::vector<Record> found;
  for (auto& [name, payer] : payers) {
    size_t count = payer.kept.size();
    uint64_t bytes = payer.keptBytes + payer.inputBytes;
    for (auto& [place, record] : payer.kept) {
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
  for (auto& [name, payer] : payers) {
    if (!payer.kept.empty()) next = std::min(next, payer.kept.begin()->second->expires());
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
    if (grant.busy > 0) busy.push_back(id);
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
