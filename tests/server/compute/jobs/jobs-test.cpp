// Jobs from submit to the end and beyond: queue, keys, limits, expiry, restarts.
#include <capstan/server/compute/jobs/jobs.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "job-house.h"

#include <capstan/base/log.h>

namespace capstan::server::compute {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint64_t MILLISECOND = 1'000'000;

class JobsTest : public ::testing::Test {
 protected:
  storage::TempFolder temp;
  JobHouse house{temp.path()};

  std::string number(std::shared_ptr<JobRecord> record) {
    house.wait(record);
    ErrorCode code = ErrorCode::UNSET;
    std::string bytes = house.result(record, &code);
    if (code != ErrorCode::UNSET) return bytes;
    return formatNumber(*house.got->number());
  }
};

TEST_F(JobsTest, AddsNumbers) {
  auto record = house.submit(addTask({1, 2, 39}));
  auto status = house.wait(record);
  EXPECT_EQ(status.state, JobState::DONE);
  EXPECT_EQ(status.kind, JobKind::ADD);
  EXPECT_EQ(status.id, idOf(*record));
  EXPECT_THAT(status.id, SizeIs(20));
  EXPECT_EQ(status.id.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(status.starts, 1u);
  EXPECT_TRUE(status.result.single);
  EXPECT_LE(status.submitted, status.started);
  EXPECT_LE(status.started, status.ended);
  EXPECT_EQ(status.expires - status.ended, 24ll * 3600 * 1'000'000'000);
  EXPECT_EQ(number(record), "42");
}

TEST_F(JobsTest, ReducesWhatWasTakenOver) {
  EXPECT_EQ(number(house.submit(taskOn(JobKind::SUM, intLines("1\n2\n4\n")))), "7");
  EXPECT_EQ(number(house.submit(taskOn(JobKind::MIN, intLines("3\n-2\n4\n")))), "-2");
  EXPECT_EQ(number(house.submit(taskOn(JobKind::MAX, intLines("3\n-2\n4\n")))), "4");
  EXPECT_EQ(number(house.submit(taskOn(JobKind::COUNT, intLines("3\n-2\n4\n")))), "3");
}

TEST_F(JobsTest, ReducesAnInputFileAndRemovesIt) {
  std::string name = house.jobs->newInputName();
  EXPECT_NE(name, house.jobs->newInputName());
  ContentInfo info{ElementType::INT, Encoding::LINES, 0, 0, false};
  {
    auto file = house.spool->newFile(name, nullptr);
    ASSERT_TRUE((*file)->append("5\n6\n").ok());
  }
  info.count = 2;
  info.bytes = 4;
  EXPECT_EQ(number(house.submit(taskOn(JobKind::SUM, InputFile{name, info}))), "11");
  house.turnUntil([&]() { return house.spoolNames().empty(); });
}

TEST_F(JobsTest, ReadsAServedFileOfTheVersionThatItWasSubmittedWith) {
  temp.write("numbers", "20\n22\n");
  auto input = house.served("numbers", ElementType::INT, Encoding::LINES);
  EXPECT_EQ(number(house.submit(taskOn(JobKind::SUM, input))), "42");
  temp.settle("numbers");
  temp.write("numbers", "1\n");
  auto status = house.wait(house.submit(taskOn(JobKind::SUM, input)));
  EXPECT_EQ(status.state, JobState::FAILED);
  EXPECT_EQ(status.failure, ErrorCode::CHANGED);
  EXPECT_THAT(status.failureMessage, HasSubstr("numbers"));
  std::filesystem::remove(temp / "numbers");
  EXPECT_EQ(house.wait(house.submit(taskOn(JobKind::SUM, input))).failure, ErrorCode::NOT_FOUND);
}

TEST_F(JobsTest, EndsWithTheErrorOfItsTask) {
  auto record = house.submit(addTask({INT64_MAX, 1}));
  auto status = house.wait(record);
  EXPECT_EQ(status.state, JobState::FAILED);
  EXPECT_EQ(status.failure, ErrorCode::INVALID_ARGUMENT);
  ErrorCode code = ErrorCode::UNSET;
  EXPECT_EQ(house.result(record, &code), status.failureMessage);
  EXPECT_EQ(code, ErrorCode::INVALID_ARGUMENT);
}

TEST_F(JobsTest, StoresItsResultAsAFile) {
  auto task = taskOn(JobKind::SUM, intLines("1\n2\n"));
  task.output = StoredOutput{"made/here/sum.txt", {Expectation::Kind::ABSENT, {}}, {0640, 5'000'000'000}, true, {}};
  auto record = house.submit(task);
  auto status = house.wait(record);
  ASSERT_EQ(status.state, JobState::DONE) << status.failureMessage;
  EXPECT_EQ(status.output, "made/here/sum.txt");
  EXPECT_EQ(temp.read("made/here/sum.txt"), "3\n");
  EXPECT_EQ(temp.stat("made/here/sum.txt").st_mode & 07777, 0640u);
  EXPECT_EQ(temp.stat("made/here/sum.txt").st_mtim.tv_sec, 5);
  ErrorCode code = ErrorCode::UNSET;
  EXPECT_THAT(house.result(record, &code), HasSubstr("made/here/sum.txt"));
  EXPECT_EQ(code, ErrorCode::UNSUPPORTED);

  auto second = house.wait(house.submit(task));
  EXPECT_EQ(second.state, JobState::FAILED);
  EXPECT_EQ(second.failure, ErrorCode::EXISTS);

  task.output->expectation = {};
  task.output->encoding = Encoding::BINARY;
  EXPECT_EQ(house.wait(house.submit(task)).state, JobState::DONE);
  EXPECT_EQ(temp.read("made/here/sum.txt"), std::string("\3\0\0\0\0\0\0\0", 8));
}

TEST_F(JobsTest, AnswersARepeatedSubmitWithTheSameJob) {
  auto first = house.submit(addTask({1, 2}), "key");
  EXPECT_EQ(house.submit(addTask({1, 2}), "key"), first);
  house.wait(first);
  EXPECT_EQ(house.submit(addTask({1, 2}), "key"), first) << "also when it has ended";
  EXPECT_NE(house.submit(addTask({1, 2}), "another key"), first);
  EXPECT_NE(house.submit(addTask({1, 2})), house.submit(addTask({1, 2}))) << "no key, no repetition";
  auto other = house.trySubmit(addTask({1, 3}), "key");
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().code, ErrorCode::CONFLICT);
  auto otherGrant = house.trySubmit(addTask({1, 3}), "key", "guest");
  EXPECT_TRUE(otherGrant.ok());
  std::string id = idOf(*first);
  house.reopen();
  EXPECT_EQ(idOf(*house.submit(addTask({1, 2}), "key")), id) << "a later server knows the key too";
  EXPECT_EQ(house.forget(house.find(id)), ErrorCode::UNSET);
  EXPECT_NE(idOf(*house.submit(addTask({1, 3}), "key")), id) << "a forgotten job's key is free";
}

TEST_F(JobsTest, RemovesTheInputsOfARepeatedSubmit) {
  auto withInput = [&]() {
    std::string name = house.jobs->newInputName();
    KJ_REQUIRE((*house.spool->newFile(name, nullptr))->append("5\n").ok());
    return taskOn(JobKind::SUM, InputFile{name, {ElementType::INT, Encoding::LINES, 1, 2, false}});
  };
  auto first = house.submit(withInput(), "key");
  EXPECT_EQ(house.submit(withInput(), "key"), first);
  house.wait(first);
  house.turnUntil([&]() { return house.spoolNames().empty(); });
}

TEST_F(JobsTest, RemovesTheInputsOfSubmitsThatAreRefused) {
  ComputeLimits limits;
  limits.jobsRunning = 0;
  limits.jobsQueued = 1;
  house.reopen(limits);
  auto first = house.submit(addTask({1, 2}), "key");
  EXPECT_EQ(house.trySubmit(house.inputTask(), "key").error().code, ErrorCode::CONFLICT);
  EXPECT_EQ(house.trySubmit(house.inputTask()).error().code, ErrorCode::LIMIT);
  house.jobs->beginDrain();
  EXPECT_EQ(house.trySubmit(house.inputTask()).error().code, ErrorCode::SHUTTING_DOWN);
  EXPECT_EQ(house.trySubmit(house.inputTask(), "new").error().code, ErrorCode::SHUTTING_DOWN);
  { auto dropped = house.jobs->submit("owner", house.inputTask(), "other"); }
  house.turnUntil([&]() { return house.spoolNames().empty(); });
}

TEST_F(JobsTest, RemovesTheInputsOfASubmitThatCannotBeJournaled) {
  house.jobs = nullptr;
  house.open({64 << 10});
  auto large = house.inputTask();
  large.label = std::string(100'000, 'x');
  EXPECT_EQ(house.trySubmit(large).error().code, ErrorCode::NO_SPACE);
  house.turnUntil([&]() { return house.spoolNames().empty(); });
}

TEST_F(JobsTest, RefusesMoreInputThanResultsMayHave) {
  ComputeLimits limits;
  limits.jobsRunning = 0;
  limits.jobResultBytes = 12;
  house.reopen(limits);
  auto first = house.submit(house.inputTask());
  house.submit(house.inputTask());
  auto refused = house.trySubmit(house.inputTask());
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::QUOTA);
  EXPECT_THAT(refused.error().message, HasSubstr("store the input as a file"));
  EXPECT_TRUE(house.trySubmit(house.inputTask(), {}, "guest").ok());
  EXPECT_TRUE(house.trySubmit(addTask({1, 2})).ok());
  house.reopen(limits);
  EXPECT_EQ(house.trySubmit(house.inputTask()).error().code, ErrorCode::QUOTA) << "a later server counts them too";
  house.cancel(house.find(idOf(*first)));
  EXPECT_TRUE(house.trySubmit(house.inputTask()).ok());
}

TEST_F(JobsTest, RemovesFilesLaterWhenThreadsHaveTooMuchToDo) {
  auto record = house.submit(house.inputTask());
  house.wait(record);
  house.turnUntil([&]() { return house.spoolNames().empty(); });
  auto name = house.inputTask();
  std::promise<void> gate;
  auto opened = gate.get_future().share();
  std::vector<kj::Promise<Status>> waiting;
  // Two that block the threads, and as many behind them as may wait.
  for (int i = 0; i < 2; ++i)
    waiting.push_back(house.quick.run([opened]() -> Status { return opened.wait(), okStatus(); }));
  house.turnUntil([&]() {
    waiting.push_back(house.quick.run([]() { return okStatus(); }));
    return waiting.back().poll(house.waitScope);  // refused
  });
  house.jobs->removeInput(inputFilesOf(name).at(0));
  // What is begun after it was to be removed.
  auto later = house.submit(addTask({1, 2}));
  house.turnUntil([&]() { return house.status(later).state == JobState::RUNNING; });
  house.cancel(later);
  EXPECT_THAT(house.spoolNames(), SizeIs(1));
  gate.set_value();
  house.turnUntil([&]() { return house.spoolNames().empty(); });
}

TEST_F(JobsTest, KnowsAJobByItsKeyAlone) {
  auto record = house.submit(addTask({1, 2}), "key");
  EXPECT_EQ(house.jobs->known("owner", "key"), record);
  EXPECT_EQ(house.jobs->known("guest", "key"), nullptr);
  EXPECT_EQ(house.jobs->known("owner", "other"), nullptr);
  house.submit(addTask({1, 2}));
  EXPECT_EQ(house.jobs->known("owner", ""), nullptr);
}

TEST_F(JobsTest, MakesOneJobOfSubmitsThatRaceWithOneKey) {
  constexpr int LOOPS = 4, ROUNDS = 25;
  std::vector<std::vector<std::string>> ids(LOOPS);
  std::vector<std::thread> threads;
  for (auto& mine : ids) {
    threads.emplace_back([&]() {
      auto io = kj::setupAsyncIo();
      for (int round = 0; round < ROUNDS; ++round) {
        auto record = house.jobs->submit("owner", addTask({round, 1}), std::to_string(round)).wait(io.waitScope);
        ASSERT_TRUE(record.ok()) << record.error().message;
        mine.push_back(idOf(**record));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (auto& each : ids) EXPECT_EQ(each, ids[0]);
  EXPECT_EQ(house.jobs->list("owner", {}, 0).jobs.size(), size_t(ROUNDS));
}

TEST_F(JobsTest, SharesFlushesAmongSubmitsAtTheSameTime) {
  ComputeLimits limits;
  limits.jobsQueued = 1000;
  limits.jobsRunning = 0;
  house.reopen(limits);
  auto before = house.jobs->journalFigures();
  auto submits = kj::heapArrayBuilder<kj::Promise<JobHouse::Submitted>>(200);
  for (int i = 0; i < 200; ++i) submits.add(house.jobs->submit("owner", addTask({i, 1}), {}));
  for (auto& promise : submits) EXPECT_TRUE(promise.wait(house.waitScope).ok());
  auto after = house.jobs->journalFigures();
  EXPECT_EQ(after.changes - before.changes, 200u);
  EXPECT_LT(after.transactions - before.transactions, 100u);
}

TEST_F(JobsTest, FindsJobsOfTheSameGrantOnly) {
  std::string id = idOf(*house.submit(addTask({1, 2})));
  EXPECT_TRUE(house.jobs->find("owner", id).ok());
  EXPECT_EQ(house.jobs->find("guest", id).error().code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(house.findError("00000000000000000000"), ErrorCode::NOT_FOUND);
  EXPECT_EQ(house.findError("no id at all\n"), ErrorCode::NOT_FOUND);
  EXPECT_THAT(house.jobs->list("guest", {}, 0).jobs, IsEmpty());
}

TEST_F(JobsTest, ListsTheLatestFirstInPagesThatNewOnesDoNotShift) {
  std::vector<std::string> ids;
  for (int i = 0; i < 5; ++i) ids.insert(ids.begin(), idOf(*house.submit(addTask({i, 1}))));
  std::vector<std::string> listed;
  std::string cursor;
  for (bool atEnd = false; !atEnd;) {
    auto page = house.jobs->list("owner", cursor, 2);
    EXPECT_LE(page.jobs.size(), 2u);
    for (auto& job : page.jobs) listed.push_back(idOf(*job));
    cursor = page.cursor;
    atEnd = page.atEnd;
    house.submit(addTask({7, 7}));
  }
  EXPECT_EQ(listed, ids);
  EXPECT_THAT(house.jobs->list("owner", "no cursor", 2).jobs, IsEmpty());
}

TEST_F(JobsTest, RefusesMoreQueuedJobsThanTheGrantMayHave) {
  ComputeLimits limits;
  limits.jobsQueued = 3;
  limits.jobsRunning = 0;
  house.reopen(limits);
  for (int i = 0; i < 3; ++i) house.submit(addTask({i, 1}));
  auto refused = house.trySubmit(addTask({3, 1}));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::LIMIT);
  EXPECT_THAT(refused.error().message, HasSubstr("3 jobs queued"));
  EXPECT_THAT(refused.error().message, HasSubstr("cancel"));
  EXPECT_TRUE(house.trySubmit(addTask({3, 1}), {}, "guest").ok());
  EXPECT_EQ(house.jobs->unfinished(), 4u);
  house.cancel(house.jobs->list("owner", {}, 1).jobs[0]);
  EXPECT_TRUE(house.trySubmit(addTask({3, 1})).ok());
}

TEST_F(JobsTest, RunsAsManyOfOneGrantAsItMayAndTheOthersInOrder) {
  ComputeLimits limits;
  limits.jobsRunning = 1;
  house.reopen(limits);
  auto running = house.submit(house.endlessTask());
  house.turnUntil([&]() { return house.status(running).state == JobState::RUNNING; });
  auto second = house.submit(addTask({1, 2}));
  auto third = house.submit(addTask({1, 2}));
  auto other = house.trySubmit(addTask({1, 2}), {}, "guest");
  EXPECT_EQ(house.wait(*other).state, JobState::DONE);
  EXPECT_EQ(house.status(second).state, JobState::QUEUED);
  house.cancel(running);
  EXPECT_EQ(house.wait(third).state, JobState::DONE);
  EXPECT_EQ(house.status(second).state, JobState::DONE);
  EXPECT_LE(house.status(second).started, house.status(third).started);
}

TEST_F(JobsTest, ForgetsTheOldestWhenMoreAreKeptThanTheGrantMayHave) {
  ComputeLimits limits;
  limits.jobsKept = 2;
  house.reopen(limits);
  std::vector<std::string> ids;
  for (int i = 0; i < 4; ++i) {
    auto record = house.submit(addTask({i, 1}));
    house.wait(record);
    ids.push_back(idOf(*record));
  }
  house.turnUntil([&]() { return house.jobs->list("owner", {}, 0).jobs.size() == 2; });
  EXPECT_EQ(house.findError(ids[0]), ErrorCode::EXPIRED);
  EXPECT_EQ(house.findError(ids[1]), ErrorCode::EXPIRED);
  EXPECT_EQ(house.findError(ids[2]), ErrorCode::UNSET);
  EXPECT_EQ(house.findError(ids[3]), ErrorCode::UNSET);
  EXPECT_EQ(house.jobs->find("guest", ids[0]).error().code, ErrorCode::NOT_FOUND);
  house.reopen(limits);
  EXPECT_EQ(house.findError(ids[0]), ErrorCode::EXPIRED) << "a later server remembers that it was there";
}

TEST_F(JobsTest, ForgetsWhatIsKeptTooLong) {
  ComputeLimits limits;
  limits.jobResultTime = 100 * MILLISECOND;
  house.reopen(limits);
  auto record = house.submit(addTask({1, 2}));
  std::string id = idOf(*record);
  house.wait(record);
  house.turnUntil([&]() { return house.jobs->list("owner", {}, 0).jobs.empty(); });
  auto found = house.jobs->find("owner", id);
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().code, ErrorCode::EXPIRED);
  EXPECT_THAT(found.error().message, HasSubstr("kept for 100.0 ms"));
  ErrorCode code = ErrorCode::UNSET;
  house.result(record, &code);
  EXPECT_EQ(code, ErrorCode::EXPIRED) << "also for those who hold it";
  EXPECT_EQ(house.status(record).error->code, ErrorCode::EXPIRED);
  EXPECT_EQ(house.forget(record), ErrorCode::EXPIRED);
}

TEST_F(JobsTest, ForgetsWhenAskedTo) {
  auto record = house.submit(addTask({1, 2}));
  std::string id = idOf(*record);
  house.wait(record);
  EXPECT_EQ(house.forget(record), ErrorCode::UNSET);
  EXPECT_EQ(house.findError(id), ErrorCode::NOT_FOUND);
  EXPECT_EQ(house.forget(record), ErrorCode::NOT_FOUND);
  house.reopen();
  EXPECT_EQ(house.findError(id), ErrorCode::NOT_FOUND);
}

TEST_F(JobsTest, TakesNothingNewWhenDraining) {
  ComputeLimits limits;
  limits.jobsRunning = 1;
  house.reopen(limits);
  auto running = house.submit(house.endlessTask());
  house.turnUntil([&]() { return house.status(running).state == JobState::RUNNING; });
  auto queued = house.submit(addTask({1, 2}));
  house.jobs->beginDrain();
  EXPECT_EQ(house.trySubmit(addTask({1, 2})).error().code, ErrorCode::SHUTTING_DOWN);
  EXPECT_EQ(house.trySubmit(addTask({1, 2}), "key").error().code, ErrorCode::SHUTTING_DOWN);
  EXPECT_EQ(house.cancel(running).state, JobState::CANCELLED);
  EXPECT_EQ(house.status(queued).state, JobState::QUEUED);
  std::string id = idOf(*queued);
  queued = nullptr;
  house.reopen();
  EXPECT_EQ(number(house.find(id)), "3");
}

TEST_F(JobsTest, KeepsResultsOverARestart) {
  auto small = house.submit(addTask({1, 2}));
  auto failed = house.submit(addTask({INT64_MAX, 1}));
  house.wait(small);
  auto error = house.wait(failed);
  std::string smallId = idOf(*small), failedId = idOf(*failed);
  house.reopen();
  EXPECT_EQ(number(house.find(smallId)), "3");
  auto again = house.status(house.find(failedId));
  EXPECT_EQ(again.state, JobState::FAILED);
  EXPECT_EQ(again.failureMessage, error.failureMessage);
  EXPECT_EQ(again.ended, error.ended);
  EXPECT_EQ(again.starts, 1u);
}

TEST_F(JobsTest, BeginsAgainWhatTheServerEndedOver) {
  auto running = house.submit(house.endlessTask());
  std::string id = idOf(*running);
  house.turnUntil([&]() { return house.status(running).workDone > 0; });
  auto began = std::chrono::steady_clock::now();
  house.jobs = nullptr;
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(2));
  EXPECT_FALSE(hasEnded(running->progress().state));
  house.open();
  auto again = house.find(id);
  ASSERT_FALSE(again->progress().ended);
  house.turnUntil([&]() { return house.status(again).state == JobState::RUNNING; });
  EXPECT_EQ(house.status(again).starts, 2u);
  EXPECT_EQ(house.cancel(again).state, JobState::CANCELLED);
  house.reopen();
  EXPECT_EQ(house.status(house.find(id)).state, JobState::CANCELLED);
}

TEST_F(JobsTest, AdoptsQueuedJobsInTheOrderOfTheirSubmits) {
  ComputeLimits none;
  none.jobsRunning = 0;
  house.reopen(none);
  std::vector<std::string> ids;
  for (int i = 0; i < 10; ++i) ids.push_back(idOf(*house.submit(addTask({i, 1}))));
  ComputeLimits one;
  one.jobsRunning = 1;
  house.reopen(one);
  int64_t last = 0;
  for (auto& id : ids) {
    auto status = house.wait(house.find(id));
    EXPECT_EQ(status.state, JobState::DONE);
    EXPECT_LE(last, status.started);
    last = status.started;
  }
}

TEST_F(JobsTest, RemovesFilesThatBelongToNoJob) {
  house.jobs = nullptr;
  for (const char* name : {"dead.result", "dead.input-1", "other"}) {
    KJ_REQUIRE(house.spool->newFile(name, nullptr).ok());
  }
  house.open();
  EXPECT_EQ(house.spoolNames(), std::vector<std::string>{"other"});
}

TEST_F(JobsTest, EndsAJobWhoseTaskIsDamagedInTheJournal) {
  house.jobs = nullptr;
  {
    auto journal = JobJournal::open(house.computeFolder);
    JobOrigin origin;
    origin.sequence = 1;
    origin.id = "damaged";
    origin.grant = "owner";
    origin.kind = JobKind::ADD;
    (*journal)->add(origin, "no task", [](const Status&) {});
  }
  house.open();
  auto status = house.wait(house.find("damaged"));
  EXPECT_EQ(status.state, JobState::FAILED);
  EXPECT_EQ(status.failure, ErrorCode::CORRUPT);
}

// Results that are too large for the journal.
class LargeResults : public JobsTest {
 protected:
  static std::string lines(int count, int step) {
    std::string text;
    for (int i = 0; i < count; ++i) text += std::to_string(100'000 + (step > 0 ? i : count - 1 - i)) + "\n";
    return text;
  }
  std::shared_ptr<JobRecord> sort(int count) {
    auto record = house.submit(taskOn(JobKind::SORT, intLines(lines(count, -1))));
    house.wait(record);
    return record;
  }
};

TEST_F(LargeResults, AreKeptInFilesOverARestartUntilTheyAreForgotten) {
  auto record = sort(5000);
  std::string id = idOf(*record);
  EXPECT_EQ(house.result(record), lines(5000, 1));
  EXPECT_EQ(house.spoolNames(), std::vector<std::string>{resultFileOf(id)});
  house.reopen();
  EXPECT_EQ(house.status(house.find(id)).result.count, 5000u);
  EXPECT_EQ(house.result(house.find(id)), lines(5000, 1));
  EXPECT_EQ(house.forget(house.find(id)), ErrorCode::UNSET);
  house.turnUntil([&]() { return house.spoolNames().empty(); });
}

TEST_F(LargeResults, OfTheOldestJobsMakeRoomForLaterOnes) {
  ComputeLimits limits;
  limits.jobResultBytes = 80'000;
  house.reopen(limits);
  auto first = sort(5000), second = sort(5000);  // 35,000 bytes each
  EXPECT_EQ(house.result(first), lines(5000, 1));
  auto third = sort(5000);
  house.turnUntil([&]() { return house.spoolNames().size() == 2; });
  EXPECT_EQ(house.findError(idOf(*first)), ErrorCode::EXPIRED);
  EXPECT_EQ(house.result(second), lines(5000, 1));
  EXPECT_EQ(house.result(third), lines(5000, 1));
}

TEST_F(LargeResults, BeyondTheQuotaAreRefused) {
  ComputeLimits limits;
  limits.jobResultBytes = 20'000;
  house.reopen(limits);
  auto status = house.status(sort(5000));
  EXPECT_EQ(status.state, JobState::FAILED);
  EXPECT_EQ(status.failure, ErrorCode::QUOTA);
  house.turnUntil([&]() { return house.spoolNames().empty(); });
}

TEST_F(LargeResults, MayReplaceTheFileThatTheyAreMadeOf) {
  temp.write("numbers", lines(5000, -1));
  auto task = taskOn(JobKind::SORT, house.served("numbers", ElementType::INT, Encoding::LINES));
  task.output = StoredOutput{"numbers", {}, {}, false, {}};
  EXPECT_EQ(house.wait(house.submit(task)).state, JobState::DONE);
  EXPECT_EQ(temp.read("numbers"), lines(5000, 1));
  EXPECT_THAT(house.spoolNames(), IsEmpty());
}

TEST_F(JobsTest, NotesWhatItIsAboutToPlaceBeforeItDoes) {
  auto task = taskOn(JobKind::SUM, intLines("1\n2\n"));
  task.output = StoredOutput{"sum.txt", {}, {}, false, {}};
  auto record = house.submit(task);
  house.wait(record);
  EXPECT_EQ(record->progress().placing.size, 2u);
  EXPECT_EQ(record->progress().placing.digest, digestOf(DigestAlgorithm::XXH3, "3\n"));
}

TEST_F(JobsTest, TellsNobodyOfAnEndThatCannotBeJournaled) {
  house.jobs = nullptr;
  house.open({64 << 10});
  // The database has 16 pages: tables, then tasks until it is full.
  JobHouse::Submitted last = house.trySubmit(addTask({1, 2}));
  ASSERT_TRUE(last.ok()) << last.error().message;
  EXPECT_EQ(house.wait(*last).state, JobState::DONE);
  auto large = house.trySubmit(taskOn(JobKind::COUNT, intLines(std::string(100'000, '\n'))));
  ASSERT_FALSE(large.ok());
  EXPECT_EQ(large.error().code, ErrorCode::NO_SPACE);
  EXPECT_EQ(house.jobs->unfinished(), 0u);
  EXPECT_THAT(house.jobs->list("owner", {}, 0).jobs, SizeIs(1));
}

}  // namespace
}  // namespace capstan::server::compute
