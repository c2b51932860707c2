// One job as this process knows it: shared by the table, by the run that works on it, and by the capabilities for it.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include <kj/async.h>

#include <capstan/server/compute/jobs/stored-job.h>
#include <capstan/server/compute/work.h>

namespace capstan::server::compute {

// Thread-safe, but for what says otherwise.
class JobRecord {
 public:
  JobRecord(JobOrigin origin, JobProgress progress, uint64_t resultTime);
  KJ_DISALLOW_COPY(JobRecord);

  const JobOrigin origin;
  Work work;
  std::atomic<bool> cancelled{false};  // somebody wants it to be

  // What is known to be durable, save that `running` is told at once.
  JobProgress progress() const;
  bool ended() const { return hasEnded(progress().state); }
  // When it is forgotten; 0: it has not ended.
  int64_t expires() const;

  // Resolves on the calling event loop when the job has ended.
  kj::Promise<void> whenEnded() const;

  // Why there is nothing more to be known of it: notFound or expired; nothing as long as it is kept.
  std::optional<Error> gone() const;

  // For the table and the run alone.
  void publish(JobProgress progress);
  void setGone(Error error);

  // Of the table; protected by its mutex.
  struct InTable {
    std::shared_ptr<const StoredTask> task;  // until it has ended
    uint64_t inputBytes = 0;                 // of its input files
    std::string payer;                       // at which it is counted; set by insert()
    bool acknowledged = false;               // it is in the journal
    bool adopted = false;                    // of an earlier server
    bool running = false;                    // it has a slot
    bool settled = false;                    // how it ends is decided, if not yet durable
    std::optional<Error> grantEnded;         // it fails for that
    std::vector<std::function<void(const Status&)>> whenAcknowledged;
  } inTable;

 private:
  const uint64_t resultTime;

  mutable std::mutex mutex;
  // protected by mutex
  JobProgress current;
  std::optional<Error> goneError;
  mutable std::vector<kj::Own<kj::CrossThreadPromiseFulfiller<void>>> waiters;
};

Error unknownJobError(std::string_view id);
// `resultTime` in nanoseconds.
Error expiredJobError(std::string_view id, uint64_t resultTime);

}  // namespace capstan::server::compute
