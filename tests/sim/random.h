// The simulation's only source of chance: the same seed gives the same numbers on every machine.
#pragma once

#include <cstdint>

namespace capstan::sync::sim {

class Random {
 public:
  explicit Random(uint64_t seed) : state(seed * 0x9E3779B97F4A7C15ull + 1) {}

  // SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
  uint64_t next() {
    uint64_t z = (state += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t limit) { return next() % limit; }
  bool oneIn(uint64_t count) { return below(count) == 0; }

 private:
  uint64_t state;
};

}  // namespace capstan::sync::sim
