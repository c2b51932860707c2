// Quotas of shares: how much the files below a share's path may hold, and its runs in the trash. What is there is
// measured, remembered, and kept up to date with what is brought; measured anew before something is refused.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <kj/async.h>
#include <kj/io.h>

#include <capstan/base/error.h>
#include <capstan/server/access/grant.h>
#include <capstan/server/files/measuring-threads.h>
#include <capstan/server/files/storage.h>
#include <capstan/storage/root.h>
#include <capstan/storage/trash.h>
#include <capstan/storage/usage.h>

namespace capstan::server::files {

// What the files in one folder hold. Whoever needs it measured anew does a slice of that; what would take longer goes
// on on the threads for it, once for all who need it, and nobody waits for them on another thread. Thread-safe.
class Usage final : public std::enable_shared_from_this<Usage> {
 public:
  Usage(const Root& served, std::string path, std::shared_ptr<MeasuringThreads> measuring)
      : served(served), path(std::move(path)), measuring(std::move(measuring)) {}
  KJ_DISALLOW_COPY(Usage);

  const std::string& folder() const { return path; }

  // Measures if that was not done yet, if it is long ago, or if `wanted` more bytes would go beyond the bound and the
  // last time is more than REMEASURE_TIME ago. Error: storage::beingMeasured(). Blocks for a slice.
  Status prepare(uint64_t wanted, uint64_t bound);
  // Measures if that was not done in the last REMEASURE_TIME; the same otherwise.
  Status refresh();
  // Resolves when nobody measures; called on a loop.
  kj::Promise<void> whenMeasured();
  // As it was last measured, with what came and went since.
  uint64_t bytes() const;
  void add(int64_t growth);

 private:
  using Clock = std::chrono::steady_clock;
  using Waiter = kj::Own<kj::CrossThreadPromiseFulfiller<void>>;

  // What is under way; used by one thread after the other.
  struct Measurement {
    Clock::time_point begin = Clock::now();
    kj::AutoCloseFd folder;
    std::optional<storage::ContentWalk> walk;
  };

  const Root& served;
  const std::string path;
  const std::shared_ptr<MeasuringThreads> measuring;

  // protected by mutex
  mutable std::mutex mutex;
  bool known = false;
  int64_t total = 0;
  int64_t meanwhile = 0;  // what came while it was being measured, and may have been counted or not
  Clock::time_point measured;
  Clock::duration took{};
  std::shared_ptr<Measurement> current;  // null: nobody measures
  std::vector<Waiter> waiters;
  size_t waitersToLookAt = 64;  // when there are so many, those are dropped who do not wait any more

  // These under the mutex.
  bool isDue(uint64_t wanted, uint64_t bound) const;
  bool isOlderThan(Clock::duration age) const;
  // Measures, unless somebody does; `lock` holds the mutex, and is let go.
  Status measure(std::unique_lock<std::mutex> lock);
  // A slice; true when done.
  bool goOn(Measurement& measurement);
  // With what was found, if it came to an end.
  void finish(const Measurement& measurement, std::optional<uint64_t> found);
};

// As storage::RunScope has it: "" for the owner, "A/B" for B that was made from A.
std::string holderOf(const Grant& grant);

// One bound that holds for a grant: its own, or that of one that it was made from. Thread-safe.
class Quota {
 public:
  Quota(std::shared_ptr<Usage> usage, uint64_t bound, std::string label, std::string holder)
      : usage(std::move(usage)), bound(bound), label(std::move(label)), holder(std::move(holder)) {}

  Status prepare(uint64_t wanted) const { return usage->prepare(wanted, bound); }
  kj::Promise<void> whenMeasured() const { return usage->whenMeasured(); }
  // The error (`quota`) names the share and the bound.
  Status check(int64_t growth) const;
  // The same for so much by itself.
  Status checkAlone(uint64_t bytes) const;
  void add(int64_t growth) const { usage->add(growth); }
  // The same once more for what runs have displaced, as it is for one that begins now. Error: as of Usage::refresh().
  Result<storage::TrashBound> ofTrash() const;

 private:
  std::shared_ptr<Usage> usage;
  uint64_t bound;
  std::string label;
  std::string holder;
};

// All of one served folder. Thread-safe.
class Quotas {
 public:
  explicit Quotas(const Root& served) : served(served) {}
  // What is not measured by then never is.
  ~Quotas() { measuring->end(); }
  KJ_DISALLOW_COPY(Quotas);

  // Those that hold for the grant; the root must outlive them.
  std::vector<Quota> of(const Grant& grant);
  // What was last measured of a folder that some quota is for; 0: it was not.
  uint64_t stored(const std::string& path) const;
  MeasuringThreads& threads() { return *measuring; }

 private:
  const Root& served;
  const std::shared_ptr<MeasuringThreads> measuring = std::make_shared<MeasuringThreads>();
  mutable std::mutex mutex;
  // By path; protected by mutex. Kept, so that whoever comes again and again does not have it measured each time.
  std::map<std::string, std::shared_ptr<Usage>> usages;

  std::shared_ptr<Usage> usageOf(const std::string& path);
};

}  // namespace capstan::server::files
