// Counting what is held and setting bounds to it: at the connection, at the grant and its ancestors, at the server. One
// mechanism for all limits that are numbers of things or bytes.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <capstan/base/error.h>

namespace capstan::server {

// What is counted. The table of names, defaults and meanings is in limits.h.
enum class Resource : uint8_t {
  CONNECTIONS,    // at the grant and the server
  LOGINS,         // of a connection
  CALLS,          // in flight
  FILES,          // open
  UPLOADS,        // open
  STREAMS,        // from the server, open
  BATCHES,        // open
  SUBSCRIPTIONS,  // held
  STAGED_BYTES,   // of content that is not committed yet
  VALUES,         // held
  SHARES,         // made from a grant and live
};
inline constexpr size_t RESOURCES = size_t(Resource::SHARES) + 1;

// One place where is counted, with its bounds. Thread-safe.
class Meter {
 public:
  using Bounds = std::array<uint64_t, RESOURCES>;  // 0: none
  // `holder`: for sentences, as in "this connection", "the share \"photos\"", "the server".
  Meter(std::string holder, Bounds bounds);
  KJ_DISALLOW_COPY(Meter);

  uint64_t used(Resource resource) const { return counts[size_t(resource)].load(std::memory_order_relaxed); }
  uint64_t bound(Resource resource) const { return bounds[size_t(resource)]; }
  uint64_t refused() const { return refusals.load(std::memory_order_relaxed); }

  // False, and nothing is counted, if it would go beyond the bound.
  bool add(Resource resource, uint64_t amount);
  void remove(Resource resource, uint64_t amount);

  const std::string holder;

 private:
  const Bounds bounds;
  std::array<std::atomic<uint64_t>, RESOURCES> counts{};
  std::atomic<uint64_t> refusals{0};
};

// All meters at which something is counted at once: from the connection outwards.
class Meters {
 public:
  explicit Meters(std::vector<std::shared_ptr<Meter>> meters);

  // What was counted, until it is destroyed; on any thread.
  class Charge {
   public:
    Charge() = default;
    Charge(Charge&& other) noexcept;
    Charge& operator=(Charge&& other) noexcept;
    ~Charge();
    // More of the same, as a part of this one. False: it would go beyond a bound.
    bool grow(uint64_t amount);

   private:
    friend class Meters;
    std::shared_ptr<const std::vector<std::shared_ptr<Meter>>> meters;
    Resource resource{};
    uint64_t amount = 0;
  };

  // The error (`limit`) names the meter whose bound is reached, the bound, and the way out.
  Result<Charge> take(Resource resource, uint64_t amount = 1) const;

 private:
  std::shared_ptr<const std::vector<std::shared_ptr<Meter>>> meters;
};

}  // namespace capstan::server
