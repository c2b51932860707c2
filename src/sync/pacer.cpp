#include <capstan/sync/pacer.h>

#include <algorithm>

#include <kj/debug.h>

namespace capstan::sync {

Pacer::Pacer(kj::Timer& timer, uint64_t bytesPerSecond)
    : timer(timer), bytesPerSecond(bytesPerSecond), free(timer.now()) {
  KJ_REQUIRE(bytesPerSecond > 0);
}

kj::Promise<void> Pacer::take(uint64_t bytes) {
  constexpr double NANOSECONDS = 1e9;
  auto begin = std::max(free, timer.now() - 100 * kj::MILLISECONDS);
  auto seconds = static_cast<double>(bytes) / static_cast<double>(bytesPerSecond);
  free = begin + static_cast<int64_t>(seconds * NANOSECONDS) * kj::NANOSECONDS;
  if (begin <= timer.now()) return kj::READY_NOW;
  return timer.atTime(begin);
}

}  // namespace capstan::sync
