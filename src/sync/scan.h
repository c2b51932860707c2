// Looks at the local folder: what is there now against what was agreed. As agreed is forgotten at once, so that memory
// goes with what differs, not with the tree.
#pragma once

#include <string>
#include <vector>

#include <capstan/base/tree-watcher.h>
#include <capstan/sync/replica.h>
#include <capstan/sync/scan-walk.h>

namespace capstan::sync {

struct ScanOptions {
  WalkOptions walk;
  const State* state = nullptr;  // its reader is used
  bool checkContent = false;     // read files that seem to be as agreed
};

// What was looked at: Look without cursor and root, and what has to be looked at again next time in any case.
struct Scanned {
  Replica::Look look;
  std::vector<TreeChange> again;
};

// Everything. Walks on a thread of its own, and compares on the calling one. Errors: corrupt, io (of the state).
Result<Scanned> scanAll(const ScanOptions& options);

// Only what was reported, with what was agreed at each of the paths (not below it). Paths in tree order, each once.
struct Report {
  TreeChange change;
  std::optional<Agreed> agreed;
};
Result<Scanned> scanReported(const ScanOptions& options, const std::vector<Report>& reports);

}  // namespace capstan::sync
