// What becomes of jobs whose grant ends: by revocation, by its time, and while no server runs.
#include <fcntl.h>

#include <future>

#include <gmock/gmock.h>

#include <capstan/base/log.h>
#include <capstan/server/access/grants.h>
#include <capstan/server/access/metering.h>

#include "job-house.h"

namespace capstan::server::compute {
namespace {

using ::testing::HasSubstr;

class GrantedJobs : public ::testing::Test {
 protected:
  storage::TempFolder temp;
  JobHouse house{temp.path()};
  std::shared_ptr<Grants> grants;
  Metering metering{fewStagedBytes()};
  ComputeLimits limits;
  std::promise<void> gate;
  std::shared_future<void> opened = gate.get_future().share();
  std::vector<kj::Promise<Status>> waiting;

  GrantedJobs() {
    kj::AutoCloseFd state(::open((temp / ".capstan").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    auto made = Grants::open({.stateFolder = state}, "no owner");
    KJ_REQUIRE(made.ok(), made.error().message.c_str());
    grants = *made;
    reopen();
  }
  ~GrantedJobs() {
    openGate();
    house.jobs = nullptr;
  }

  void end() { house.jobs = nullptr; }
  void reopen() {
    end();
    house.context.reset(
        new ComputeContext{{house.quick, house.bulk}, *house.spool, *house.folder, limits, grants, &metering});
    house.open();
  }
  static Limits fewStagedBytes() {
    Limits limits;
    KJ_REQUIRE(limits.set(Limit::GRANT_STAGED_BYTES, 1 << 20).ok());
    return limits;
  }
  std::shared_ptr<Grant> share(const std::string& label, int64_t expires = 0) {
    return share(grants->owner(), label, expires);
  }
  std::shared_ptr<Grant> share(const std::shared_ptr<Grant>& parent, const std::string& label, int64_t expires = 0) {
    ShareTerms terms;
    terms.rights.compute = terms.rights.write = true;
    terms.label = label;
    terms.expires = expires;
    auto made = grants->make(parent, terms);
    KJ_REQUIRE(made.ok());
    return made->grant;
  }
  // Lets no job be computed before openGate().
  void closeGate() {
    for (int i = 0; i < 2; ++i) {
      waiting.push_back(house.quick.run([opened = opened]() -> Status { return opened.wait(), okStatus(); }));
    }
  }
  void openGate() {
    if (opened.wait_for(std::chrono::seconds(0)) != std::future_status::ready) gate.set_value();
  }
  std::shared_ptr<JobRecord> submit(const Grant& grant) {
    auto record = house.trySubmit(addTask({1, 2}), {}, grant.id);
    KJ_REQUIRE(record.ok(), record.error().message.c_str());
    return *record;
  }
  // Of text that is stored at "out" in the served folder.
  StoredTask outputTask(size_t bytes) {
    StoredTask task = taskOn(JobKind::SORT, InlineContent{ElementType::TEXT, Encoding::LINES, std::string(bytes, 'x')});
    task.sort.memory = limits.sortMemory;
    task.output = StoredOutput();
    task.output->path = "out";
    task.output->encoding = Encoding::LINES;
    return task;
  }
  std::shared_ptr<JobRecord> submitOutput(const Grant& grant, size_t bytes) {
    auto record = house.trySubmit(outputTask(bytes), {}, grant.id);
    KJ_REQUIRE(record.ok(), record.error().message.c_str());
    return *record;
  }
  void revoke(const Grant& grant) {
    KJ_REQUIRE(grants->end(*grants->owner(), grant.id).ok());
    KJ_REQUIRE(grants->storeEnd(grant.id).ok());
  }
  void expectFailure(std::shared_ptr<JobRecord> record, ErrorCode code, const std::string& label) {
    auto status = house.wait(record);
    EXPECT_EQ(status.state, JobState::FAILED);
    EXPECT_EQ(status.failure, code) << status.failureMessage;
    EXPECT_THAT(status.failureMessage, HasSubstr(label));
  }
};

TEST_F(GrantedJobs, FailWhenTheirGrantIsRevokedWhetherTheyRunOrAreQueued) {
  auto ended = share("ended"), other = share("other");
  closeGate();
  std::vector<std::shared_ptr<JobRecord>> jobs;
  for (int i = 0; i < 4; ++i) jobs.push_back(submit(*ended));
  auto beside = submit(*other);
  auto owners = submit(*grants->owner());
  house.turnUntil([&]() { return house.status(jobs[0]).state == JobState::RUNNING; });
  EXPECT_EQ(house.status(jobs[3]).state, JobState::QUEUED);
  revoke(*ended);
  house.jobs->endJobs();
  for (auto& job : jobs) expectFailure(job, ErrorCode::REVOKED, "ended");
  EXPECT_EQ(house.status(jobs[3]).starts, 0u);
  openGate();
  EXPECT_EQ(house.wait(beside).state, JobState::DONE);
  EXPECT_EQ(house.wait(owners).state, JobState::DONE);
}

TEST_F(GrantedJobs, AreNeverStartedUnderAGrantThatHasEnded) {
  auto ended = share("ended");
  revoke(*ended);
  auto job = submit(*ended);
  expectFailure(job, ErrorCode::REVOKED, "ended");
  EXPECT_EQ(house.status(job).starts, 0u);
}

TEST_F(GrantedJobs, FailAtTheNextServerIfTheirGrantEndedMeanwhile) {
  auto ended = share("ended");
  closeGate();
  std::vector<std::string> ids;
  for (int i = 0; i < 4; ++i) ids.push_back(idOf(*submit(*ended)));
  end();
  revoke(*ended);
  openGate();
  reopen();
  for (auto& id : ids) {
    auto job = house.jobs->find(ended->id, id);
    ASSERT_TRUE(job.ok());
    uint32_t starts = house.status(*job).starts;
    expectFailure(*job, ErrorCode::REVOKED, "ended");
    EXPECT_EQ(house.status(*job).starts, starts) << "it was begun again";
  }
  reopen();
  EXPECT_EQ(house.wait(*house.jobs->find(ended->id, ids[0])).state, JobState::FAILED);
}

TEST_F(GrantedJobs, FailByThemselvesWhenTheGrantsTimeIsOver) {
  closeGate();
  auto brief = share("brief", wallClock() + 200'000'000);
  std::vector<std::shared_ptr<JobRecord>> jobs;
  for (int i = 0; i < 4; ++i) jobs.push_back(submit(*brief));
  for (auto& job : jobs) expectFailure(job, ErrorCode::EXPIRED, "brief");
}

TEST_F(GrantedJobs, LeaveNothingBehindWhenTheirGrantEndsBeforeTheyStoreWhatTheyHave) {
  auto ended = share("ended");
  auto staged = [&]() {
    std::filesystem::recursive_directory_iterator all(temp / ".capstan/staging");
    return std::distance(std::filesystem::begin(all), std::filesystem::end(all));
  };
  house.wait(submitOutput(*ended, 1000));
  ASSERT_TRUE(std::filesystem::remove(temp / "out"));
  auto before = staged();
  closeGate();
  auto job = submitOutput(*ended, 1000);
  house.turnUntil([&]() { return house.status(job).state == JobState::RUNNING; });
  revoke(*ended);  // and nobody tells the jobs
  openGate();
  expectFailure(job, ErrorCode::REVOKED, "ended");
  EXPECT_FALSE(std::filesystem::exists(temp / "out"));
  EXPECT_EQ(staged(), before);
  house.turnUntil([&]() { return house.spoolNames().empty(); });
  EXPECT_EQ(metering.server().used(Resource::STAGED_BYTES), 0u);
}

TEST_F(GrantedJobs, OfAGrantThatNobodyKnowsFail) {
  log::setLevel(log::Level::ERROR);
  auto record = house.trySubmit(addTask({1, 2}), {}, "nosuchid");
  ASSERT_TRUE(record.ok());
  expectFailure(*record, ErrorCode::REVOKED, "nosuchid");
}

TEST_F(GrantedJobs, OfSharesThatWereMadeFromOneAnotherHaveOneQueueTogether) {
  limits.jobsQueued = 4;
  reopen();
  auto guest = share("guest"), other = share("other");
  auto below = share(guest, "below"), deeper = share(below, "deeper");
  closeGate();
  auto first = submit(*guest), second = submit(*below);
  house.turnUntil([&]() { return house.status(second).state == JobState::RUNNING; });
  for (auto& grant : {guest, below, deeper, deeper}) submit(*grant);
  for (auto& grant : {guest, below, deeper, share(deeper, "new")}) {
    auto more = house.trySubmit(addTask({1, 2}), {}, grant->id);
    ASSERT_FALSE(more.ok()) << grant->terms.label;
    EXPECT_EQ(more.error().code, ErrorCode::LIMIT);
  }
  auto beside = submit(*other), owners = submit(*grants->owner());
  openGate();
  EXPECT_EQ(house.wait(beside).state, JobState::DONE);
  EXPECT_EQ(house.wait(owners).state, JobState::DONE);
}

TEST_F(GrantedJobs, StoreNoMoreAtATimeThanTheirShareMayStage) {
  auto guest = share("guest");
  auto small = submitOutput(*guest, 1000);
  EXPECT_EQ(house.wait(small).state, JobState::DONE);
  auto large = submitOutput(*share(guest, "below"), 2 << 20);
  auto status = house.wait(large);
  EXPECT_EQ(status.state, JobState::FAILED);
  EXPECT_EQ(status.failure, ErrorCode::LIMIT) << status.failureMessage;
  auto owners = submitOutput(*grants->owner(), 2 << 20);
  EXPECT_EQ(house.wait(owners).state, JobState::DONE) << "the owner has the server's limit";
  EXPECT_EQ(metering.server().used(Resource::STAGED_BYTES), 0u);
  EXPECT_EQ(metering.server().used(Resource::UPLOADS), 0u);
}

}  // namespace
}  // namespace capstan::server::compute
