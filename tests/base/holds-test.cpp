#include <capstan/base/holds.h>

#include <atomic>
#include <optional>
#include <thread>

#include <gtest/gtest.h>

namespace capstan {
namespace {

TEST(Holds, AreWaitedForToTheLastCopy) {
  Holds holds;
  holds.wait();
  std::optional<Holds::Hold> first(std::in_place, holds), copy(*first);
  first.reset();
  std::atomic<bool> over{false};
  std::thread waiting([&] {
    holds.wait();
    EXPECT_TRUE(over.load());
  });
  over = true;
  copy.reset();
  waiting.join();
}

}  // namespace
}  // namespace capstan
