// What becomes of jobs whose grant ends: by revocation, by its time, and while no server runs.
#include <fcntl.h>

#include <future>

#include <gmock/gmock.h>

#include <capstan/base/log.h>
#include <capstan/server/access/grants.h>

#include "job-house.h"

namespace capstan::server::compute {
namespace {

using ::testing::HasSubstr;

class GrantedJobs : public ::testing::Test {
 protected:
  storage::TempFolder temp;
  JobHouse house{temp.path()};
  std::shared_ptr<Grants> grants;
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
    house.context.reset(new ComputeContext{{house.quick, house.bulk}, *house.spool, *house.folder, {}, grants});
    house.open();
  }
  std::shared_ptr<Grant> share(const std::string& label, int64_t expires = 0) {
    ShareTerms terms;
    terms.rights.compute = true;
    terms.label = label;
    terms.expires = expires;
    auto made = grants->make(grants->owner(), terms);
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
  void revoke(const Grant& grant) {
    auto ended = grants->revoke(*grants->owner(), grant.id);
    KJ_REQUIRE(ended.ok() && ended->stored.ok());
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

TEST_F(GrantedJobs, OfAGrantThatNobodyKnowsFail) {
  log::setLevel(log::Level::ERROR);
  auto record = house.trySubmit(addTask({1, 2}), {}, "nosuchid");
  ASSERT_TRUE(record.ok());
  expectFailure(*record, ErrorCode::REVOKED, "nosuchid");
}

}  // namespace
}  // namespace capstan::server::compute
