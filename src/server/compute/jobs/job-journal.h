// The journal of the jobs: what a later server needs to know of them, durable before anybody is told. An SQLite
// database with one writer thread, which makes one transaction of all changes that are waiting: they share a flush.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <capstan/base/error.h>
#include <capstan/server/compute/jobs/stored-job.h>

namespace capstan::server::compute {

// How long, and of how many jobs, it is remembered that they were there once.
inline constexpr int64_t TOMBSTONE_TIME = 7ll * 24 * 3600 * 1'000'000'000;
inline constexpr uint64_t MAX_TOMBSTONES = 10'000;

struct JournalOptions {
  uint64_t maxBytes = 0;  // the database never grows beyond it: noSpace; 0: the disk alone says
};

// Thread-safe.
class JobJournal {
 public:
  // `FOLDER/journal.db`. One that is damaged is moved aside (journal.db.damaged-TIME), and a new one is begun. Blocks.
  // Journals that move() brought into the folder become part of it.
  // Errors: conflict (another server uses it), unsupported (it is a later version's), noSpace, io.
  static Result<std::unique_ptr<JobJournal>> open(const std::string& folder, JournalOptions options = {});

  // For a folder that nobody uses any more. Makes one file of its journal; false if it has none. Blocks. Errors: those
  // of open(), and corrupt.
  static Result<bool> makeMovable(const std::string& folder);
  // Moves that file in one step to where the next open(to) finds it. Blocks. Errors: io.
  static Status move(const std::string& from, const std::string& to);

  // Writes what is waiting; each change has been answered when it returns.
  virtual ~JobJournal() noexcept(false) = default;

  struct Job {
    JobOrigin origin;
    std::string task;  // serialize(); empty once it has ended
    JobProgress progress;
  };
  struct Tombstone {
    std::string id;
    std::string grant;
    int64_t when = 0;
  };
  struct Contents {
    std::vector<Job> jobs;              // in the order in which they were submitted
    std::vector<Tombstone> tombstones;  // the oldest first
  };
  // What was there when it was opened; to be called once, before the first change.
  virtual Contents takeContents() = 0;

  // Changes become durable in the order in which they are made. Then, or when that failed and nothing was changed,
  // `then` is called once, on the writer's thread. Errors: noSpace, io. It may make further changes, and must not
  // block.
  using Then = std::function<void(const Status&)>;
  virtual void add(JobOrigin origin, std::string task, Then then) = 0;
  // The task of a job that has ended is removed.
  virtual void update(uint64_t sequence, JobProgress progress, Then then) = 0;
  virtual void remove(uint64_t sequence, Then then) = 0;
  // The same, but it is remembered that the job was there.
  virtual void bury(uint64_t sequence, Tombstone tombstone, Then then) = 0;

  struct Figures {
    uint64_t changes = 0;
    uint64_t transactions = 0;  // that they took
  };
  virtual Figures figures() const = 0;
};

}  // namespace capstan::server::compute
