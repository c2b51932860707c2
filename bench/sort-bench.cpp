// Sorting side by side: the kernels against std::sort, and whole sorts of files of lines against GNU sort in the C
// locale, which runs as a child process on the same file. Files are made in TMPDIR, or /tmp.
//
//   sort-bench --benchmark_repetitions=3
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <capstan/server/compute/sort/sort-kernel.h>
#include <capstan/server/compute/sort/sort.h>
#include <kj/debug.h>

namespace capstan::server::compute {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t KEYS = 10'000'000;
constexpr size_t LINES = 5'000'000;

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
void sortInMemory(benchmark::State& state, const std::vector<T>& input, SortKernel kernel) {
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
}

void ints(benchmark::State& state, Shape shape, SortKernel kernel) { sortInMemory(state, makeInts(shape), kernel); }
void doubles(benchmark::State& state, Shape shape) { sortInMemory(state, makeDoubles(shape), SortKernel::AUTO); }

double timeOf(const std::string& command) {
  auto start = Clock::now();
  KJ_REQUIRE(system(command.c_str()) == 0, command.c_str());
  return since(start);
}

// A file of lines, and a spool folder beside it.
class LineFile {
 public:
  template <typename MakeLine>
  explicit LineFile(MakeLine makeLine) {
    const char* parent = getenv("TMPDIR");
    folder = std::string(parent == nullptr ? "/tmp" : parent) + "/sort-bench-XXXXXX";
    KJ_REQUIRE(mkdtemp(folder.data()) != nullptr);
    std::mt19937_64 random(1);
    std::ofstream file(path(), std::ios::binary);
    for (size_t i = 0; i < LINES; ++i) file << makeLine(random) << '\n';
    KJ_REQUIRE(file.flush().good());
    spool = std::move(Spool::open(folder).value());
  }
  ~LineFile() { std::filesystem::remove_all(folder); }

  std::string path() const { return folder + "/lines"; }

  // Seconds that GNU sort takes, the better of two runs; measured once.
  double timeOfGnuSort(const std::string& arguments) const {
    static std::map<std::string, double> known;
    auto& best = known[arguments + " " + path()];
    std::string command = "LC_ALL=C sort " + arguments + " -o " + folder + "/sorted " + path();
    if (best == 0) best = std::min(timeOf(command), timeOf(command));
    return best;
  }

  std::string folder;
  std::unique_ptr<Spool> spool;
};

void sortLines(benchmark::State& state, const LineFile& file, ElementType type, const std::string& arguments) {
  double gnu = file.timeOfGnuSort(arguments);
  SortOptions options;
  options.type = type;
  options.memory = uint64_t(state.range(0)) << 20;
  double best = 1e9;
  for (auto _ : state) {
    auto fd = std::make_shared<kj::AutoCloseFd>(open(file.path().c_str(), O_RDONLY | O_CLOEXEC));
    auto source = sourceOfFile(*fd, fd, file.path(), ElementType::TEXT, Encoding::LINES);
    Work work;
    auto start = Clock::now();
    auto result = sortElements(*source, options, {*file.spool, nullptr, nullptr, unsigned(state.range(1))}, work);
    double seconds = since(start);
    KJ_REQUIRE(result.ok() && result.value()->info().count == LINES);
    best = std::min(best, seconds);
    state.SetIterationTime(seconds);
  }
  state.counters["gnu_ms"] = gnu * 1e3;
  state.counters["times_gnu"] = gnu / best;
}

std::string randomInt(std::mt19937_64& random) { return std::to_string(int64_t(random())); }
std::string randomPaddedInt(std::mt19937_64& random) { return "00" + std::to_string(random() % 1'000'000'000); }
std::string randomFloat(std::mt19937_64& random) { return std::to_string(double(int64_t(random())) / (1ll << 40)); }
std::string randomText(std::mt19937_64& random) {
  std::string line(8 + random() % 24, ' ');
  for (auto& c : line) c = char('a' + random() % 26);
  return line;
}
std::string randomPath(std::mt19937_64& random) {
  return "/home/user/projects/" + std::to_string(random() % 1000) + "/src/" + std::to_string(random() % 100'000);
}

void intLines(benchmark::State& state) {
  static const LineFile file(randomInt);
  sortLines(state, file, ElementType::INT, "-n");
}
void paddedIntLines(benchmark::State& state) {
  static const LineFile file(randomPaddedInt);
  sortLines(state, file, ElementType::INT, "-n");
}
void floatLines(benchmark::State& state) {
  static const LineFile file(randomFloat);
  sortLines(state, file, ElementType::FLOAT, "-g");
}
void textLines(benchmark::State& state) {
  static const LineFile file(randomText);
  sortLines(state, file, ElementType::TEXT, "");
}
void pathLines(benchmark::State& state) {
  static const LineFile file(randomPath);
  sortLines(state, file, ElementType::TEXT, "");
}

void inMilliseconds(benchmark::internal::Benchmark* it) { it->UseManualTime()->Unit(benchmark::kMillisecond); }
// Memory in MiB, and threads.
void ofLines(benchmark::internal::Benchmark* it) { it->Args({256, 2})->Args({256, 1})->Args({32, 2}); }

BENCHMARK_CAPTURE(ints, random, Shape::RANDOM, SortKernel::AUTO)->Arg(1)->Arg(2)->Apply(inMilliseconds);
BENCHMARK_CAPTURE(ints, random_radix, Shape::RANDOM, SortKernel::RADIX)->Arg(1)->Arg(2)->Apply(inMilliseconds);
BENCHMARK_CAPTURE(ints, presorted, Shape::PRESORTED, SortKernel::AUTO)->Arg(2)->Apply(inMilliseconds);
BENCHMARK_CAPTURE(ints, few_distinct, Shape::FEW, SortKernel::AUTO)->Arg(2)->Apply(inMilliseconds);
BENCHMARK_CAPTURE(doubles, random, Shape::RANDOM)->Arg(1)->Arg(2)->Apply(inMilliseconds);
BENCHMARK_CAPTURE(doubles, presorted, Shape::PRESORTED)->Arg(2)->Apply(inMilliseconds);
BENCHMARK_CAPTURE(doubles, few_distinct, Shape::FEW)->Arg(2)->Apply(inMilliseconds);
BENCHMARK(intLines)->Apply(ofLines)->Apply(inMilliseconds);
BENCHMARK(paddedIntLines)->Apply(ofLines)->Apply(inMilliseconds);
BENCHMARK(floatLines)->Apply(ofLines)->Apply(inMilliseconds);
BENCHMARK(textLines)->Apply(ofLines)->Apply(inMilliseconds);
BENCHMARK(pathLines)->Apply(ofLines)->Apply(inMilliseconds);

}  // namespace
}  // namespace capstan::server::compute

BENCHMARK_MAIN();
