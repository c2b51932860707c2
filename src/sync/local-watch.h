// What a watcher has told of the local folder since the last look, and who waits for it.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <kj/async.h>

#include <capstan/base/tree-watcher.h>
#include <capstan/sync/node.h>

namespace capstan::sync {

// Thread-safe. The watcher's thread tells, the loop takes.
class LocalReports {
 public:
  void tell(TreeChanges changes);

  struct Taken {
    ByPath<bool> paths;  // each with whether everything below it is meant
    bool overflow = false;
  };
  Taken take();
  // Resolves, on the calling event loop, as soon as there is something to take.
  kj::Promise<void> onReport();

 private:
  using Fulfiller = kj::Own<kj::CrossThreadPromiseFulfiller<void>>;
  std::mutex mutex;
  // protected by mutex
  Taken pending;
  std::vector<Fulfiller> waiting;
};

// Adds a path that has to be looked at.
void addReport(ByPath<bool>& paths, const std::string& path, bool subtree);

}  // namespace capstan::sync
