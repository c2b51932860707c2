// Work in its turn: how much of it one connection has on the threads at once, and what never gets there.
#include <capstan/server/access/in-turn.h>

#include <future>

#include <gtest/gtest.h>
#include <kj/async-io.h>
#include <kj/vector.h>

namespace capstan::server {
namespace {

class InTurnTest : public testing::Test {
 protected:
  static constexpr size_t ASKED = 1000;

  ~InTurnTest() noexcept {}

  kj::AsyncIoContext io = kj::setupAsyncIo();
  std::promise<void> opened;
  std::shared_future<void> gate = opened.get_future().share();
  std::atomic<size_t> done{0};
  BlockingPool pool{{.threads = 1}};
  kj::Own<ConnectionScope> guest = kj::refcounted<ConnectionScope>(), other = kj::refcounted<ConnectionScope>();

  // A job that waits for the gate.
  kj::Promise<Status> ask(ConnectionScope& scope) {
    return inTurn(scope, scope.fileJobs, [this]() {
      return pool.run([this]() {
        gate.wait();
        ++done;
        return okStatus();
      });
    });
  }
  kj::Vector<kj::Promise<Status>> askOften() {
    kj::Vector<kj::Promise<Status>> all;
    for (size_t i = 0; i < ASKED; ++i) all.add(ask(*guest));
    io.waitScope.poll();
    return all;
  }
};

TEST_F(InTurnTest, OneConnectionFillsNoQueueBeforeOthers) {
  auto all = askOften();
  EXPECT_EQ(pool.pending(), FILE_JOBS_AT_ONCE);
  auto others = ask(*other);
  EXPECT_EQ(pool.pending(), FILE_JOBS_AT_ONCE + 1) << "another connection waits for none of the rest";
  opened.set_value();
  for (auto& each : all) EXPECT_TRUE(each.wait(io.waitScope).ok());
  EXPECT_TRUE(others.wait(io.waitScope).ok());
  EXPECT_EQ(done, ASKED + 1);
}

TEST_F(InTurnTest, WhatWaitsForAConnectionThatHasGoneIsNeverDone) {
  auto all = askOften();
  guest->gone = true;
  opened.set_value();
  size_t refused = 0;
  for (auto& each : all) refused += !each.wait(io.waitScope).ok();
  EXPECT_EQ(refused, ASKED - FILE_JOBS_AT_ONCE);
  EXPECT_EQ(done, FILE_JOBS_AT_ONCE);
}

TEST_F(InTurnTest, WhatNobodyWaitsForAnyMoreIsNeverDoneAndHoldsUpNothing) {
  auto all = askOften();
  auto last = ask(*guest);
  all.clear();
  opened.set_value();
  EXPECT_TRUE(last.wait(io.waitScope).ok());
  EXPECT_LE(done, 2u) << "the one that had begun, and the last";
}

}  // namespace
}  // namespace capstan::server
