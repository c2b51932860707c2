// Jobs on a full disk: a small tmpfs in a mount namespace of this process's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>

#include "job-house.h"

#include <capstan/base/log.h>

namespace capstan::server::compute {
namespace {

class JobsDiskFull : public ::testing::Test {
 protected:
  storage::TempFolder temp;
  std::unique_ptr<JobHouse> house;

  void SetUp() override {
    temp.makeFolder("served");
    temp.makeFolder("small");
    // Before any thread is made: each would be in a namespace of its own.
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0 ||
        mount("capstan-test", (temp / "small").c_str(), "tmpfs", 0, "size=2m") < 0) {
      GTEST_SKIP() << "may not mount a tmpfs here";
    }
    log::setSink([](log::Level, std::string_view) {});
    house = std::make_unique<JobHouse>(temp / "served", ComputeLimits(), temp / "small");
  }
  void TearDown() override {
    house = nullptr;
    log::setSink({});
    umount2((temp / "small").c_str(), MNT_DETACH);
  }
  void fill() {
    std::ofstream file(temp / "small/filler", std::ios::binary);
    std::string block(4096, 'x');
    while (file.write(block.data(), ptrdiff_t(block.size())).flush()) {
    }
  }
  void makeRoom() { std::filesystem::remove(temp / "small/filler"); }
};

TEST_F(JobsDiskFull, TellsOfAnEndOnlyWhenItCouldBeWritten) {
  auto record = house->submit(house->endlessTask());
  std::string id = idOf(*record);
  house->turnUntil([&]() { return house->status(record).workDone > 0; });
  fill();
  auto job = house->job(record);
  auto cancelling = job.cancelRequest().send();
  auto& timer = house->io.provider->getTimer();
  timer.afterDelay(700 * kj::MILLISECONDS).wait(house->waitScope);
  EXPECT_FALSE(cancelling.poll(house->waitScope));
  EXPECT_EQ(house->status(record).state, JobState::RUNNING);
  EXPECT_EQ(house->jobs->unfinished(), 1u);
  makeRoom();
  EXPECT_EQ(seenIn(cancelling.wait(house->waitScope)).state, JobState::CANCELLED);
  house->reopen();
  EXPECT_EQ(house->status(house->find(id)).state, JobState::CANCELLED);
}

TEST_F(JobsDiskFull, RefusesASubmitAndTakesItLater) {
  fill();
  auto refused = house->trySubmit(addTask({1, 2}), "key");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::NO_SPACE);
  EXPECT_EQ(house->jobs->unfinished(), 0u);
  makeRoom();
  auto taken = house->trySubmit(addTask({1, 2}), "key");
  ASSERT_TRUE(taken.ok()) << taken.error().message;
  EXPECT_EQ(house->wait(*taken).state, JobState::DONE);
}

}  // namespace
}  // namespace capstan::server::compute
