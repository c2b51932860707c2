// The trash behind its interface: the runs' folders, what is known of them, and the thread that keeps the limits.
// Internal; trash.cpp keeps runs, trash-look.cpp knows what they keep, trash-bounds.cpp bounds those of shares,
// trash-list.cpp and trash-undo.cpp read them.
#pragma once

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include <capstan/storage/trash-journal.h>
#include <capstan/storage/trash-ledger.h>
#include <capstan/storage/trash-run.h>
#include <capstan/storage/trash.h>
#include <capstan/storage/usage.h>

namespace capstan::storage {

// A run's folder, opened for looking at it.
struct OpenRun {
  kj::AutoCloseFd folder, files, journal;
  std::vector<RunRecord> records;
};

class TrashImpl final : public Trash {
 public:
  TrashImpl(const Root& root, Staging& staging, TrashLimits limits, kj::AutoCloseFd folder);
  ~TrashImpl() noexcept(false);

  Result<std::shared_ptr<Run>> begin(std::string id, std::string label, std::string client, RunScope scope,
                                     std::vector<TrashBound> bounds) override;
  Result<std::vector<RunInfo>> runs(const RunScope& scope) override;
  Result<Page> list(const std::string& run, const std::string& path, const std::string& cursor, size_t max,
                    const RunScope& scope) override;
  Result<std::vector<std::unique_ptr<Mutation>>> undo(const std::string& run, std::shared_ptr<Run> under,
                                                      const RunScope& scope) override;
  Result<std::unique_ptr<Mutation>> restore(const std::string& run, const std::string& path, const std::string& to,
                                            const RunScope& scope) override;
  Result<uint64_t> empty(uint64_t olderThan) override;
  void sweep() override;
  uint64_t bytes() const override { return held.load(std::memory_order_relaxed); }
  void whenLooked(std::function<void()> then) override;
  void stop() override;

  // On the trash's own thread.
  void sweepSoon();
  // Puts right what a crash left in runs that nobody is adding to.
  void settle();

 private:
  // What is known of a run as long as its folder does not change.
  struct Known {
    uint64_t journalBytes = 0;
    int64_t filesChanged = 0;
    RunInfo info;
    bool isMeasured = false;   // as it is now
    bool wasMeasured = false;  // if not before too
  };
  // How far a look goes.
  struct Looking {
    bool sizes = true;
    bool ownersToo = true;  // their sizes
    bool isPatient = false;
    size_t budget = ContentWalk::SLICE;  // of things that are measured; what is patient gets more
    bool isWhole = true;                 // what it comes to: no size is missing
  };

  std::vector<std::string> folders() const;
  // Of a run that the scope sees.
  Result<OpenRun> openRun(const std::string& name, const RunScope& scope = {}) const;
  Result<RunInfo> infoOf(const std::string& name, const RunScope& scope, Looking& looking);
  Status readInfo(const std::string& name, RunInfo& info) const;
  std::vector<RunInfo> look(const RunScope& scope, Looking& looking);
  bool finish(ContentWalk& walk, Looking& looking) const;
  // The runs to be looked into: the one with the id, or all, the latest first, as names of folders.
  Result<std::vector<std::string>> select(const std::string& run, const RunScope& scope);
  // Deletes the run soon, unless somebody is adding to it. Answers whether it did.
  bool drop(const std::string& name);
  void work();

  void bind(RunFolder::Options& options, std::vector<TrashBound> bounds);
  // Whether this may come into the run, for which others may have to go: on the committer's thread. A drop is a rename.
  Status admit(const TrashLedger::Run& run, const std::vector<TrashBound>& bounds, const Arrival& arrival);
  // Drops runs that are bound, save that one, until so much has room: the oldest first, but those of the holder who
  // needs the room before those of whom it has it from. Answers whether there is room now.
  bool dropOldest(const TrashBound& bound, std::string holder, uint64_t wanted, const std::string& except);
  bool isKept(const std::string& name) const { return faccessat(trash, name.c_str(), F_OK, 0) == 0; }
  // After a look at the disk.
  void keepBounds();
  void forgetGone();
  Status lookOnce();

  // constant after construction
  const Root& root;
  Staging& staging;
  const TrashLimits limits;
  const kj::AutoCloseFd trash;
  bool exchanges = false;
  std::atomic<uint64_t> held{0};
  TrashLedger ledger;
  std::atomic<bool> looked{false};  // what earlier processes have left is in the ledger
  std::atomic<bool> ending{false};  // set under the mutex

  // protected by mutex
  std::mutex mutex;
  std::condition_variable wakeUp;
  std::condition_variable opened;
  std::set<std::string> opening;  // ids of runs that are being opened, which may have to wait for their locks
  std::map<std::string, std::weak_ptr<RunFolder>> active;  // by id
  std::map<std::string, Known> known;                      // by name
  bool due = false;                                        // something has come into the trash
  std::vector<std::function<void()>> waiting;              // for the next look
  std::thread thread;
};

}  // namespace capstan::storage
