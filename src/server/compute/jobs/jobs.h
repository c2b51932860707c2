// The jobs of one server: journaled before they are acknowledged, run some at a time, kept for a day after their end.
// The journal is an SQLite database in the compute folder, written by a thread of its own which shares one flush among
// all changes that are waiting. Jobs run on the pools; one event loop of their own stores what they give as files.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <kj/async.h>
#include <kj/timer.h>

#include <capstan/base/error.h>
#include <capstan/schema/compute.capnp.h>
#include <capstan/server/compute/computing.h>
#include <capstan/server/compute/jobs/job-journal.h>
#include <capstan/server/compute/jobs/stored-job.h>
#include <capstan/server/compute/jobs/stored-task.h>

namespace capstan::server::compute {

// One job, shared by the table and the capabilities for it. Thread-safe.
class JobRecord;

// Thread-safe. Promises are for the calling loop. Destroying it stops running jobs, which the next server begins again.
class Jobs {
 public:
  // `folder`: where the journal is; the context's spool is in the same. Blocks. Adopts what is there: queued and
  // running jobs are queued, in the order in which they were submitted; files that belong to no job are removed.
  // Errors: those of JobJournal::open, io.
  static Result<std::unique_ptr<Jobs>> open(const std::string& folder, const ComputeContext& context,
                                            JournalOptions options = {});
  virtual ~Jobs() noexcept(false) = default;

  // A name for an InputFile that is to become part of a task.
  virtual std::string newInputName() = 0;
  // For one that exists and does not become part of a task after all. Does not wait.
  virtual void removeInput(std::string name) = 0;

  // Resolves when the job is durable. Takes over the input files of `task`, which are removed if it is refused, if the
  // key is known already, or if the promise is dropped too early. Errors as Compute.submit has them.
  virtual kj::Promise<Result<std::shared_ptr<JobRecord>>> submit(std::string grant, StoredTask task,
                                                                 std::string idempotencyKey) = 0;
  // The acknowledged job with this key, if there is one; null for an empty key. At once.
  virtual std::shared_ptr<JobRecord> known(const std::string& grant, const std::string& key) = 0;
  // At once. Errors: notFound, expired.
  virtual Result<std::shared_ptr<JobRecord>> find(std::string_view grant, std::string_view id) = 0;

  struct Page {
    std::vector<std::shared_ptr<JobRecord>> jobs;
    std::string cursor;
    bool atEnd = false;
  };
  // The latest first. `maxEntries` 0: as many as a listing of files has at most, which is the limit in any case. A
  // cursor that list() did not make gives an empty page.
  virtual Page list(std::string_view grant, std::string_view cursor, uint32_t maxEntries) = 0;

  virtual uint32_t unfinished() const = 0;  // queued or running
  virtual JobJournal::Figures journalFigures() const = 0;
  // As Computing::endJobs().
  virtual void endJobs() = 0;
  // submit() answers shuttingDown, and no queued job is started any more.
  virtual void beginDrain() = 0;

  // How a result becomes a Value of the connection that asks.
  struct NewValue {
    std::function<std::optional<Error>()> refusal;  // why the connection may hold no further value, if so
    std::function<schema::Value::Client(std::shared_ptr<const Content>)> make;
  };
  // The capability for a job. `newValue` is kept as long as it. The Jobs must outlive it.
  virtual schema::Job::Client newJob(kj::Own<Access> access, std::shared_ptr<JobRecord> record, kj::Timer& timer,
                                     NewValue newValue) = 0;
};

// Of one job, as it is now.
void fillJobStatus(schema::JobStatus::Builder to, const JobRecord& record);
std::string idOf(const JobRecord& record);

}  // namespace capstan::server::compute
