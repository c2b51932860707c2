// How a piece of computing talks with whoever waits for it: progress one way, cancellation the other.
#pragma once

#include <atomic>
#include <cstdint>

#include <capstan/base/error.h>

namespace capstan::server::compute {

// Shared by one computation and those who watch it; thread-safe. Computing code asks cancelled() at least every 20 ms
// of work, and then returns cancelledError() as soon as it can, leaving nothing behind.
struct Work {
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> done{0};   // progress, in units of the computation's own
  std::atomic<uint64_t> total{0};  // 0: not known yet

  bool cancelled() const { return stop.load(std::memory_order_relaxed); }
  void advance(uint64_t units) { done.fetch_add(units, std::memory_order_relaxed); }
};

inline Error cancelledError() { return {ErrorCode::CANCELLED, "the computation was cancelled", {}}; }

}  // namespace capstan::server::compute
