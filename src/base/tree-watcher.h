// Notices what any program changes in a folder and below it: fanotify where the process may use it, inotify, or
// comparing what is there now and then. One thread each; knows nothing of who wants to hear of it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <capstan/base/error.h>

namespace capstan {

enum class WatchMethod : uint16_t { UNSET, FANOTIFY, INOTIFY, POLLING };  // the numbers of WatchMeans.Method
std::string_view nameOf(WatchMethod method);                              // "fanotify", ...

// Something at `path` (relative to the folder; "" is the folder itself) may be another thing than it was. `subtree`:
// at the path or anywhere below it.
struct TreeChange {
  std::string path;
  bool subtree = false;
  bool appeared = false;  // it was made there or moved there, maybe over something else
};

struct TreeChanges {
  std::vector<TreeChange> changes;  // in the order in which they were noticed, each path once
  bool overflow = false;            // more may have changed than is told: look at everything
};

class TreeWatcher {
 public:
  struct Options {
    std::string folder;
    // Folders (relative paths) that are not looked into: asked once for each, on the watcher's thread. What changes in
    // them is not told.
    std::function<bool(std::string_view path)> leaveOut;
    uint64_t pollInterval = 4'000'000'000;  // nanoseconds, for what has to be polled
    // Changes that come within this time are told together.
    uint64_t gather = 5'000'000;               // nanoseconds
    WatchMethod best = WatchMethod::FANOTIFY;  // the best method that may be used: for tests, and for --no-watch
    size_t maxWatches = SIZE_MAX;              // of inotify, for tests of a limit that is reached
  };

  // Called on the watcher's thread, one call at a time.
  using Sink = std::function<void(TreeChanges)>;

  // Begins to watch. What changes after it has returned is told, whatever happens. Blocks for as long as it takes to
  // walk the folders once (inotify, polling). Errors: notFound, notDirectory, denied.
  static Result<std::unique_ptr<TreeWatcher>> start(Options options, Sink sink);
  virtual ~TreeWatcher() noexcept(false) = default;

  // Thread-safe, as all that follows. Returns when everything that happened before this call has been given to the
  // sink; not for what is polled, unless `poll`.
  virtual void flush(bool poll = false) = 0;

  virtual WatchMethod method() const = 0;
  // Some folders could not be watched (a limit of the system), and are polled.
  virtual bool isPartial() const = 0;
};

}  // namespace capstan
