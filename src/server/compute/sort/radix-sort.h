// A radix sort from the lowest digit up, for processors without wide vectors. Digits have eight bits; those in which
// all elements agree cost nothing but their place in the one pass that counts.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <capstan/server/compute/sort/words.h>

namespace capstan::server::compute {

namespace radix {

inline constexpr size_t DIGITS = 8;
inline constexpr size_t VALUES = 256;
inline constexpr size_t SMALL = 128;  // up to here comparing is faster than counting

template <size_t WORD, typename T>
bool isAscending(const T* elements, size_t count) {
  for (size_t i = 1; i < count; ++i) {
    if (Words<T>::template get<WORD>(elements[i]) < Words<T>::template get<WORD>(elements[i - 1])) return false;
  }
  return true;
}

template <typename T, size_t WORD>
void pass(const T* from, T* to, size_t count, const std::array<uint32_t, VALUES>& counts, size_t digit) {
  std::array<T*, VALUES> next;
  for (size_t value = 0; value < VALUES; ++value) {
    next[value] = to;
    to += counts[value];
  }
  for (size_t i = 0; i < count; ++i) {
    *next[(Words<T>::template get<WORD>(from[i]) >> (8 * digit)) & 0xff]++ = from[i];
  }
}

// Stably by one word. `elements` and `scratch` are exchanged as often as there were passes.
template <size_t WORD, typename T>
void sortByWord(T*& elements, T*& scratch, size_t count) {
  std::array<std::array<uint32_t, VALUES>, DIGITS> counts{};
  for (size_t i = 0; i < count; ++i) {
    uint64_t word = Words<T>::template get<WORD>(elements[i]);
    for (size_t digit = 0; digit < DIGITS; ++digit) ++counts[digit][(word >> (8 * digit)) & 0xff];
  }
  uint64_t first = Words<T>::template get<WORD>(elements[0]);
  for (size_t digit = 0; digit < DIGITS; ++digit) {
    if (counts[digit][(first >> (8 * digit)) & 0xff] == count) continue;
    pass<T, WORD>(elements, scratch, count, counts[digit], digit);
    std::swap(elements, scratch);
  }
}

}  // namespace radix

// Sorts fewer than 2^32 elements; `scratch` has room for as many.
template <typename T>
void radixSort(T* const elements, T* const scratch, size_t count) {
  if (count <= radix::SMALL) return std::sort(elements, elements + count, Words<T>::less);
  T* from = elements;
  T* other = scratch;
  // A lower word that ascends already needs no sorting, because sorting by the higher one is stable.
  if constexpr (Words<T>::COUNT == 2) {
    if (!radix::isAscending<0>(from, count)) radix::sortByWord<0>(from, other, count);
  }
  radix::sortByWord<Words<T>::COUNT - 1>(from, other, count);
  if (from != elements) memcpy(elements, from, count * sizeof(T));
}

}  // namespace capstan::server::compute
