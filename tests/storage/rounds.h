// How often a test of a race goes round.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdlib>

namespace capstan::storage {

// Some thousand times, with CAPSTAN_TEST_LONG=1 a million; longer, but not for ever, until all that must be seen was
// seen: the other thread may not have run yet.
class Rounds {
 public:
  bool more(bool sawAll) {
    ++count;
    return count <= wanted || (!sawAll && std::chrono::steady_clock::now() < patience);
  }

 private:
  const uint64_t wanted = getenv("CAPSTAN_TEST_LONG") != nullptr ? 1'000'000 : 6'000;
  const std::chrono::steady_clock::time_point patience = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  uint64_t count = 0;
};

}  // namespace capstan::storage
