// Whole sorts of binary elements against std::stable_sort, and what can come between a sort and its end: cancellation,
// changed files, full disks, used up quotas; and how much memory it takes.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <limits>
#include <thread>

#include "sorting.h"

namespace capstan::server::compute {
namespace {

using Random = std::mt19937_64;

template <typename T>
std::string_view asBytes(const std::vector<T>& elements) {
  return {reinterpret_cast<const char*>(elements.data()), elements.size() * sizeof(T)};
}

// As compute.capnp has the order of floats.
bool lessFloat(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return !std::isnan(a);
  return a < b || (a == b && std::signbit(a) && !std::signbit(b));
}

std::vector<int64_t> expectedInts(std::vector<int64_t> elements, const SortOptions& options) {
  std::stable_sort(elements.begin(), elements.end());
  if (options.descending) std::reverse(elements.begin(), elements.end());
  if (options.unique) elements.erase(std::unique(elements.begin(), elements.end()), elements.end());
  return elements;
}

std::vector<double> expectedFloats(std::vector<double> elements, const SortOptions& options) {
  for (auto& one : elements) one = std::isnan(one) ? std::numeric_limits<double>::quiet_NaN() : one;
  auto nans = std::stable_partition(elements.begin(), elements.end(), [](double one) { return !std::isnan(one); });
  std::stable_sort(elements.begin(), nans, lessFloat);
  if (options.descending) std::reverse(elements.begin(), nans);
  auto same = [](double a, double b) { return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b); };
  if (options.unique) elements.erase(std::unique(elements.begin(), elements.end(), same), elements.end());
  return elements;
}

class SortElementsTest : public SortingTest {
 protected:
  const uint64_t seed = std::random_device()();

  template <typename T>
  std::string sortedBinary(const std::vector<T>& input, const SortOptions& options, unsigned threads) {
    StringSource source(asBytes(input), std::is_same_v<T, double> ? ElementType::FLOAT : ElementType::INT,
                        Encoding::BINARY);
    auto result = trySort(source, options, threads);
    if (!result.ok()) return "error: " + result.error().message;
    EXPECT_EQ(result.value()->info().encoding, Encoding::BINARY);
    EXPECT_EQ(result.value()->info().count * 8, result.value()->info().bytes);
    return bytesOf(*result.value());
  }
  template <typename T, typename Expect>
  void compare(const std::vector<T>& input, Expect expect) {
    for (unsigned way = 0; way < 8; ++way) {
      SortOptions options;
      options.descending = (way & 1) != 0;
      options.unique = (way & 2) != 0;
      if ((way & 4) != 0) options.memory = LEAST_SORT_MEMORY;
      ASSERT_TRUE(sortedBinary(input, options, 1 + way % 2) == asBytes(expect(input, options)))
          << input.size() << " elements, way " << way << ", seed " << seed;
    }
  }
};

TEST_F(SortElementsTest, IntsComeOutAsFromAStableSort) {
  Random random(seed);
  for (size_t count : {0, 1, 2, 100, SANITIZED ? 120'000 : 200'000}) {
    std::vector<int64_t> input(count);
    for (auto& one : input) one = int64_t(random());
    compare(input, expectedInts);
    for (auto& one : input) one = int64_t(random() % 1000) - 500;
    compare(input, expectedInts);
    if (count > 0) input[0] = std::numeric_limits<int64_t>::min();
    if (count > 1) input[1] = std::numeric_limits<int64_t>::max();
    compare(input, expectedInts);
  }
}

TEST_F(SortElementsTest, FloatsComeOutAsFromAStableSort) {
  Random random(seed);
  static const uint64_t special[] = {0x8000000000000000, 0,
                                     0x7ff0000000000000, 0xfff0000000000000,
                                     0x7ff8000000000000, 0xfff8000000001234,
                                     0x7ff0000000000001, 1,
                                     0x8000000000000001, ~0ull};
  for (size_t count : {0, 1, 2, 100, SANITIZED ? 120'000 : 200'000}) {
    std::vector<double> input(count);
    for (auto& one : input) {
      one = std::bit_cast<double>(random() % 3 == 0 ? special[random() % std::size(special)] : random());
    }
    compare(input, expectedFloats);
  }
}

TEST_F(SortElementsTest, MoreElementsThanMemoryAreMergedInSeveralPasses) {
  Random random(seed);
  std::vector<int64_t> input(2'000'000);
  for (auto& one : input) one = int64_t(random() % 3'000'000);
  SortOptions options;
  options.memory = LEAST_SORT_MEMORY;
  EXPECT_TRUE(sortedBinary(input, options, 2) == asBytes(expectedInts(input, options))) << seed;
  options.unique = options.descending = true;
  EXPECT_TRUE(sortedBinary(input, options, 2) == asBytes(expectedInts(input, options))) << seed;
}

TEST_F(SortElementsTest, ACutElementIsRefused) {
  StringSource source("123456789", ElementType::INT, Encoding::BINARY);
  auto result = trySort(source, {});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::INVALID_ARGUMENT);
}

