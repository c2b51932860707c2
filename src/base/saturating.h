// Sums that stop at the end of their type instead of going round: for sizes that a peer names, or that sparse files
// have. Pure functions.
#pragma once

#include <cstdint>

namespace capstan {

inline uint64_t saturatingSum(uint64_t a, uint64_t b) {
  uint64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

inline int64_t saturatingSum(int64_t a, int64_t b) {
  int64_t sum;
  if (!__builtin_add_overflow(a, b, &sum)) return sum;
  return b > 0 ? INT64_MAX : INT64_MIN;
}

// As a signed number, the largest one for what is larger.
inline int64_t saturatingSigned(uint64_t value) { return value > uint64_t(INT64_MAX) ? INT64_MAX : int64_t(value); }

}  // namespace capstan
