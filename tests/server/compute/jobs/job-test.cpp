// The capability for one job: each promise in the schema's words.
#include <capstan/server/compute/jobs/job.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "job-house.h"

namespace capstan::server::compute {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

class JobTest : public ::testing::Test {
 protected:
  storage::TempFolder temp;
  JobHouse house{temp.path()};

  std::shared_ptr<JobRecord> submitEndless() {
    auto record = house.submit(house.endlessTask());
    house.turnUntil([&]() { return house.status(record).workDone > 0; });
    return record;
  }
  std::shared_ptr<JobRecord> submitQueued() {
    ComputeLimits limits;
    limits.jobsRunning = 0;
    house.reopen(limits);
    return house.submit(addTask({1, 2}));
  }
};

// Remembers what it was told.
struct Heard {
  std::vector<SeenStatus> reports;
  unsigned inFlight = 0;
  unsigned mostInFlight = 0;
  kj::Maybe<kj::Promise<void>> gate;  // the next report returns when this does
  bool fails = false;
};

class Listener final : public schema::JobListener::Server {
 public:
  explicit Listener(Heard& heard) : heard(heard) {}

 protected:
  kj::Promise<void> report(ReportContext context) override {
    if (heard.fails) return KJ_EXCEPTION(FAILED, "the listener is broken");
    heard.reports.push_back(seen(context.getParams().getStatus()));
    heard.mostInFlight = std::max(heard.mostInFlight, ++heard.inFlight);
    kj::Promise<void> until = kj::READY_NOW;
    KJ_IF_MAYBE (gate, heard.gate) {
      until = kj::mv(*gate);
      heard.gate = nullptr;
    }
    return until.then([this]() { --heard.inFlight; });
  }

 private:
  Heard& heard;
};

auto watch(schema::Job::Client job, Heard& heard) {
  auto request = job.watchRequest();
  request.setListener(kj::heap<Listener>(heard));
  return request.send();
}

TEST_F(JobTest, TellsTheStateOfAQueuedJob) {
  auto task = addTask({1, 2});
  task.label = "for people";
  ComputeLimits limits;
  limits.jobsRunning = 0;
  house.reopen(limits);
  auto status = house.status(house.submit(task));
  EXPECT_EQ(status.state, JobState::QUEUED);
  EXPECT_EQ(status.label, "for people");
  EXPECT_GT(status.submitted, 0);
  EXPECT_EQ(status.started, 0);
  EXPECT_EQ(status.ended, 0);
  EXPECT_EQ(status.expires, 0);
  EXPECT_EQ(status.starts, 0u);
}

TEST_F(JobTest, TellsProgressWhileItRuns) {
  auto record = submitEndless();
  auto status = house.status(record);
  EXPECT_EQ(status.state, JobState::RUNNING);
  EXPECT_GE(status.workTotal, status.workDone);
  EXPECT_EQ(status.starts, 1u);
  house.cancel(record);
}

TEST_F(JobTest, WaitReturnsAfterTheTimeoutAndSaysSo) {
  auto job = house.job(submitQueued());
  auto request = job.waitRequest();
  request.setTimeout(20'000'000);
  auto response = request.send().wait(house.waitScope);
  EXPECT_TRUE(response.getOutcome().isOk());
  EXPECT_FALSE(response.getEnded());
  EXPECT_EQ(JobState(response.getStatus().getState()), JobState::QUEUED);
}

TEST_F(JobTest, WaitReturnsWhenTheJobEnds) {
  auto record = submitEndless();
  auto request = house.job(record).waitRequest();
  request.setTimeout(UINT64_MAX);
  auto waiting = request.send();
  auto forever = house.job(record).waitRequest().send();
  EXPECT_FALSE(waiting.poll(house.waitScope));
  house.cancel(record);
  EXPECT_TRUE(waiting.wait(house.waitScope).getEnded());
  EXPECT_TRUE(forever.wait(house.waitScope).getEnded());
}

TEST_F(JobTest, WaitMayBeDropped) {
  auto record = submitEndless();
  for (int i = 0; i < 100; ++i) {
    auto dropped = house.job(record).waitRequest().send();
    dropped.poll(house.waitScope);
  }
  EXPECT_EQ(house.cancel(record).state, JobState::CANCELLED);
}

TEST_F(JobTest, CancelsAQueuedJobAtOnce) {
  auto record = submitQueued();
  auto status = house.cancel(record);
  EXPECT_FALSE(status.error);
  EXPECT_EQ(status.state, JobState::CANCELLED);
  EXPECT_EQ(status.starts, 0u);
  EXPECT_EQ(house.jobs->unfinished(), 0u);
  EXPECT_FALSE(house.cancel(record).error) << "cancelled already is no error";
  ErrorCode code = ErrorCode::UNSET;
  house.result(record, &code);
  EXPECT_EQ(code, ErrorCode::CANCELLED);
}

TEST_F(JobTest, CancelsARunningJobSoon) {
  auto record = submitEndless();
  auto before = std::chrono::steady_clock::now();
  auto status = house.cancel(record);
  // 100 ms are promised; the rest is for machines with much else to do.
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(2));
  EXPECT_FALSE(status.error);
  EXPECT_EQ(status.state, JobState::CANCELLED);
}

