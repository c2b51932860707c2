// Jobs that a server died over: whether their files were placed, and how often they are begun.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <climits>
#include <filesystem>
#include <future>

#include "job-house.h"

#include <capstan/base/digest.h>
#include <capstan/base/log.h>

namespace capstan::server::compute {
namespace {

using ::testing::HasSubstr;

// What a server leaves that dies between placing a file and saying so.
class PlacedTest : public ::testing::Test {
 protected:
  storage::TempFolder temp;
  JobHouse house{temp.path()};
  StoredTask task = taskOn(JobKind::SUM, intLines("1\n2\n"));

  void leave(std::string delivered) {
    task.output = StoredOutput{"sum.txt", {Expectation::Kind::ABSENT, {}}, {}, false, {}};
    house.jobs = nullptr;
    auto journal = JobJournal::open(house.computeFolder);
    JobOrigin origin;
    origin.sequence = 1;
    origin.id = "placed";
    origin.grant = "owner";
    origin.kind = task.kind;
    origin.output = "sum.txt";
    JobProgress progress;
    progress.state = JobState::RUNNING;
    progress.starts = 1;
    progress.placing = {delivered.size(), digestOf(DigestAlgorithm::XXH3, delivered)};
    progress.result = {ElementType::INT, Encoding::BINARY, 1, 8, true};
    (*journal)->add(origin, serialize(task), [](const Status&) {});
    (*journal)->update(1, progress, [](const Status&) {});
  }
};

TEST_F(PlacedTest, IsDoneWithoutPlacingItTwice) {
  temp.write("sum.txt", "3\n");
  auto before = temp.stat("sum.txt");
  leave("3\n");
  house.open();
  auto status = house.wait(house.find("placed"));
  EXPECT_EQ(status.state, JobState::DONE) << status.failureMessage;
  EXPECT_EQ(status.starts, 2u);
  EXPECT_EQ(status.result.count, 1u);
  EXPECT_EQ(temp.stat("sum.txt").st_ino, before.st_ino);
}

TEST_F(PlacedTest, IsPlacedIfItWasNot) {
  leave("3\n");
  house.open();
  EXPECT_EQ(house.wait(house.find("placed")).state, JobState::DONE);
  EXPECT_EQ(temp.read("sum.txt"), "3\n");
}

TEST_F(PlacedTest, HonoursTheExpectationIfAnotherFileIsThere) {
  temp.write("sum.txt", "4\n");
  leave("3\n");
  house.open();
  EXPECT_EQ(house.wait(house.find("placed")).failure, ErrorCode::EXISTS);
  EXPECT_EQ(temp.read("sum.txt"), "4\n");
}

TEST_F(PlacedTest, IsLookedAtBeforeAnythingElseAndWithoutASlot) {
  temp.write("sum.txt", "3\n");
  leave("3\n");
  ComputeLimits limits;
  limits.jobsRunning = 0;
  house.reopen(limits);
  house.jobs->beginDrain();
  auto cancelling = house.cancel(house.find("placed"));
  ASSERT_TRUE(cancelling.error);
  EXPECT_EQ(cancelling.error->code, ErrorCode::CONFLICT);
  EXPECT_EQ(house.status(house.find("placed")).state, JobState::DONE);
}

// A served folder whose files cannot be opened for a while.
class FailingFolder final : public files::ServedFolder {
 public:
  FailingFolder(files::ServedFolder& inner, int failures) : inner(inner), failures(failures) {}
  std::atomic<int> asked{0};

  Result<files::HeldFile> hold(std::string path, const std::string& top) override {
    if (asked++ < failures) return Error{ErrorCode::OVERLOADED, "too many open files", path};
    return inner.hold(std::move(path), top);
  }
  schema::FileStore::Client newFileStore(kj::Own<Access> access) override { return inner.newFileStore(kj::mv(access)); }
  Result<Version> versionOf(const files::HeldFile& file) override { return inner.versionOf(file); }
  kj::Promise<kj::Maybe<files::HeldFile>> localFile(ConnectionScope& scope, schema::File::Client file) override {
    return inner.localFile(scope, kj::mv(file));
  }
  kj::Promise<kj::Maybe<kj::Own<Access>>> localTree(ConnectionScope& scope, schema::FileStore::Client store) override {
    return inner.localTree(scope, kj::mv(store));
  }
  kj::Promise<void> whenApplied() override { return inner.whenApplied(); }
  files::FolderFigures figures() const override { return inner.figures(); }

 private:
  files::ServedFolder& inner;
  const int failures;
};

// The file cannot be looked at when the next server wants to.
class PlacedBehindFailures : public PlacedTest {
 protected:
  std::unique_ptr<FailingFolder> failing;

  ~PlacedBehindFailures() { house.jobs = nullptr; }