TEST_F(SortElementsTest, OptionsThatDoNotFitTheInputAreRefused) {
  auto refused = [](ElementType type, Encoding encoding, const SortOptions& options) {
    Status status = checkSort(type, encoding, options);
    return !status.ok() && status.error().code == ErrorCode::INVALID_ARGUMENT;
  };
  SortOptions plain, byField, asText, asFloat;
  byField.field = 1;
  byField.separator = '\n';
  asText.type = ElementType::TEXT;
  asFloat.type = ElementType::FLOAT;
  EXPECT_FALSE(refused(ElementType::TEXT, Encoding::LINES, plain));
  EXPECT_FALSE(refused(ElementType::INT, Encoding::LINES, asText));
  EXPECT_FALSE(refused(ElementType::FLOAT, Encoding::BINARY, asFloat));
  EXPECT_TRUE(refused(ElementType::UNSET, Encoding::LINES, plain));
  EXPECT_TRUE(refused(ElementType::TEXT, Encoding::BINARY, plain));
  EXPECT_TRUE(refused(ElementType::INT, Encoding::BINARY, asText));
  EXPECT_TRUE(refused(ElementType::INT, Encoding::BINARY, asFloat));
  EXPECT_TRUE(refused(ElementType::INT, Encoding::BINARY, byField));
  EXPECT_TRUE(refused(ElementType::TEXT, Encoding::LINES, byField));
}

TEST_F(SortElementsTest, TheResultGoesIntoTheFileThatWasGiven) {
  StringSource source("b\na\nb\n", ElementType::TEXT);
  auto file = spool->newFile("result", account);
  ASSERT_TRUE(file.ok());
  auto result = sortElements(source, {}, {*spool, account, std::move(file.value()), 2}, work);
  ASSERT_TRUE(result.ok());
  EXPECT_FALSE(result.value()->inMemory());
  EXPECT_EQ(std::filesystem::file_size(folder + "/spool/result"), 6u);
  EXPECT_EQ(bytesOf(*result.value()), "a\nb\nb\n");
  EXPECT_TRUE(spool->removeFile("result").ok());
}

std::string manyLines(size_t count, uint64_t seed) {
  Random random(seed);
  std::string text;
  for (size_t i = 0; i < count; ++i) {
    text += (i % 3 == 0 ? "the same beginning of all lines " : "x") + std::to_string(random());
    text += '\n';
  }
  return text;
}

