// When a running service looks, with a clock that the test moves; and the bandwidth limit.
#include <gtest/gtest.h>

#include <capstan/sync/pacer.h>
#include <capstan/sync/service-loop.h>

namespace capstan::sync {
namespace {

class ServiceLoopTest : public testing::Test {
 protected:
  ~ServiceLoopTest() noexcept override {}
  ServiceLoopTest() : waitScope(eventLoop), timer(kj::origin<kj::TimePoint>()) {}

  ServiceLoop::Options options() {
    ServiceLoop::Options settings;
    settings.cycle = [this](Cycle::Request request) -> kj::Promise<CycleReport> {
      requests.push_back(request);
      return CycleReport(next);
    };
    settings.cancelCycle = []() {};
    settings.changed = [this]() {
      auto paf = kj::newPromiseAndFulfiller<void>();
      change = kj::mv(paf.fulfiller);
      return kj::mv(paf.promise);
    };
    settings.isWatchedWell = [this]() { return watchedWell; };
    return settings;
  }

  void pass(kj::Duration duration) {
    waitScope.poll();
    timer.advanceTo(timer.now() + duration);
    waitScope.poll();
  }

  kj::EventLoop eventLoop;
  kj::WaitScope waitScope;
  kj::TimerImpl timer;
  CycleReport next;
  bool watchedWell = true;
  std::vector<Cycle::Request> requests;
  kj::Own<kj::PromiseFulfiller<void>> change;
  std::vector<Event::Kind> events;
};

TEST_F(ServiceLoopTest, AnIntervalCostsNothingWhereWatchersTellEverything) {
  ServiceLoop loop(timer, options(), {});
  loop.start().wait(waitScope);
  pass(60 * kj::SECONDS);
  EXPECT_EQ(1u, requests.size());
  pass(840 * kj::SECONDS);
  ASSERT_EQ(2u, requests.size());
  EXPECT_TRUE(requests[1].whole);
}

TEST_F(ServiceLoopTest, WithoutGoodWatchersEachIntervalLooksAtEverything) {
  watchedWell = false;
  ServiceLoop loop(timer, options(), {});
  loop.start().wait(waitScope);
  pass(4 * kj::SECONDS);
  ASSERT_EQ(2u, requests.size());
  EXPECT_TRUE(requests[1].whole);
}

TEST_F(ServiceLoopTest, AChangeStartsACycleWithinTenMilliseconds) {
  ServiceLoop loop(timer, options(), {});
  loop.start().wait(waitScope);
  waitScope.poll();
  change->fulfill();
  pass(9 * kj::MILLISECONDS);
  EXPECT_EQ(1u, requests.size());
  pass(1 * kj::MILLISECONDS);
  ASSERT_EQ(2u, requests.size());
  EXPECT_FALSE(requests[1].whole);
}

TEST_F(ServiceLoopTest, AFlushIsRepeatedUntilNothingWasDeferred) {
  ServiceLoop loop(timer, options(), {});
  loop.start().wait(waitScope);
  next.deferred = 1;
  auto flushed = loop.flush();
  pass(0 * kj::SECONDS);
  EXPECT_FALSE(flushed.poll(waitScope));
  next.deferred = 0;
  pass(10 * kj::MILLISECONDS);
  ASSERT_TRUE(flushed.poll(waitScope));
  EXPECT_EQ(0u, flushed.wait(waitScope).deferred);
  EXPECT_EQ(3u, requests.size());
}

TEST_F(ServiceLoopTest, ALostServerIsToldOnceAndTriedAgainMoreAndMoreSeldom) {
  ServiceLoop loop(timer, options(), [this](const Event& event) { events.push_back(event.kind); });
  next.error = Error{ErrorCode::UNREACHABLE, "no server", {}};
  loop.start().wait(waitScope);
  EXPECT_EQ(ServiceStatus::Phase::DISCONNECTED, loop.phase());
  pass(100 * kj::MILLISECONDS);
  EXPECT_EQ(2u, requests.size());
  pass(100 * kj::MILLISECONDS);
  EXPECT_EQ(2u, requests.size());
  EXPECT_EQ(1u, events.size());
  next.error.reset();
  pass(100 * kj::MILLISECONDS);
  EXPECT_EQ(3u, requests.size());
  EXPECT_EQ(ServiceStatus::Phase::IDLE, loop.phase());
  EXPECT_EQ(2u, events.size());
}

TEST_F(ServiceLoopTest, PausedItDoesNothingButFlush) {
  ServiceLoop loop(timer, options(), {});
  loop.start().wait(waitScope);
  loop.pause();
  waitScope.poll();
  change->fulfill();
  pass(1000 * kj::SECONDS);
  EXPECT_EQ(1u, requests.size());
  auto flushed = loop.flush();
  EXPECT_TRUE(flushed.poll(waitScope));
  EXPECT_EQ(2u, requests.size());
  loop.resume();
  waitScope.poll();
  EXPECT_EQ(3u, requests.size());
}

TEST_F(ServiceLoopTest, ASafetyStopHaltsItUntilTheDangerIsGone) {
  ServiceLoop loop(timer, options(), {});
  next.stop = SafetyStop{"too much", 5, true};
  loop.start().wait(waitScope);
  EXPECT_EQ(ServiceStatus::Phase::HALTED, loop.phase());
  next.stop.reset();
  pass(4 * kj::SECONDS);
  EXPECT_EQ(2u, requests.size());
  EXPECT_EQ(ServiceStatus::Phase::IDLE, loop.phase());
}

TEST_F(ServiceLoopTest, ItStopsWhileItWaits) {
  ServiceLoop loop(timer, options(), {});
  loop.start().wait(waitScope);
  loop.stop().wait(waitScope);
  EXPECT_EQ(ServiceStatus::Phase::STOPPED, loop.phase());
}

TEST_F(ServiceLoopTest, ThePacerLetsThroughNoMoreThanItsRate) {
  Pacer pacer(timer, 1000);
  EXPECT_TRUE(pacer.take(2000).poll(waitScope));
  auto second = pacer.take(1000);
  pass(1800 * kj::MILLISECONDS);
  EXPECT_FALSE(second.poll(waitScope));
  pass(200 * kj::MILLISECONDS);
  EXPECT_TRUE(second.poll(waitScope));
}

}  // namespace
}  // namespace capstan::sync
