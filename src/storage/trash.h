// What runs have displaced (overwritten or removed), kept for a while so that a run can be undone:
// `.capstan/trash/RUN/`, plain files under the paths that they had, and a journal of what the run did.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <capstan/base/entry.h>
#include <capstan/base/error.h>

namespace capstan::storage {

class Mutation;
class Root;
class Run;  // run.h: one that is under way, shared by its batches; it takes in what they displace
class Staging;

struct TrashLimits {
  uint64_t time = 7ull * 24 * 3600 * 1'000'000'000;  // nanoseconds
  double share = 0.1;                                // of the disk's size
};

// Who has begun a run, and for what part of the tree: on record in its journal. Also who asks, and for what part: then
// it is the runs of theirs, and of those who have it from them, that lie at or below this part; paths are relative to
// it. The default is the owner of everything.
struct RunScope {
  std::string holder;  // ids joined by '/', each of somebody who has it from the one before; empty: the owner
  std::string top;     // path from the served folder; the run changes nothing but what is there and below

  bool sees(const RunScope& run) const;
  // Whether what is begun in this scope may be added to that run.
  bool mayAddTo(const RunScope& run) const;
};

// How much the runs of one holder, and of those who have it from them, may keep, journals included; counted as in
// usage.h. When they would keep more, the oldest of them go first. The latest may keep more by itself, of what was
// there before it began; what would go beyond that in another way is refused (`quota`).
struct TrashBound {
  std::string holder;  // as in RunScope
  uint64_t bytes = 0;
  uint64_t before = 0;  // what the holder's part of the tree held when the run was begun
  std::string label;    // of the holder, in errors
};

struct RunInfo {
  std::string id;  // 16 bytes
  std::string label;
  std::string client;
  int64_t began = 0;  // nanoseconds since the epoch
  int64_t ended = 0;
  uint64_t created = 0, replaced = 0, removed = 0, moved = 0;
  uint64_t bytes = 0;
  bool canUndo = false;
  std::string undoneBy;
  RunScope scope;
};

struct TrashedItem {
  std::string run;
  Entry entry;
  int64_t displaced = 0;
};

// Thread-safe; all methods block. Root and Staging must outlive it.
class Trash {
 public:
  static Result<std::unique_ptr<Trash>> open(const Root& root, Staging& staging, TrashLimits limits);
  virtual ~Trash() noexcept(false) = default;

  // The run with this id, or a new one (`id` empty). Nothing is written before something is displaced or done. One that
  // was begun by somebody else, or elsewhere, is notFound. The bounds are held as long as something comes into the run.
  virtual Result<std::shared_ptr<Run>> begin(std::string id, std::string label, std::string client, RunScope scope = {},
                                             std::vector<TrashBound> bounds = {}) = 0;

  virtual Result<std::vector<RunInfo>> runs(const RunScope& scope = {}) = 0;  // the latest first
  // What the run (empty: any) displaced at or below the path, after `cursor`, at most `max`.
  struct Page {
    std::vector<TrashedItem> items;
    std::string cursor;
    bool atEnd = false;
  };
  virtual Result<Page> list(const std::string& run, const std::string& path, const std::string& cursor, size_t max,
                            const RunScope& scope = {}) = 0;

  // The mutations that take back what a run did, the last first, to be submitted as a batch of the run `under`. They,
  // and that of restore(), are for a Round whose root is the scope's top.
  virtual Result<std::vector<std::unique_ptr<Mutation>>> undo(const std::string& run, std::shared_ptr<Run> under,
                                                              const RunScope& scope = {}) = 0;
  virtual Result<std::unique_ptr<Mutation>> restore(const std::string& run, const std::string& path,
                                                    const std::string& to, const RunScope& scope = {}) = 0;

  // Deletes what is older than this many nanoseconds, and keeps the limits. Answers how many bytes were freed.
  virtual Result<uint64_t> empty(uint64_t olderThan) = 0;
  // Keeps the limits; called at open, after batches and hourly.
  virtual void sweep() = 0;
  virtual uint64_t bytes() const = 0;

  // What methods answer that would have to measure for long what runs keep, which the trash's own thread does then.
  // The answer to a call after the next look of that thread does not depend on one any more.
  static Error beingLookedAt();
  static bool isBeingLookedAt(const Error& error);
  // Has that thread look soon, and calls this then, on that thread; at once after stop(). Does not block.
  virtual void whenLooked(std::function<void()> then) = 0;
  // Ends what takes long soon; to be called before the destruction, where that must not last. Does not block.
  virtual void stop() = 0;
};

}  // namespace capstan::storage
