// That putting lines in order whose keys are the same ends soon when it is stopped, also where the lines are few and
// long and each takes milliseconds to look at.
#include <capstan/server/compute/sort/refine.h>

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "sorting.h"

namespace capstan::server::compute {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

// Lines whose third field is behind megabytes of others. There are only two of them, which come again and again.
class LongLinesTest : public ::testing::Test {
 protected:
  static constexpr size_t LENGTH = SANITIZED ? 1 << 20 : 4 << 20;
  static constexpr size_t COUNT = 200;
  const LineOrder order{ElementType::TEXT, [] {
                          SortOptions options;
                          options.unique = true;
                          options.field = 3;
                          return options;
                        }()};
  std::string text;
  std::vector<KeyValue> lines;  // sorted by their first eight bytes, which are the same
  Work work;

  void SetUp() override {
    std::string line(LENGTH, 'x');
    line[LENGTH / 2] = ' ';
    text = line + " the-same-beginning\n" + line + " the-same-end------\n" + std::string(TEXT_SLACK, '\0');
    size_t length = text.find('\n');
    // The second one comes first, so that they are not in order.
    for (size_t i = 0; i < COUNT; ++i) lines.push_back({packLine(i % 2 == 0 ? length + 1 : 0, length), 0});
    for (auto& line : lines) line.key = order.prefix(order.keyText(std::string_view(text).substr(0, length)), 0);
  }
  // How long it took to end after it was stopped, which was that long after the begin; nothing if it had ended before.
  std::optional<Seconds> timeToStop(Seconds after) {
    auto pairs = lines;
    work.stop = false;
    auto begin = Clock::now();
    Clock::time_point stopped;
    std::atomic<bool> ended{false};
    std::thread stopper([&] {
      while (!ended && Clock::now() - begin < after) sched_yield();
      stopped = Clock::now();
      work.stop = true;
    });
    bool whole = Refiner(order, text.data(), pairs, {}, 2, work).run();
    auto end = Clock::now();
    ended = true;
    stopper.join();
    if (whole) return std::nullopt;
    return end - stopped;
  }
};

TEST_F(LongLinesTest, RefiningThemEndsSoonWhenItIsStopped) {
  if (SANITIZED) GTEST_SKIP() << "sanitizers take minutes for it, and their times say nothing";
  auto begin = Clock::now();
  ASSERT_FALSE(timeToStop(Seconds(3600)));
  Seconds whole = Clock::now() - begin;
  for (double fraction : {0.1, 0.35, 0.6}) {
    // The machine may be busy with other things: it has three tries.
    Seconds least(3600);
    for (unsigned i = 0; i < 3 && least > Seconds(0.1); ++i) {
      least = std::min(least, timeToStop(fraction * whole).value_or(Seconds(0)));
    }
    EXPECT_LT(least.count(), 0.1) << "stopped after " << fraction << " of " << whole.count() << " s";
  }
}

}  // namespace
}  // namespace capstan::server::compute