  void open(int failures) {
    log::setLevel(log::Level::ERROR);
    failing = std::make_unique<FailingFolder>(*house.folder, failures);
    house.context.reset(new ComputeContext{{house.quick, house.bulk}, *house.spool, *failing, {}});
    house.open();
  }
};

TEST_F(PlacedBehindFailures, IsNotPlacedAgainBeforeItIsLookedAt) {
  temp.write("sum.txt", "3\n");
  auto before = temp.stat("sum.txt");
  leave("3\n");
  open(2);
  EXPECT_EQ(house.wait(house.find("placed")).state, JobState::DONE);
  EXPECT_EQ(failing->asked, 3);
  EXPECT_EQ(temp.stat("sum.txt").st_ino, before.st_ino);
}

TEST_F(PlacedBehindFailures, FailsIfItIsCancelledAndNobodyCanTell) {
  leave("3\n");
  open(INT_MAX);
  auto record = house.find("placed");
  house.turnUntil([&]() { return failing->asked > 0; });
  house.cancel(record);
  EXPECT_EQ(house.status(record).state, JobState::FAILED);
  EXPECT_EQ(house.status(record).failure, ErrorCode::OVERLOADED);
}

// What a server leaves that died while a job ran.
class DeadlyJobs : public ::testing::Test {
 protected:
  storage::TempFolder temp;
  JobHouse house{temp.path()};

  void leave(uint32_t starts, uint32_t stops) {
    auto task = house.endlessTask();
    house.jobs = nullptr;
    auto journal = JobJournal::open(house.computeFolder);
    JobOrigin origin;
    origin.sequence = 1;
    origin.id = "deadly";
    origin.grant = "owner";
    origin.kind = task.kind;
    JobProgress progress;
    progress.state = JobState::RUNNING;
    progress.starts = starts;
    progress.stops = stops;
    (*journal)->add(origin, serialize(task), [](const Status&) {});
    (*journal)->update(1, progress, [](const Status&) {});
  }
  // What the next server would read if this one died now.
  JobProgress journaled() {
    std::string copy = temp / "copy";
    std::filesystem::copy(house.computeFolder, copy, std::filesystem::copy_options::recursive);
    auto journal = JobJournal::open(copy);
    KJ_REQUIRE(journal.ok(), journal.error().message.c_str());
    return (*journal)->takeContents().jobs.at(0).progress;
  }
};

TEST_F(DeadlyJobs, FailWhenServersDiedOverThemFiveTimes) {
  leave(5, 0);
  house.open();
  auto status = house.wait(house.find("deadly"));
  EXPECT_EQ(status.state, JobState::FAILED);
  EXPECT_EQ(status.failure, ErrorCode::IO);
  EXPECT_THAT(status.failureMessage, HasSubstr("5 times"));
}

TEST_F(DeadlyJobs, AreNotThoseThatServersStoppedOver) {
  leave(5, 1);
  for (int i = 0; i < 6; ++i) {
    house.open();
    auto record = house.find("deadly");
    house.turnUntil([&]() { return house.status(record).workDone > 0; });
    house.jobs = nullptr;
  }
}

TEST_F(DeadlyJobs, AreCountedBeforeTheyDoTheirWork) {
  leave(3, 1);
  house.open();
  auto record = house.find("deadly");
  house.turnUntil([&]() { return house.status(record).workDone > 0; });
  auto progress = journaled();
  EXPECT_EQ(progress.starts, 4u);
  EXPECT_EQ(progress.stops, 1u);
  house.cancel(record);
}

// The job is cancelled before anybody has looked whether its file was placed.
class CancelledBeforeLooking : public PlacedTest {
 protected:
  JobState cancelled() {
    std::promise<void> gate;
    auto opened = gate.get_future().share();
    auto block = [opened]() -> Status { return opened.wait(), okStatus(); };
    auto first = house.quick.run(block);
    auto second = house.quick.run(block);
    leave("3\n");
    house.open();
    auto cancelling = house.job(house.find("placed")).cancelRequest().send();
    EXPECT_FALSE(cancelling.poll(house.waitScope));
    gate.set_value();
    return seenIn(cancelling.wait(house.waitScope)).state;
  }
};

TEST_F(CancelledBeforeLooking, IsDoneIfItWasPlaced) {
  temp.write("sum.txt", "3\n");
  cancelled();
  EXPECT_EQ(house.status(house.find("placed")).state, JobState::DONE);
}

TEST_F(CancelledBeforeLooking, IsCancelledIfItWasNot) {
  EXPECT_EQ(cancelled(), JobState::CANCELLED);
  EXPECT_FALSE(std::filesystem::exists(temp / "sum.txt"));
}

}  // namespace
}  // namespace capstan::server::compute