TEST_F(JobTest, CancelsARunningJobThatWaitsForAThread) {
  // Both threads for long work have something to do that is none of the jobs' business.
  std::promise<void> open;
  auto gate = open.get_future().share();
  auto block = [gate]() -> Status { return gate.wait(), okStatus(); };
  auto first = house.bulk.run(block);
  auto second = house.bulk.run(block);
  auto record = house.submit(house.endlessTask());
  house.turnUntil([&]() { return house.bulk.pending() == 3; });
  EXPECT_EQ(house.cancel(record).state, JobState::CANCELLED);
  open.set_value();
  EXPECT_TRUE(first.wait(house.waitScope).ok());
  EXPECT_TRUE(second.wait(house.waitScope).ok());
}

TEST_F(JobTest, DoesNotCancelWhatHasEnded) {
  auto record = house.submit(addTask({1, 2}));
  house.wait(record);
  auto status = house.cancel(record);
  ASSERT_TRUE(status.error);
  EXPECT_EQ(status.error->code, ErrorCode::CONFLICT);
  EXPECT_THAT(status.error->message, HasSubstr("done"));
  EXPECT_EQ(house.status(record).state, JobState::DONE);
}

TEST_F(JobTest, CancelLeavesNoFile) {
  auto task = house.endlessTask();
  task.output = StoredOutput{"sum.txt", {}, {}, false, {}};
  auto record = house.submit(task);
  house.turnUntil([&]() { return house.status(record).workDone > 0; });
  house.cancel(record);
  EXPECT_FALSE(std::filesystem::exists(temp / "sum.txt"));
  EXPECT_THAT(house.spoolNames(), SizeIs(0));
}

TEST_F(JobTest, ResultWaitsForTheEnd) {
  auto record = submitEndless();
  auto waiting = house.job(record).resultRequest().send();
  EXPECT_FALSE(waiting.poll(house.waitScope));
  house.cancel(record);
  EXPECT_EQ(files::codeIn(waiting.wait(house.waitScope).getOutcome()), ErrorCode::CANCELLED);
}

TEST_F(JobTest, ResultIsNotOpenedForThoseWhoMayHoldNoFurtherValue) {
  auto record = house.submit(addTask({1, 2}));
  house.wait(record);
  house.refusal = Error{ErrorCode::LIMIT, "too many", {}};
  ErrorCode code = ErrorCode::UNSET;
  EXPECT_EQ(house.result(record, &code), "too many");
  EXPECT_EQ(code, ErrorCode::LIMIT);
  EXPECT_EQ(house.got, nullptr);
}

TEST_F(JobTest, DoesNotForgetWhatHasNotEnded) {
  auto record = submitEndless();
  EXPECT_EQ(house.forget(record), ErrorCode::CONFLICT);
  house.cancel(record);
  EXPECT_EQ(house.forget(record), ErrorCode::UNSET);
}

