// Which jobs there are, in memory: by id, by key, by grant; the queue; what limits say about them, and whose turn it
// is. Knows neither journal nor threads.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <capstan/server/compute/computing.h>
#include <capstan/server/compute/jobs/job-journal.h>
#include <capstan/server/compute/jobs/job-record.h>

namespace capstan::server::compute {

// Not thread-safe: Jobs has a mutex for it.
class JobTable {
 public:
  using Record = std::shared_ptr<JobRecord>;

  // At which grant the jobs of a grant are counted. All shares have the same bounds, so that what an owner's share and
  // all made from it have together, held to its bounds, keeps within those of each share between.
  using PayerOf = std::function<std::string(const std::string& grant)>;

  // `limits` must outlive it. `slots`: jobs that run at the same time, of all grants together. Without `payerOf` each
  // grant is counted by itself.
  JobTable(const ComputeLimits& limits, uint32_t slots, PayerOf payerOf = {})
      : limits(limits), slots(slots), payerOf(std::move(payerOf)) {}

  // `limit` if as many jobs are queued as may be where the grant's are counted; `quota` if the input files of those
  // that have not ended would have more bytes, with as many more, than results may have.
  Status mayQueue(const std::string& grant, uint64_t inputBytes) const;
  // A job that is to be queued; when it is in the journal, enqueue() makes it known.
  void insert(Record record);
  void enqueue(Record record);
  // A queued job that will never run.
  void unqueue(const JobRecord& record);
  // One that is not to be known any more: it is kept, or it was never queued.
  void erase(const JobRecord& record);

  // The job that is to be run next, which is given a slot; null if there is none, or no slot is free. Those at which
  // jobs are counted take turns, so that nobody waits for all that others have queued before. Jobs that a
  // server died over while it was placing a file come first, and even if no slot is free: they mostly are done.
  // `onlyPlacing`: no others.
  Record startNext(bool onlyPlacing = false);
  // The slot is free again.
  void stopped(JobRecord& record);
  // The job, stopped or unqueued, has ended, durably, and is kept from now on.
  void keep(Record record);
  // Kept jobs that are beyond the limits, or past their time: to be erased.
  std::vector<Record> surplus(int64_t now) const;
  // When the next kept job will be past its time; INT64_MAX: never.
  int64_t nextExpiry() const;

  Record byKey(const std::string& grant, const std::string& key) const;
  // Acknowledged ones only.
  Record byId(std::string_view grant, std::string_view id) const;
  // Acknowledged ones with a smaller sequence number, the greatest first, `count` at most.
  std::vector<Record> before(std::string_view grant, uint64_t sequence, size_t count) const;

  void bury(JobJournal::Tombstone tombstone);
  bool isBuried(std::string_view grant, std::string_view id) const;

  uint32_t unfinished() const { return unfinishedCount; }
  // Grants with jobs that are queued or running, and those jobs, as far as they are acknowledged and not settled.
  std::vector<std::string> busyGrants() const;
  std::vector<Record> busyJobs(std::string_view grant) const;
  std::vector<Record> all() const;

 private:
  struct Grant {
    std::map<uint64_t, Record> jobs;  // by sequence
    std::map<std::string, Record> keys;
    uint32_t busy = 0;  // queued or running
  };
  // What counts for the limits.
  struct Payer {
    std::map<uint64_t, Record> queue;                     // by sequence
    std::map<std::pair<int64_t, uint64_t>, Record> kept;  // by time of end and sequence
    uint64_t keptBytes = 0;
    uint64_t inputBytes = 0;  // of those that are not kept
    uint32_t jobs = 0;
    uint32_t queued = 0;  // those that are not acknowledged yet among them
    uint32_t running = 0;
  };

  const ComputeLimits& limits;
  const uint32_t slots;
  const PayerOf payerOf;
  uint32_t running = 0;
  uint32_t unfinishedCount = 0;
  std::map<std::string, Grant, std::less<>> grants;
  std::map<std::string, Payer> payers;
  std::string lastPayer;  // whose turn was last
  std::unordered_map<std::string, Record> ids;
  std::map<uint64_t, Record> placing;  // queued, before all others
  std::deque<JobJournal::Tombstone> tombstones;
  std::unordered_map<std::string, std::string> buriedIds;  // to their grants

  std::string payerNamed(const std::string& grant) const { return payerOf ? payerOf(grant) : grant; }
  Grant& grantOf(const JobRecord& record) { return grants[record.origin.grant]; }
  Payer& payer(const JobRecord& record) { return payers[record.inTable.payer]; }
  // Takes it out of the queue, whichever it is in.
  void leaveQueue(const JobRecord& record);
  Record start(Record record);
  static uint64_t resultBytes(const JobRecord& record);
};

}  // namespace capstan::server::compute
