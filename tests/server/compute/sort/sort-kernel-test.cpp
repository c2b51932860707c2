// The kernels that sort in memory, each by itself, against std::sort; on buffers that end where memory ends, so that a
// read or write too far is a crash.
#include <capstan/server/compute/sort/sort-kernel.h>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include <kj/debug.h>

namespace capstan::server::compute {
namespace {

constexpr double INFINITE = std::numeric_limits<double>::infinity();

std::vector<SortKernel> kernels() {
  std::vector<SortKernel> all{SortKernel::RADIX, SortKernel::STANDARD};
  if (bestSortKernel() == SortKernel::VECTOR) all.push_back(SortKernel::VECTOR);
  return all;
}

// Room for elements that ends at a page that may not be touched.
template <typename T>
class Guarded {
 public:
  explicit Guarded(size_t count) : count(count) {
    size_t page = size_t(sysconf(_SC_PAGESIZE));
    size_t usable = (count * sizeof(T) + page - 1) / page * page;
    size = usable + page;
    base = static_cast<char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    KJ_REQUIRE(base != MAP_FAILED);
    KJ_SYSCALL(mprotect(base + usable, page, PROT_NONE));
    begin = reinterpret_cast<T*>(base + usable) - count;
  }
  ~Guarded() { munmap(base, size); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  std::span<T> span() const { return {begin, count}; }

 private:
  size_t count;
  size_t size;
  char* base;
  T* begin;
};

int64_t strange(std::mt19937_64& random) {
  static const int64_t special[] = {0,
                                    -1,
                                    1,
                                    std::numeric_limits<int64_t>::min(),
                                    std::numeric_limits<int64_t>::min() + 1,
                                    std::numeric_limits<int64_t>::max(),
                                    std::bit_cast<int64_t>(INFINITE),
                                    std::bit_cast<int64_t>(-INFINITE),
                                    std::bit_cast<int64_t>(-0.0),
                                    0x7ff8000000000000,
                                    0x7ff0000000000001,
                                    int64_t(0xffffffffffffffff),
                                    int64_t(0xfff8000000012345),
                                    0x000fffffffffffff,
                                    3};
  uint64_t drawn = random();
  return drawn % 3 == 0 ? special[(drawn >> 8) % std::size(special)] : int64_t(random());
}

// From 0, all different, through a few values, to all equal; in and out of order.
int64_t shaped(std::mt19937_64& random, unsigned shape, size_t i, size_t count) {
  switch (shape) {
    case 0: return strange(random);
    case 1: return int64_t(random() % 5);
    case 2: return 42;
    case 3: return int64_t(i);
    case 4: return int64_t(count - i);
    case 5: return int64_t(i % 1000);
    case 6: return random() % 100 == 0 ? strange(random) : 7;
    case 7: return i + 1 == count ? -5 : int64_t(i);
    case 8: return int64_t(random() & 0xff00);
    default: return std::numeric_limits<int64_t>::max() - int64_t(random() % 2);
  }
}
constexpr unsigned SHAPES = 10;

bool less(const KeyValue& a, const KeyValue& b) { return a.key != b.key ? a.key < b.key : a.value < b.value; }
bool same(const KeyValue& a, const KeyValue& b) { return a.key == b.key && a.value == b.value; }

void checkKeys(size_t count, unsigned shape, unsigned threads, uint64_t seed) {
  Work work;
  for (SortKernel kernel : kernels()) {
    std::mt19937_64 random(seed);
    Guarded<int64_t> keys(count), scratch(count);
    for (size_t i = 0; i < count; ++i) keys.span()[i] = shaped(random, shape, i, count);
    std::vector<int64_t> expected(keys.span().begin(), keys.span().end());
    std::sort(expected.begin(), expected.end());
    ASSERT_TRUE(sortKeys(keys.span(), scratch.span(), threads, work, kernel));
    ASSERT_TRUE(std::ranges::equal(keys.span(), expected))
        << name(kernel) << ", " << count << " keys of shape " << shape << ", seed " << seed;
  }
}

void checkPairs(size_t count, unsigned shape, unsigned threads, uint64_t seed) {
  Work work;
  for (SortKernel kernel : kernels()) {
    std::mt19937_64 random(seed);
    Guarded<KeyValue> pairs(count), scratch(count);
    for (size_t i = 0; i < count; ++i) {
      pairs.span()[i] = {seed % 2 == 0 ? i : random(), uint64_t(shaped(random, shape, i, count))};
    }
    std::vector<KeyValue> expected(pairs.span().begin(), pairs.span().end());
    std::sort(expected.begin(), expected.end(), less);
    ASSERT_TRUE(sortKeyValues(pairs.span(), scratch.span(), threads, work, kernel));
    ASSERT_TRUE(std::ranges::equal(pairs.span(), expected, same))
        << name(kernel) << ", " << count << " pairs of shape " << shape << ", seed " << seed;
  }
}

TEST(SortKernel, EverySmallSizeIsSortedWithinItsBounds) {
  for (size_t count = 0; count <= 300; ++count) {
    for (unsigned shape = 0; shape < SHAPES; shape += count % 7 == 0 ? 1 : 3) {
      checkKeys(count, shape, 1, count);
      checkPairs(count, shape, 1, count);
    }
  }
}

TEST(SortKernel, RandomSizesAreSortedWithinTheirBounds) {
  uint64_t seed = std::random_device()();
  std::mt19937_64 random(seed);
  for (unsigned round = 0; round < 20; ++round) {
    size_t count = 300 + random() % (round < 15 ? 5000 : 60'000);
    checkKeys(count, round % SHAPES, 1 + unsigned(random() % 2), seed + round);
    checkPairs(count, round % SHAPES, 1 + unsigned(random() % 2), seed + round);
  }
}

TEST(SortKernel, TwoThreadsSortWhatIsLargeOrSkewed) {
  for (unsigned shape = 0; shape < SHAPES; ++shape) {
    checkKeys(265'000 + shape, shape, 2, shape);
    checkPairs(263'000 + shape, shape, 2, shape);
  }
}

TEST(SortKernel, LargeInputIsSortedInPlaceWithoutScratch) {
  Work work;
  for (SortKernel kernel : kernels()) {
    for (unsigned shape = 0; shape < SHAPES; ++shape) {
      std::mt19937_64 random(shape);
      const size_t count = 263'000 + shape;
      Guarded<int64_t> keys(count);
      Guarded<KeyValue> pairs(count);
      for (size_t i = 0; i < count; ++i) {
        keys.span()[i] = shaped(random, shape, i, count);
        pairs.span()[i] = {random() % 2 == 0 ? i : random(), uint64_t(keys.span()[i])};
      }
      std::vector<int64_t> expected(keys.span().begin(), keys.span().end());
      std::sort(expected.begin(), expected.end());
      ASSERT_TRUE(sortKeys(keys.span(), {}, 2, work, kernel));
      EXPECT_TRUE(std::ranges::equal(keys.span(), expected)) << name(kernel) << ", shape " << shape;
      std::vector<KeyValue> expectedPairs(pairs.span().begin(), pairs.span().end());
      std::sort(expectedPairs.begin(), expectedPairs.end(), less);
      ASSERT_TRUE(sortKeyValues(pairs.span(), {}, 2, work, kernel));
      EXPECT_TRUE(std::ranges::equal(pairs.span(), expectedPairs, same)) << name(kernel) << ", shape " << shape;
    }
  }
}

TEST(SortKernel, InputOfManyPiecesIsSortedInSteps) {
  // More than is sorted at once, also by a single thread; nearly all in one bucket.
  Work work;
  std::mt19937_64 random(7);
  std::vector<int64_t> keys(5'000'000), scratch(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = int64_t(random() % (i % 1000 == 0 ? 1u << 31 : 1u << 20));
  uint64_t sum = 0, sumAfter = 0;
  for (auto key : keys) sum += uint64_t(key) * uint64_t(key);
  ASSERT_TRUE(sortKeys(keys, scratch, 1, work));
  EXPECT_TRUE(std::ranges::is_sorted(keys));
  for (auto key : keys) sumAfter += uint64_t(key) * uint64_t(key);
  EXPECT_EQ(sum, sumAfter);
}

TEST(SortKernel, EqualKeysAreOrderedByTheirValues) {
  Work work;
  std::mt19937_64 random(3);
  std::vector<KeyValue> pairs(5'000'000), scratch(pairs.size());
  for (auto& pair : pairs) pair = {random(), random() % 2};
  ASSERT_TRUE(sortKeyValues(pairs, scratch, 2, work));
  EXPECT_TRUE(std::ranges::is_sorted(pairs, less));
}

TEST(SortKernel, DoublesComeOutWithNanLastAndTheNegativeZeroFirst) {
  double nan = std::numeric_limits<double>::quiet_NaN();
  double denormal = std::numeric_limits<double>::denorm_min();
  std::vector<double> input{nan, 1.5, -0.0, INFINITE, -nan, 0.0, -INFINITE, denormal, -1e300, -denormal};
  std::vector<double> expected{-INFINITE, -1e300, -denormal, -0.0, 0.0, denormal, 1.5, INFINITE, nan, nan};
  Work work;
  for (SortKernel kernel : kernels()) {
    std::vector<int64_t> keys(input.size()), scratch(input.size());
    memcpy(keys.data(), input.data(), input.size() * sizeof(double));
    orderDoubles(keys);
    ASSERT_TRUE(sortKeys(keys, scratch, 1, work, kernel));
    unorderDoubles(keys);
    for (size_t i = 0; i < keys.size(); ++i) EXPECT_EQ(keys[i], std::bit_cast<int64_t>(expected[i])) << i;
  }
}

TEST(SortKernel, TheOrderOfDoublesIsThatOfTheirKeys) {
  std::mt19937_64 random(11);
  for (unsigned i = 0; i < 20'000; ++i) {
    double a = std::bit_cast<double>(strange(random)), b = std::bit_cast<double>(strange(random));
    int64_t key = orderedFromDouble(a);
    if (a != a) {
      EXPECT_GT(key, orderedFromDouble(INFINITE));
      continue;
    }
    EXPECT_EQ(std::bit_cast<int64_t>(doubleFromOrdered(key)), std::bit_cast<int64_t>(a));
    EXPECT_TRUE(a >= b || key < orderedFromDouble(b)) << a << " " << b;
  }
}

TEST(SortKernel, SortingThatIsStoppedEndsSoon) {
  std::mt19937_64 random(1);
  std::vector<KeyValue> pairs(6'000'000), scratch(pairs.size());
  for (size_t i = 0; i < pairs.size(); ++i) pairs[i] = {i, random()};
  Work work;
  work.stop = true;
  EXPECT_FALSE(sortKeyValues(pairs, scratch, 2, work));
  // The machine may be busy with other things: it has some tries.
  bool isSoon = false;
  for (unsigned i = 0; i < 5 && !isSoon; ++i) {
    work.stop = false;
    std::chrono::steady_clock::time_point stopped;
    std::thread stopper([&] {
      stopped = std::chrono::steady_clock::now();
      work.stop = true;
    });
    bool whole = sortKeyValues(pairs, scratch, 2, work);
    auto ended = std::chrono::steady_clock::now();
    stopper.join();
    isSoon = whole || ended - stopped < std::chrono::milliseconds(100);
  }
  EXPECT_TRUE(isSoon);
}

}  // namespace
}  // namespace capstan::server::compute