TEST_F(JobTest, WatchReportsTheEndBeforeItReturns) {
  Heard heard;
  auto record = house.submit(addTask({1, 2}));
  auto status = seenIn(watch(house.job(record), heard).wait(house.waitScope));
  EXPECT_FALSE(status.error);
  EXPECT_EQ(status.state, JobState::DONE);
  ASSERT_FALSE(heard.reports.empty());
  EXPECT_EQ(heard.reports.back().state, JobState::DONE);
  Heard late;
  watch(house.job(record), late).wait(house.waitScope);
  EXPECT_THAT(late.reports, SizeIs(1)) << "once for a job that has ended already";
}

TEST_F(JobTest, WatchReportsWhatChangesAtMostTenTimesASecond) {
  auto record = submitEndless();
  Heard heard;
  auto began = std::chrono::steady_clock::now();
  auto watching = watch(house.job(record), heard);
  house.turnUntil([&]() { return heard.reports.size() >= 4; });
  // A loop's timer counts from the turn that it is in, which began a little earlier.
  EXPECT_GE(std::chrono::steady_clock::now() - began, std::chrono::milliseconds(250));
  EXPECT_LT(heard.reports[0].workDone, heard.reports[3].workDone);
  house.cancel(record);
  watching.wait(house.waitScope);
  EXPECT_EQ(heard.reports.back().state, JobState::CANCELLED);
}

TEST_F(JobTest, WatchSaysNothingWhenNothingChanges) {
  auto record = submitQueued();
  Heard heard;
  auto watching = watch(house.job(record), heard);
  auto& timer = house.io.provider->getTimer();
  timer.afterDelay(350 * kj::MILLISECONDS).wait(house.waitScope);
  EXPECT_THAT(heard.reports, SizeIs(1));
  house.cancel(record);
  watching.wait(house.waitScope);
  EXPECT_THAT(heard.reports, SizeIs(2));
}

TEST_F(JobTest, WatchWaitsForASlowListener) {
  auto record = submitEndless();
  Heard heard;
  auto gate = kj::newPromiseAndFulfiller<void>();
  heard.gate = kj::mv(gate.promise);
  auto watching = watch(house.job(record), heard);
  house.turnUntil([&]() { return heard.reports.size() == 1; });
  house.cancel(record);
  auto& timer = house.io.provider->getTimer();
  timer.afterDelay(250 * kj::MILLISECONDS).wait(house.waitScope);
  EXPECT_THAT(heard.reports, SizeIs(1));
  EXPECT_FALSE(watching.poll(house.waitScope));
  gate.fulfiller->fulfill();
  watching.wait(house.waitScope);
  EXPECT_EQ(heard.mostInFlight, 1u);
  EXPECT_EQ(heard.reports.back().state, JobState::CANCELLED);
}

TEST_F(JobTest, WatchEndsWhenTheListenerFails) {
  auto record = submitEndless();
  Heard heard;
  heard.fails = true;
  auto status = seenIn(watch(house.job(record), heard).wait(house.waitScope));
  ASSERT_TRUE(status.error);
  EXPECT_THAT(status.error->message, HasSubstr("the listener is broken"));
  EXPECT_EQ(house.status(record).state, JobState::RUNNING) << "the job goes on";
  house.cancel(record);
}

TEST_F(JobTest, WatchMayBeDropped) {
  auto record = submitEndless();
  Heard heard;
  {
    auto watching = watch(house.job(record), heard);
    house.turnUntil([&]() { return heard.reports.size() == 1; });
  }
  EXPECT_EQ(house.cancel(record).state, JobState::CANCELLED);
}

TEST_F(JobTest, CapabilitiesMayBeDroppedAtAnyTime) {
  auto record = submitEndless();
  { auto job = house.job(record); }
  auto cancelling = house.job(record).cancelRequest().send();  // the capability is gone before the answer
  EXPECT_TRUE(cancelling.wait(house.waitScope).getOutcome().isOk());
}

}  // namespace
}  // namespace capstan::server::compute
