#include <capstan/server/compute/sort/sort-kernel.h>

#include <hwy/contrib/sort/vqsort.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>

#include <kj/common.h>

#include <capstan/server/compute/sort/bucket-sort.h>
#include <capstan/server/compute/sort/radix-sort.h>

namespace capstan::server::compute {

namespace {

// vqsort sorts a KeyValue as one number of 128 bits.
static_assert(sizeof(KeyValue) == sizeof(hwy::uint128_t));
static_assert(alignof(KeyValue) == sizeof(KeyValue));
static_assert(offsetof(KeyValue, value) == offsetof(hwy::uint128_t, lo));
static_assert(offsetof(KeyValue, key) == offsetof(hwy::uint128_t, hi));
static_assert(std::endian::native == std::endian::little);

constexpr size_t SMALL = 64;  // up to here setting up a vector sort costs more than it saves

void vectorSort(int64_t* keys, size_t count) { hwy::Sorter()(keys, count, hwy::SortAscending()); }
void vectorSort(KeyValue* pairs, size_t count) {
  hwy::Sorter()(reinterpret_cast<hwy::uint128_t*>(pairs), count, hwy::SortAscending());
}

template <typename T>
bool sortWith(std::span<T> elements, std::span<T> scratch, unsigned threads, const Work& work, SortKernel kernel) {
  KJ_IREQUIRE(scratch.empty() || scratch.size() >= elements.size());
  if (kernel == SortKernel::AUTO) kernel = bestSortKernel();
  if (kernel == SortKernel::RADIX && scratch.empty()) kernel = SortKernel::STANDARD;
  auto piece = [kernel](T* begin, T* free, size_t count) {
    if (kernel == SortKernel::STANDARD || count <= SMALL) return std::sort(begin, begin + count, Words<T>::less);
    if (kernel == SortKernel::RADIX) return radixSort(begin, free, count);
    vectorSort(begin, count);
  };
  return BucketSort<T, decltype(piece)>(threads < 1 ? 1 : threads, work, piece)
      .sort(elements.data(), scratch.empty() ? nullptr : scratch.data(), elements.size());
}

constexpr int64_t NAN_BITS = 0x7ff8000000000000;
constexpr int64_t INFINITY_BITS = 0x7ff0000000000000;
constexpr int64_t ALL_BUT_SIGN = std::numeric_limits<int64_t>::max();

// The order of negative numbers is the reverse of that of their bits.
int64_t turnNegative(int64_t bits) { return bits ^ ((bits >> 63) & ALL_BUT_SIGN); }
int64_t order(int64_t bits) { return (bits & ALL_BUT_SIGN) > INFINITY_BITS ? NAN_BITS : turnNegative(bits); }

}  // namespace

SortKernel bestSortKernel() {
#if defined(__x86_64__)
  // What Highway asks for before it uses AVX2, as far as it matters here: a wrong guess costs time, nothing else.
  static const SortKernel best =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma")
          ? SortKernel::VECTOR
          : SortKernel::RADIX;
  return best;
#else
  return SortKernel::RADIX;
#endif
}

std::string_view name(SortKernel kernel) {
  switch (kernel) {
    case SortKernel::AUTO: return "auto";
    case SortKernel::VECTOR: return "vector";
    case SortKernel::RADIX: return "radix";
    case SortKernel::STANDARD: return "standard";
  }
  return "unknown";
}

bool sortKeys(std::span<int64_t> keys, std::span<int64_t> scratch, unsigned threads, const Work& work,
              SortKernel kernel) {
  return sortWith(keys, scratch, threads, work, kernel);
}

bool sortKeyValues(std::span<KeyValue> pairs, std::span<KeyValue> scratch, unsigned threads, const Work& work,
                   SortKernel kernel) {
  return sortWith(pairs, scratch, threads, work, kernel);
}

int64_t orderedFromDouble(double value) { return order(std::bit_cast<int64_t>(value)); }
double doubleFromOrdered(int64_t ordered) { return std::bit_cast<double>(turnNegative(ordered)); }

void orderDoubles(std::span<int64_t> bits) {
  for (auto& one : bits) one = order(one);
}

void unorderDoubles(std::span<int64_t> keys) {
  for (auto& one : keys) one = turnNegative(one);
}

}  // namespace capstan::server::compute