TEST_F(SortElementsTest, ErrorsOfTheSourceEndTheSort) {
  std::string input = manyLines(200'000, seed);
  for (uint64_t memory : {LEAST_SORT_MEMORY, DEFAULT_SORT_MEMORY}) {
    for (size_t at : {size_t(0), input.size() / 2, input.size()}) {
      StringSource source(input, ElementType::TEXT);
      source.failAt = at;
      SortOptions options;
      options.memory = memory;
      auto result = trySort(source, options);
      ASSERT_FALSE(result.ok());
      EXPECT_EQ(result.error().code, ErrorCode::CHANGED);
    }
  }
}

TEST_F(SortElementsTest, AFileThatChangesUnderTheSortIsNoticed) {
  std::string path = folder + "/changing";
  std::ofstream(path, std::ios::binary) << manyLines(1000, seed);
  auto fd = std::make_shared<kj::AutoCloseFd>(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  auto source = sourceOfFile(*fd, fd, "changing", ElementType::TEXT, Encoding::LINES);
  std::ofstream(path, std::ios::binary | std::ios::app) << "one more\n";
  auto result = trySort(*source, {});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::CHANGED);
}

TEST_F(SortElementsTest, AUsedUpQuotaEndsTheSortAndLeavesNothing) {
  std::string input = manyLines(200'000, seed);
  SortOptions options;
  options.memory = LEAST_SORT_MEMORY;
  // Too little for a run; for the runs; for the result beside them.
  for (uint64_t limit : {uint64_t(100'000), input.size() / 2, input.size() + (input.size() / 3)}) {
    account = std::make_shared<SpoolAccount>(limit);
    StringSource source(input, ElementType::TEXT);
    auto result = trySort(source, options);
    ASSERT_FALSE(result.ok()) << limit;
    EXPECT_EQ(result.error().code, ErrorCode::QUOTA);
    EXPECT_EQ(account->used, 0u);
  }
}

TEST_F(SortElementsTest, ProgressDoesNotGoBackWhereMoreThanMemoryIsSorted) {
  auto totals = [&](std::string_view input, ElementType type, Encoding encoding) {
    StringSource source(input, type, encoding);
    std::vector<double> seen;
    double fraction = 0;
    source.onRead = [&](size_t) {
      seen.push_back(double(work.total) / double(input.size()));
      EXPECT_GE(double(work.done) / double(work.total), fraction);
      fraction = double(work.done) / double(work.total);
    };
    SortOptions options;
    options.memory = LEAST_SORT_MEMORY;
    EXPECT_TRUE(trySort(source, options).ok());
    EXPECT_EQ(work.done, work.total);
    return std::pair(seen.front(), seen.back());
  };
  // Once more written and read than what fits.
  const std::pair<double, double> memory(2, 2), disk(4, 4);
  std::vector<int64_t> ints(400'000, -1'000'000'000'000'000'000);
  std::string lines = manyLines(100'000, seed), longInts;
  for (int64_t one : ints) longInts += std::to_string(one) + "\n";
  EXPECT_EQ(totals(asBytes(ints), ElementType::INT, Encoding::BINARY), disk);
  EXPECT_EQ(totals(asBytes(ints).substr(0, 320'000), ElementType::INT, Encoding::BINARY), memory);
  EXPECT_EQ(totals(lines, ElementType::TEXT, Encoding::LINES), disk);
  EXPECT_EQ(totals(std::string_view(lines).substr(0, 200'000), ElementType::TEXT, Encoding::LINES), memory);
  EXPECT_EQ(totals(longInts, ElementType::INT, Encoding::LINES), disk);
  EXPECT_EQ(totals(std::string_view(longInts).substr(0, 840'000), ElementType::INT, Encoding::LINES), memory);
}

// Stops a sort when so much of it is done, and answers how long it took to end; nothing if it had ended before.
std::optional<double> timeToStop(Work& work, double fraction, const std::function<bool()>& sort) {
  using Clock = std::chrono::steady_clock;
  std::atomic<bool> ended{false};
  Clock::time_point stopped;
  work.stop = false;
  work.done = work.total = 0;
  std::thread stopper([&] {
    while (!ended && (work.total == 0 || double(work.done) < fraction * double(work.total))) sched_yield();
    stopped = Clock::now();
    work.stop = true;
  });
  bool cancelled = sort();
  Clock::time_point end = Clock::now();
  ended = true;
  stopper.join();
  work.stop = false;
  if (!cancelled) return std::nullopt;
  return std::chrono::duration<double>(end - stopped).count();
}

TEST_F(SortElementsTest, ASortThatIsCancelledEndsWithin100Milliseconds) {
  const std::string input = manyLines(SANITIZED ? 100'000 : 1'000'000, seed);
  for (uint64_t memory : {LEAST_SORT_MEMORY, uint64_t(16) << 20, DEFAULT_SORT_MEMORY}) {
    for (double fraction : {0.0, 0.1, 0.3, 0.5, 0.6, 0.9}) {
      auto sort = [&] {
        StringSource source(input, ElementType::TEXT);
        SortOptions options;
        options.memory = memory;
        auto result = sortElements(source, options, {*spool, account, nullptr, 2}, work);
        EXPECT_TRUE(result.ok() || result.error().code == ErrorCode::CANCELLED);
        return !result.ok();
      };
      // The machine may be busy with other things: it has some tries.
      const double most = SANITIZED ? 1 : 0.1;
      std::optional<double> least;
      for (unsigned i = 0; i < 5 && (!least || *least > most); ++i) {
        auto seconds = timeToStop(work, fraction, sort);
        if (!seconds) break;
        least = std::min(least.value_or(1e9), *seconds);
        EXPECT_EQ(account->used, 0u);
      }
      EXPECT_LT(least.value_or(0), most) << "stopped after " << fraction << ", memory " << memory;
      EXPECT_TRUE(least || fraction > 0.2) << "it was not stopped";
    }
  }
}

// Lines without end, which take no memory themselves.
class EndlessSource final : public Source {
 public:
  explicit EndlessSource(uint64_t size) : left(size), size(size) {}
  Result<size_t> read(char* to, size_t wanted) override {
    size_t n = size_t(std::min<uint64_t>(wanted, left));
    for (size_t i = 0; i < n; ++i) to[i] = ++column % 50 == 0 ? '\n' : char('a' + random() % 26);
    left -= n;
    return n;
  }
  uint64_t expectedSize() const override { return size; }

 private:
  uint64_t left;
  const uint64_t size;
  uint64_t column = 0;
  std::minstd_rand random;
};

TEST_F(SortElementsTest, MemoryStaysWithinItsBoundHoweverMuchThereIs) {
  if (SANITIZED) GTEST_SKIP() << "sanitizers take memory of their own";
  if (!(std::ofstream("/proc/self/clear_refs") << "5").flush()) GTEST_SKIP() << "the peak cannot be measured here";
  EndlessSource source(100 << 20);
  SortOptions options;
  options.memory = 16 << 20;
  uint64_t before = kibibytesOf("VmRSS");
  auto result = trySort(source, options);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result.value()->info().bytes, uint64_t(100) << 20);
  uint64_t taken = kibibytesOf("VmHWM") - before;
  EXPECT_LT(taken, uint64_t(20) << 10);
  EXPECT_GT(taken, uint64_t(8) << 10) << "was anything measured?";
}

TEST_F(SortElementsTest, AFullDiskEndsTheSort) {
  std::string small = folder + "/small";
  std::filesystem::create_directory(small);
  if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0 ||
      mount("capstan-test", small.c_str(), "tmpfs", 0, "size=2m") < 0) {
    GTEST_SKIP() << "may not mount a tmpfs here";
  }
  {
    auto full = std::move(Spool::open(small).value());
    std::string input = manyLines(200'000, seed);
    StringSource source(input, ElementType::TEXT);
    SortOptions options;
    options.memory = LEAST_SORT_MEMORY;
    auto result = sortElements(source, options, {*full, account, nullptr, 2}, work);
    EXPECT_TRUE(!result.ok() && result.error().code == ErrorCode::NO_SPACE);
    EXPECT_TRUE(std::filesystem::is_empty(small));
  }
  umount2(small.c_str(), MNT_DETACH);
}

}  // namespace
}  // namespace capstan::server::compute
