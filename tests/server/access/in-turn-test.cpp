// Work in its turn: how much of it one connection has on the threads at once, and what never gets there.
#include <capstan/server/access/in-turn.h>

#include <future>

#include <gtest/gtest.h>
#include <kj/async-io.h>
#include <kj/vector.h>

#include <capstan/server/access/access.h>

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

class SharesInTurnTest : public InTurnTest {
 protected:
  ~SharesInTurnTest() noexcept {}

  std::shared_ptr<Grant> owner = Grant::newOwner();

  std::shared_ptr<Grant> newShare(const std::shared_ptr<Grant>& parent) {
    return std::make_shared<Grant>("id", parent, ShareTerms(), 0);
  }
  // Asks for 16 jobs on each of so many connections.
  void askOnMany(const std::shared_ptr<Grant>& grant, size_t connections) {
    for (size_t i = 0; i < connections; ++i) {
      auto scope = kj::refcounted<ConnectionScope>();
      leases.add(kj::refcounted<Lease>(grant, kj::addRef(*scope)));
      for (size_t j = 0; j < FILE_JOBS_AT_ONCE; ++j) askAsShare(*scope);
    }
    io.waitScope.poll();
  }
  void askAsShare(ConnectionScope& scope) {
    auto job = [this]() {
      gate.wait();
      ++done;
      return okStatus();
    };
    // As calls are, also those that nobody looks at yet.
    all.add(inFileTurn(scope, [this, job]() { return pool.run(job); }).eagerlyEvaluate(nullptr));
  }

  kj::Vector<kj::Own<Lease>> leases;
  kj::Vector<kj::Promise<Status>> all;
};

TEST_F(SharesInTurnTest, OneShareFillsNoQueueHoweverManyConnectionsItHas) {
  auto share = newShare(owner);
  askOnMany(share, 20);
  askOnMany(newShare(share), 20);
  EXPECT_EQ(pool.pending(), FILE_JOBS_OF_SHARE) << "with what was made from it";
  askOnMany(newShare(owner), 1);
  EXPECT_EQ(pool.pending(), FILE_JOBS_OF_SHARE + FILE_JOBS_AT_ONCE) << "another share waits for none of the rest";
  opened.set_value();
  for (auto& each : all) EXPECT_TRUE(each.wait(io.waitScope).ok());
  EXPECT_EQ(done, 41 * FILE_JOBS_AT_ONCE);
}

TEST_F(SharesInTurnTest, AllSharesTogetherLeaveRoomForTheOwner) {
  for (int i = 0; i < 10; ++i) askOnMany(newShare(owner), 5);
  EXPECT_EQ(pool.pending(), FILE_JOBS_OF_SHARES);
  askOnMany(owner, 2);
  EXPECT_EQ(pool.pending(), FILE_JOBS_OF_SHARES + 2 * FILE_JOBS_AT_ONCE);
  opened.set_value();
  for (auto& each : all) EXPECT_TRUE(each.wait(io.waitScope).ok());
}

TEST_F(SharesInTurnTest, WhoeverWaitsForAPlaceAndGoesAwayTakesNone) {
  auto share = newShare(owner);
  askOnMany(share, 4);
  size_t kept = all.size();
  askOnMany(share, 4);
  all.truncate(kept);
  askOnMany(share, 1);
  opened.set_value();
  for (auto& each : all) EXPECT_TRUE(each.wait(io.waitScope).ok());
  EXPECT_EQ(done, 5 * FILE_JOBS_AT_ONCE);
  all.clear();
  askOnMany(share, 4);
  for (auto& each : all) EXPECT_TRUE(each.wait(io.waitScope).ok());
}

}  // namespace
}  // namespace capstan::server
