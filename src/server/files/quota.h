// Quotas of shares: how much the files below a share's path may hold, and its runs in the trash. What is there is
// measured, remembered, and kept up to date with what is brought; measured anew before something is refused.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <capstan/base/error.h>
#include <capstan/server/access/grant.h>
#include <capstan/server/files/storage.h>
#include <capstan/storage/root.h>
#include <capstan/storage/trash.h>

namespace capstan::server::files {

// What the files in one folder hold. Thread-safe.
class Usage {
 public:
  Usage(const Root& served, std::string path) : served(served), path(std::move(path)) {}
  KJ_DISALLOW_COPY(Usage);

  const std::string& folder() const { return path; }

  // Measures if that was not done yet, if it is long ago, or if `wanted` more bytes would go beyond the bound and the
  // last time is more than REMEASURE_TIME ago. Blocks, for long where there is much.
  void prepare(uint64_t wanted, uint64_t bound);
  // Measures if that was not done in the last REMEASURE_TIME. Blocks too.
  void refresh();
  // As it was last measured, with what came and went since.
  uint64_t bytes() const;
  void add(int64_t growth);

 private:
  using Clock = std::chrono::steady_clock;

  const Root& served;
  const std::string path;
  std::mutex measuring;  // held by whoever measures

  // protected by mutex
  mutable std::mutex mutex;
  bool known = false;
  int64_t total = 0;
  int64_t meanwhile = 0;  // what came while it was being measured, and may have been counted or not
  Clock::time_point measured;
  Clock::duration took{};

  bool isDue(uint64_t wanted, uint64_t bound) const;
  bool isOlderThan(Clock::duration age) const;
  void measure();
};

// As storage::RunScope has it: "" for the owner, "A/B" for B that was made from A.
std::string holderOf(const Grant& grant);

// One bound that holds for a grant: its own, or that of one that it was made from. Thread-safe.
class Quota {
 public:
  Quota(std::shared_ptr<Usage> usage, uint64_t bound, std::string label, std::string holder)
      : usage(std::move(usage)), bound(bound), label(std::move(label)), holder(std::move(holder)) {}

  void prepare(uint64_t wanted) const { usage->prepare(wanted, bound); }
  // The error (`quota`) names the share and the bound.
  Status check(int64_t growth) const;
  void add(int64_t growth) const { usage->add(growth); }
  // The same once more for what runs have displaced, as it is for one that begins now. Blocks.
  storage::TrashBound ofTrash() const;

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

  // Those that hold for the grant; the root must outlive them.
  std::vector<Quota> of(const Grant& grant);
  // What was last measured of a folder that some quota is for; 0: it was not.
  uint64_t stored(const std::string& path) const;

 private:
  const Root& served;
  mutable std::mutex mutex;
  // By path; protected by mutex. Kept, so that whoever comes again and again does not have it measured each time.
  std::map<std::string, std::shared_ptr<Usage>> usages;

  std::shared_ptr<Usage> usageOf(const std::string& path);
};

}  // namespace capstan::server::files
