// Where the journal's changes come from: the committer, and a tree watcher for what other programs do. What the watcher
// sees of the server's own changes is recognised, so that each is told once, and as what it was.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include <capstan/base/tree-watcher.h>
#include <capstan/server/files/catch-up.h>
#include <capstan/server/files/change-journal.h>
#include <capstan/storage/committer.h>
#include <capstan/storage/root.h>

namespace capstan::server::files {

// Thread-safe. Must outlive the committer, which calls it.
class Noticing {
 public:
  // `folder`: as a path, for the watcher. Before the committer's first mutation. `keepTime`: nanoseconds for which the
  // watcher runs on after nobody is interested any more.
  Noticing(std::string folder, const storage::Root& root, storage::Committer& committer, uint64_t keepTime,
           ChangeJournal::Options remembered = {});
  ~Noticing() noexcept(false);
  KJ_DISALLOW_COPY(Noticing);

  ChangeJournal journal;
  CatchUps catchUps;

  // Starts the watcher if there is none (any more), and returns when all that happened before this call is in the
  // journal. Blocks. Errors: notFound, denied.
  Status catchUp();

  // As long as one of these lives the watcher is not stopped. Must not outlive this object.
  class Interest {
   public:
    explicit Interest(Noticing& noticing);
    Interest(Interest&& other) : noticing(std::exchange(other.noticing, nullptr)) {}
    ~Interest();

   private:
    Noticing* noticing;
  };

  // Ends the watching, and asks the committer nothing more: before that is destroyed.
  void stop();

  struct Means {
    WatchMethod method = WatchMethod::UNSET;  // UNSET: nobody has watched yet
    bool partly = false;
    uint64_t interval = 0;  // nanoseconds
  };
  Means means() const;

 private:
  // What the server itself did last at a path.
  struct Own {
    std::string version;  // empty with `gone`
    bool gone = false;
    bool moved = false;
    bool whole = false;   // it came with all that is below it
    uint64_t inode = 0;   // of a folder, whose version says little; 0: not known
    uint64_t number = 0;  // which are the later ones
  };

  Status startWatcher();  // with the lock on `starting`
  // The keeper: ends the watcher when nobody has been interested for long.
  void keepUntilIdle();
  void endIdleWatcher();
  bool isIdle() const;  // with the lock on `keeping`

  void applied(const storage::Committer::Applied& change);
  void remember(const std::string& path, Own own);  // with the mutex
  void noticed(TreeChanges changes);
  void look(const TreeChange& change, std::vector<Change>& result);
  // What is at the path that exists.
  void lookAt(const TreeChange& change, const struct stat& status, uint64_t until, std::vector<Change>& result);
  bool isOwnRemoval(std::string_view path) const;
  // What is on the disk contradicts removals of ours, at the path and above it; with the mutex. `until`: only those
  // that were known when the disk was looked at.
  void forgetRemovals(std::string_view path, uint64_t until);
  void tellSubtree(const std::string& path, std::vector<Change>& result);
  // False: not all of it could be looked at.
  bool expand(const std::string& folder, std::vector<Change>& result, size_t& budget);

  const std::string folder;
  const storage::Root& root;
  const std::chrono::nanoseconds keepTime;

  std::mutex asking;
  storage::Committer* committer;  // protected by asking; null once stopped

  // protected by mutex
  mutable std::mutex mutex;
  std::unordered_map<std::string, Own> own;
  std::deque<std::pair<uint64_t, std::string>> ownOrder;
  uint64_t ownCount = 0;
  bool watches = false;

  // protected by starting
  mutable std::mutex starting;
  std::shared_ptr<TreeWatcher> watcher;  // held by those who flush it too
  bool stopped = false;
  bool stoppedBefore = false;  // there was a watcher, and time has passed without one
  std::thread keeper;          // runs from the first watcher on

  // protected by keeping, which is taken last
  std::mutex keeping;
  std::condition_variable wakeKeeper;
  size_t interests = 0;
  std::chrono::steady_clock::time_point lastInterest;
  bool keepsWatcher = false;
  bool ending = false;
};

}  // namespace capstan::server::files
