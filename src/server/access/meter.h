// Counting what is held and setting bounds to it: at the connection, at the grant and its ancestors, at the server. One
// mechanism for all limits that are numbers of things or bytes. What the bounds are is in limits.h; which meters there
// are, in metering.h.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <kj/common.h>

#include <capstan/base/error.h>

namespace capstan::server {

// What is counted.
enum class Resource : uint8_t {
  CONNECTIONS,         // with a login; at the grant
  LOGINS,              // of a connection
  CALLS,               // in flight
  FILES,               // open
  UPLOADS,             // open
  STREAMS,             // from the server, open
  BATCHES,             // open
  BATCH_BYTES,         // of operations that batches keep in memory
  BATCH_STAGED_BYTES,  // of content in batches that are not committed yet
  SUBSCRIPTIONS,       // held
  STAGED_BYTES,        // of content that is not committed yet, of uploads and batches
  VALUES,              // held
};
inline constexpr size_t RESOURCES = size_t(Resource::VALUES) + 1;

// What all meters of one kind (those of connections, say) have in common. Thread-safe.
struct MeterKind {
  using Bounds = std::array<uint64_t, RESOURCES>;  // 0: none

  // constant after construction
  const char* scope;  // as --limit names it: "connection"
  Bounds bounds;
  const char* lastResort;  // what helps when the holder can do nothing: the end of a sentence, or ""

  std::array<std::atomic<uint64_t>, RESOURCES> refusals{};

  MeterKind(const char* scope, Bounds bounds, const char* lastResort)
      : scope(scope), bounds(bounds), lastResort(lastResort) {}
};

// One place where is counted, with its bounds. Thread-safe.
class Meter {
 public:
  // `holder`: for sentences, as in "this connection", "the share \"photos\"", "the server".
  Meter(std::string holder, std::shared_ptr<MeterKind> kind) : holder(std::move(holder)), kind(std::move(kind)) {}
  KJ_DISALLOW_COPY(Meter);

  uint64_t used(Resource resource) const { return counts[size_t(resource)].load(std::memory_order_relaxed); }
  uint64_t bound(Resource resource) const { return kind->bounds[size_t(resource)]; }

  // False, and nothing is counted but the refusal, if it would go beyond the bound.
  bool add(Resource resource, uint64_t amount);
  void remove(Resource resource, uint64_t amount) {
    counts[size_t(resource)].fetch_sub(amount, std::memory_order_relaxed);
  }
  // Also beyond the bound.
  void addAnyway(Resource resource, uint64_t amount) {
    counts[size_t(resource)].fetch_add(amount, std::memory_order_relaxed);
  }
  // Why add() has answered false: `limit`, with the bound and the way out. `named`: what stands for the holder.
  Error refusal(Resource resource, uint64_t amount, const std::string& named) const;

  // constant after construction
  const std::string holder;
  const std::shared_ptr<MeterKind> kind;

 private:
  std::array<std::atomic<uint64_t>, RESOURCES> counts{};
};

// All meters at which something is counted at once: from the connection outwards. Thread-safe; copies are cheap.
class Meters {
 public:
  explicit Meters(std::vector<std::shared_ptr<Meter>> meters);

  // What was counted, until it is destroyed. May be moved to, and destroyed on, any thread; not used by two at once.
  class Charge {
   public:
    Charge() = default;
    Charge(Charge&& other) noexcept;
    Charge& operator=(Charge&& other) noexcept;
    ~Charge() { giveBack(); }
    // More of the same, as a part of this one. The error is that of take(); then this is as it was. Precondition: it
    // was made by take().
    Status grow(uint64_t by);
    // All of it. What was taken can grow again.
    void giveBack();
    uint64_t amount() const { return counted; }

   private:
    friend class Meters;
    std::shared_ptr<const std::vector<std::shared_ptr<Meter>>> meters;
    Resource resource{};
    uint64_t counted = 0;
  };

  // The error (`limit`) names the meter whose bound is reached, the bound, and the way out. An `amount` of 0 is a
  // charge that can grow.
  Result<Charge> take(Resource resource, uint64_t amount = 1) const;

  // Why one of them, which is full, takes no more, as the holder of the innermost grant may hear it.
  Error refusalOf(const Meter& full, Resource resource) const;
  // Why one more would be refused now, which counts as a refusal; nothing is taken.
  std::optional<Error> refusal(Resource resource) const;
  // For what refusal() has let pass before: counts it also beyond the bounds.
  Charge takeAnyway(Resource resource, uint64_t amount = 1) const;

  // From the connection outwards.
  const std::vector<std::shared_ptr<Meter>>& all() const { return *meters; }

 private:
  std::shared_ptr<const std::vector<std::shared_ptr<Meter>>> meters;
};

}  // namespace capstan::server
