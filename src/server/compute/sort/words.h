// How the sorting kernels see an element: as one or two unsigned 64-bit words, of which the highest counts most. What
// is written in terms of words works for plain keys and for keys with values.
#pragma once

#include <cstddef>
#include <cstdint>

#include <capstan/server/compute/sort/sort-kernel.h>

namespace capstan::server::compute {

template <typename T>
struct Words;

template <>
struct Words<int64_t> {
  static constexpr size_t COUNT = 1;
  template <size_t WORD>
  static uint64_t get(int64_t key) {
    return uint64_t(key) ^ (uint64_t(1) << 63);
  }
  static bool less(int64_t a, int64_t b) { return a < b; }
};

template <>
struct Words<KeyValue> {
  static constexpr size_t COUNT = 2;
  template <size_t WORD>
  static uint64_t get(const KeyValue& pair) {
    return WORD == 0 ? pair.value : pair.key;
  }
  static bool less(const KeyValue& a, const KeyValue& b) { return a.key != b.key ? a.key < b.key : a.value < b.value; }
};

}  // namespace capstan::server::compute
