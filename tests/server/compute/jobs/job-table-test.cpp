// What limits say about jobs of shares and of the shares made from them, and whose job is next.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <capstan/server/compute/jobs/job-table.h>

namespace capstan::server::compute {
namespace {

using testing::ElementsAre;
using Record = JobTable::Record;

// "guest" and "guest/..." are one share and what was made from it.
std::string topmost(const std::string& grant) { return grant.substr(0, grant.find('/')); }

struct Shared {
  ComputeLimits limits;
  JobTable table;
  uint64_t sequence = 0;

  explicit Shared(ComputeLimits limitsParam, uint32_t slots = 100)
      : limits(limitsParam), table(limits, slots, topmost) {}

  ErrorCode mayQueue(const std::string& grant, uint64_t inputBytes = 0) {
    Status status = table.mayQueue(grant, inputBytes);
    return status.ok() ? ErrorCode::UNSET : status.error().code;
  }
  Record add(const std::string& grant, uint64_t inputBytes = 0) {
    JobOrigin origin;
    origin.sequence = ++sequence;
    origin.id = std::to_string(sequence);
    origin.grant = grant;
    auto record = std::make_shared<JobRecord>(std::move(origin), JobProgress(), limits.jobResultTime);
    record->inTable.inputBytes = inputBytes;
    table.insert(record);
    table.enqueue(record);
    return record;
  }
  // The grant of the job that is begun.
  std::string next() {
    running = table.startNext();
    return running == nullptr ? "" : running->origin.grant;
  }
  void end(const Record& record, uint64_t resultBytes = 0) {
    table.stopped(*record);
    JobProgress progress;
    progress.state = JobState::DONE;
    progress.ended = wallClock() + int64_t(record->origin.sequence);
    progress.result.bytes = resultBytes;
    record->publish(progress);
    table.keep(record);
  }
  Record running;
};

TEST(JobTable, CountsQueuedJobsOfAShareAndOfAllMadeFromItTogether) {
  Shared jobs({.jobsQueued = 3});
  jobs.add("guest");
  jobs.add("guest/one");
  auto last = jobs.add("guest/two");
  EXPECT_EQ(jobs.mayQueue("guest"), ErrorCode::LIMIT);
  EXPECT_EQ(jobs.mayQueue("guest/one"), ErrorCode::LIMIT);
  EXPECT_EQ(jobs.mayQueue("guest/three"), ErrorCode::LIMIT) << "another sub-share brings nothing";
  EXPECT_EQ(jobs.mayQueue("owner"), ErrorCode::UNSET);
  EXPECT_EQ(jobs.mayQueue("other/one"), ErrorCode::UNSET);
  jobs.table.unqueue(*last);
  EXPECT_EQ(jobs.mayQueue("guest/three"), ErrorCode::UNSET);
}

TEST(JobTable, CountsInputsAndRunningJobsOfAShareAndOfAllMadeFromItTogether) {
  Shared jobs({.jobsRunning = 1, .jobResultBytes = 100});
  jobs.add("guest/one", 60);
  EXPECT_EQ(jobs.mayQueue("guest/two", 41), ErrorCode::QUOTA);
  EXPECT_EQ(jobs.mayQueue("guest/two", 40), ErrorCode::UNSET);
  EXPECT_EQ(jobs.mayQueue("owner", 100), ErrorCode::UNSET);
  jobs.add("guest/two");
  EXPECT_EQ(jobs.next(), "guest/one");
  auto first = jobs.running;
  EXPECT_EQ(jobs.next(), "") << "a second job of the same guest runs";
  jobs.end(first);
  EXPECT_EQ(jobs.next(), "guest/two");
  EXPECT_EQ(jobs.mayQueue("guest/two", 100), ErrorCode::UNSET) << "inputs are counted though their job has ended";
}

TEST(JobTable, ForgetsTheOldestResultsOfAShareAndOfAllMadeFromIt) {
  for (bool bytes : {false, true}) {
    Shared jobs(bytes ? ComputeLimits{.jobResultBytes = 100} : ComputeLimits{.jobsKept = 2});
    std::vector<Record> ended;
    for (auto grant : {"guest", "guest/one", "guest/two", "owner", "other"}) {
      ended.push_back(jobs.add(grant));
      ASSERT_EQ(jobs.next(), grant);
      jobs.end(jobs.running, 50);
    }
    EXPECT_THAT(jobs.table.surplus(wallClock()), ElementsAre(ended[0])) << bytes;
    jobs.table.erase(*ended[0]);
    EXPECT_THAT(jobs.table.surplus(wallClock()), ElementsAre()) << bytes;
  }
}

TEST(JobTable, GivesTurnsToSharesAndTheOwnerWhoeverHasQueuedFirst) {
  Shared jobs({}, 1);
  for (auto grant : {"guest", "guest/one", "guest/two", "other", "owner", "owner"}) jobs.add(grant);
  std::vector<std::string> order;
  for (auto grant = jobs.next(); !grant.empty(); grant = jobs.next()) {
    order.push_back(grant);
    jobs.end(jobs.running);
  }
  EXPECT_THAT(order, ElementsAre("guest", "other", "owner", "guest/one", "owner", "guest/two"));
}

TEST(JobTable, SkipsATurnOfWhomeverHasAsManyJobsRunningAsItMay) {
  Shared jobs({.jobsRunning = 1}, 3);
  for (auto grant : {"guest", "guest/one", "owner", "owner"}) jobs.add(grant);
  EXPECT_EQ(jobs.next(), "guest");
  auto guests = jobs.running;
  EXPECT_EQ(jobs.next(), "owner");
  EXPECT_EQ(jobs.next(), "");
  jobs.end(guests);
  EXPECT_EQ(jobs.next(), "guest/one");
}

}  // namespace
}  // namespace capstan::server::compute
