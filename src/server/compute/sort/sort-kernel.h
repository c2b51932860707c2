// Sorting of keys in memory, as fast as the processor can: Google Highway's vqsort with wide vectors (AVX2, AVX-512),
// a radix sort without. Pure; no input or output.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <capstan/server/compute/work.h>

namespace capstan::server::compute {

// A key with what belongs to it; ordered by key, then by value. vqsort crashes on numbers of 128 bits that are not
// aligned as such.
struct alignas(16) KeyValue {
  uint64_t value;
  uint64_t key;
};

enum class SortKernel { AUTO, VECTOR, RADIX, STANDARD };
// What AUTO stands for on this processor.
SortKernel bestSortKernel();
std::string_view name(SortKernel kernel);

// Ascending. `scratch` has as many elements and may be overwritten; or it is empty, which costs some time (a lot with
// RADIX, which becomes STANDARD then). Uses up to `threads` threads, which end before it returns. Presorted and
// reversed input costs one pass. False if work.stop was set: what is in `keys` then is undefined.
bool sortKeys(std::span<int64_t> keys, std::span<int64_t> scratch, unsigned threads, const Work& work,
              SortKernel kernel = SortKernel::AUTO);
bool sortKeyValues(std::span<KeyValue> pairs, std::span<KeyValue> scratch, unsigned threads, const Work& work,
                   SortKernel kernel = SortKernel::AUTO);

// Doubles as int64 in the order that schema/compute.capnp has: -0.0 before 0.0, NaN last; and back. All NaNs become the
// one quiet NaN.
int64_t orderedFromDouble(double value);
double doubleFromOrdered(int64_t ordered);
// The same for many, in place.
void orderDoubles(std::span<int64_t> bits);    // bit patterns of doubles to keys
void unorderDoubles(std::span<int64_t> keys);  // and back

}  // namespace capstan::server::compute
