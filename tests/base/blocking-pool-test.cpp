#include <capstan/base/blocking-pool.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include <gtest/gtest.h>

namespace capstan {
namespace {

// Holds jobs back until it is opened.
class Gate {
 public:
  void open() {
    std::lock_guard lock(mutex);
    isOpen = true;
    changed.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex);
    ++waiting;
    changed.notify_all();
    changed.wait(lock, [this] { return isOpen; });
  }
  void awaitVisitor() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return waiting > 0; });
  }

 private:
  std::mutex mutex;
  std::condition_variable changed;
  bool isOpen = false;
  int waiting = 0;
};

struct Loop {
  kj::EventLoop loop;
  kj::WaitScope waitScope{loop};
};

TEST(BlockingPool, RunsJobsOffTheLoopAndAnswersOnIt) {
  BlockingPool pool({});
  Loop loop;
  auto here = std::this_thread::get_id();
  auto result = pool.run([]() -> Result<std::thread::id> { return std::this_thread::get_id(); }).wait(loop.waitScope);
  EXPECT_NE(*result, here);
}

TEST(BlockingPool, PassesErrorsAndExceptionsOn) {
  BlockingPool pool({});
  Loop loop;
  auto error = pool.run([]() -> Status { return Error{ErrorCode::IO, "broken", {}}; }).wait(loop.waitScope);
  EXPECT_EQ(error.error().code, ErrorCode::IO);
  auto promise = pool.run([]() -> Status { KJ_FAIL_ASSERT("a bug"); });
  EXPECT_THROW(promise.wait(loop.waitScope), kj::Exception);
}

TEST(BlockingPool, LetsGoOfAJobThatNobodyWaitsForBeforeItsTurn) {
  Gate gate;
  BlockingPool pool({.threads = 1, .queueLimit = 1});
  Loop loop;
  auto running = pool.run([&gate]() -> Status {
    gate.pass();
    return okStatus();
  });
  gate.awaitVisitor();
  auto owned = std::make_shared<int>(1);
  {
    auto waiting = pool.run([owned]() { return okStatus(); });
    EXPECT_GT(owned.use_count(), 1);
  }
  EXPECT_EQ(owned.use_count(), 1);
  auto next = pool.run([]() { return okStatus(); });  // there is room again
  gate.open();
  EXPECT_TRUE(running.wait(loop.waitScope).ok());
  EXPECT_TRUE(next.wait(loop.waitScope).ok());
}

TEST(BlockingPool, RefusesWorkWhenItsQueueIsFull) {
  Gate gate;
  BlockingPool pool({.threads = 1, .queueLimit = 2});
  Loop loop;
  auto job = [&gate]() -> Status {
    gate.pass();
    return okStatus();
  };
  auto running = pool.run(job);
  gate.awaitVisitor();
  auto first = pool.run(job), second = pool.run(job);
  EXPECT_EQ(pool.pending(), 3u);
  EXPECT_EQ(pool.run(job).wait(loop.waitScope).error().code, ErrorCode::OVERLOADED);
  gate.open();
  EXPECT_TRUE(running.wait(loop.waitScope).ok());
  EXPECT_TRUE(first.wait(loop.waitScope).ok());
  EXPECT_TRUE(second.wait(loop.waitScope).ok());
}

TEST(BlockingPool, DoesNotStartAJobNobodyWaitsFor) {
  Gate gate;
  std::atomic<bool> started = false;
  Loop loop;
  {
    BlockingPool pool({.threads = 1});
    auto running = pool.run([&gate]() -> Status {
      gate.pass();
      return okStatus();
    });
    gate.awaitVisitor();
    {
      auto unwanted = pool.run([&started]() -> Status {
        started = true;
        return okStatus();
      });
    }
    auto last = pool.run([]() -> Status { return okStatus(); });
    gate.open();
    last.wait(loop.waitScope).ok();
    running.wait(loop.waitScope).ok();
  }
  EXPECT_FALSE(started);
}

TEST(BlockingPool, RejectsWhatIsQueuedWhenItEnds) {
  Loop loop;
  kj::Maybe<kj::Promise<Status>> queued;
  Gate gate;
  auto pool = std::make_unique<BlockingPool>(BlockingPool::Options{.threads = 1});
  auto running = pool->run([&gate]() -> Status {
    gate.pass();
    return okStatus();
  });
  gate.awaitVisitor();
  queued = pool->run([]() -> Status { return okStatus(); });
  // The destructor first drops the queue, then waits for the job that runs.
  BlockingPool& ending = *pool;
  std::thread opener([&] {
    while (ending.pending() == 2) std::this_thread::yield();
    gate.open();
  });
  pool.reset();
  opener.join();
  EXPECT_TRUE(running.wait(loop.waitScope).ok());
  EXPECT_THROW(KJ_ASSERT_NONNULL(kj::mv(queued)).wait(loop.waitScope), kj::Exception);
}

}  // namespace
}  // namespace capstan
