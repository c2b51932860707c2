#include <capstan/server/compute/jobs/job-journal.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <future>

#include "../../../storage/temp-folder.h"

#include <capstan/base/log.h>
#include <capstan/storage/database.h>

namespace capstan::server::compute {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

JobOrigin origin(uint64_t sequence) {
  JobOrigin result;
  result.sequence = sequence;
  result.id = "job-" + std::to_string(sequence);
  result.grant = "owner";
  result.key = std::string("k\0y", 3);
  result.fingerprint = "print";
  result.kind = JobKind::SORT;
  result.label = "label";
  result.output = "out";
  result.submitted = 1000 + int64_t(sequence);
  return result;
}

// Makes changes one at a time, and answers what became of each.
struct Writing {
  explicit Writing(const std::string& folder, JournalOptions options = {}) {
    auto opened = JobJournal::open(folder, options);
    KJ_REQUIRE(opened.ok(), opened.error().message.c_str());
    journal = std::move(*opened);
    contents = journal->takeContents();
  }
  std::unique_ptr<JobJournal> journal;
  JobJournal::Contents contents;

  template <typename Func>
  Status once(Func change) {
    std::promise<Status> answer;
    change([&](const Status& status) { answer.set_value(status); });
    return answer.get_future().get();
  }
  Status add(uint64_t sequence, std::string task = "task") {
    return once([&](auto then) { journal->add(origin(sequence), task, then); });
  }
  Status update(uint64_t sequence, JobProgress progress) {
    return once([&](auto then) { journal->update(sequence, progress, then); });
  }
  Status bury(uint64_t sequence, int64_t when) {
    return once([&](auto then) { journal->bury(sequence, {"job-" + std::to_string(sequence), "owner", when}, then); });
  }
};

class JobJournalTest : public ::testing::Test {
 protected:
  storage::TempFolder temp;
  void SetUp() override {
    log::setSink([this](log::Level, std::string_view line) { logged.emplace_back(line); });
  }
  void TearDown() override { log::setSink({}); }
  std::vector<std::string> logged;
};

TEST_F(JobJournalTest, RemembersAllOfAJob) {
  JobProgress progress;
  progress.state = JobState::FAILED;
  progress.started = 5;
  progress.ended = 6;
  progress.starts = 2;
  progress.stops = 1;
  progress.placing = {77, "digest"};
  progress.result = {ElementType::INT, Encoding::BINARY, 3, 24, true};
  progress.resultBytes = std::string("\0\1", 2);
  progress.error = {ErrorCode::IO, "it broke", "pa\xFFth"};
  {
    Writing writing(temp.path());
    EXPECT_TRUE(writing.add(1).ok());
    EXPECT_TRUE(writing.add(2, std::string("\0task", 5)).ok());
    EXPECT_TRUE(writing.update(1, progress).ok());
  }
  Writing again(temp.path());
  ASSERT_THAT(again.contents.jobs, SizeIs(2));
  auto& job = again.contents.jobs[0];
  EXPECT_EQ(job.origin.id, "job-1");
  EXPECT_EQ(job.origin.key, std::string("k\0y", 3));
  EXPECT_EQ(job.origin.fingerprint, "print");
  EXPECT_EQ(job.origin.kind, JobKind::SORT);
  EXPECT_EQ(job.origin.label, "label");
  EXPECT_EQ(job.origin.output, "out");
  EXPECT_EQ(job.origin.submitted, 1001);
  EXPECT_EQ(job.task, "") << "the task of a job that has ended is of no more use";
  EXPECT_EQ(job.progress.state, JobState::FAILED);
  EXPECT_EQ(job.progress.started, 5);
  EXPECT_EQ(job.progress.ended, 6);
  EXPECT_EQ(job.progress.starts, 2u);
  EXPECT_EQ(job.progress.stops, 1u);
  EXPECT_EQ(job.progress.placing.size, 77u);
  EXPECT_EQ(job.progress.placing.digest, "digest");
  EXPECT_EQ(job.progress.result.count, 3u);
  EXPECT_EQ(job.progress.result.bytes, 24u);
  EXPECT_TRUE(job.progress.result.single);
  EXPECT_EQ(job.progress.resultBytes, std::string("\0\1", 2));
  EXPECT_EQ(job.progress.error.code, ErrorCode::IO);
  EXPECT_EQ(job.progress.error.message, "it broke");
  EXPECT_EQ(job.progress.error.path, "pa\xFFth");
  EXPECT_EQ(again.contents.jobs[1].task, std::string("\0task", 5));
  EXPECT_EQ(again.contents.jobs[1].progress.state, JobState::QUEUED);
  EXPECT_FALSE(again.contents.jobs[1].progress.resultBytes);
}

TEST_F(JobJournalTest, WritesAllThatWaitsInOneTransaction) {
  Writing writing(temp.path());
  std::promise<void> open;
  auto gate = open.get_future().share();
  writing.journal->add(origin(1), "task", [gate](const Status&) { gate.wait(); });
  std::promise<void> last;
  for (uint64_t i = 2; i <= 201; ++i) {
    writing.journal->add(origin(i), "task", [i, &last](const Status& status) {
      EXPECT_TRUE(status.ok());
      if (i == 201) last.set_value();
    });
  }
  open.set_value();
  last.get_future().get();
  EXPECT_EQ(writing.journal->figures().changes, 201u);
  // The first, and what had come while it was written; whatever came before the gate was reached is with the first.
  EXPECT_LE(writing.journal->figures().transactions, 2u);
}

TEST_F(JobJournalTest, AnswersInTheOrderOfTheChanges) {
  Writing writing(temp.path());
  std::vector<uint64_t> order;
  std::promise<void> last;
  for (uint64_t i = 1; i <= 50; ++i) {
    writing.journal->add(origin(i), "task", [i, &order, &last](const Status&) {
      order.push_back(i);
      if (i == 50) last.set_value();
    });
  }
  last.get_future().get();
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_THAT(order, SizeIs(50));
}

TEST_F(JobJournalTest, AnswersWhatWaitsBeforeItEnds) {
  std::atomic<int> answered{0};
  {
    Writing writing(temp.path());
    for (uint64_t i = 1; i <= 50; ++i) writing.journal->add(origin(i), "task", [&](const Status&) { ++answered; });
  }
  EXPECT_EQ(answered, 50);
  EXPECT_THAT(Writing(temp.path()).contents.jobs, SizeIs(50));
}

TEST_F(JobJournalTest, RefusesWhatHasNoRoomAndTakesWhatHas) {
  Writing writing(temp.path(), {256 << 10});
  EXPECT_TRUE(writing.add(1).ok());
  Status full = writing.add(2, std::string(1 << 20, 'x'));
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().code, ErrorCode::NO_SPACE);
  EXPECT_TRUE(writing.add(3).ok());
}

TEST_F(JobJournalTest, LetsOneThatHasNoRoomSpoilNoOther) {
  Writing writing(temp.path(), {256 << 10});
  std::promise<void> open;
  auto gate = open.get_future().share();
  writing.journal->add(origin(1), "task", [gate](const Status&) { gate.wait(); });
  std::promise<Status> small, large, last;
  writing.journal->add(origin(2), "task", [&](const Status& status) { small.set_value(status); });
  writing.journal->add(origin(3), std::string(1 << 20, 'x'), [&](const Status& status) { large.set_value(status); });
  writing.journal->add(origin(4), "task", [&](const Status& status) { last.set_value(status); });
  open.set_value();
  EXPECT_TRUE(small.get_future().get().ok());
  EXPECT_FALSE(large.get_future().get().ok());
  EXPECT_TRUE(last.get_future().get().ok());
}

TEST_F(JobJournalTest, KeepsTombstonesForAWeekAndNoMoreThanTenThousand) {
  constexpr int64_t DAY = 24ll * 3600 * 1'000'000'000;
  int64_t now = wallClock();
  {
    Writing writing(temp.path());
    ASSERT_TRUE(writing.add(1).ok());
    ASSERT_TRUE(writing.bury(1, now - 8 * DAY).ok());
    ASSERT_TRUE(writing.bury(2, now - 6 * DAY).ok());
  }
  {
    Writing again(temp.path());
    EXPECT_THAT(again.contents.jobs, SizeIs(0));
    ASSERT_THAT(again.contents.tombstones, SizeIs(1));
    EXPECT_EQ(again.contents.tombstones[0].id, "job-2");
    EXPECT_EQ(again.contents.tombstones[0].grant, "owner");
    for (uint64_t i = 0; i < MAX_TOMBSTONES + 5; ++i) {
      again.journal->bury(i, {"many-" + std::to_string(i), "owner", now}, [](const Status&) {});
    }
  }
  Writing last(temp.path());
  ASSERT_THAT(last.contents.tombstones, SizeIs(MAX_TOMBSTONES));
  EXPECT_EQ(last.contents.tombstones[0].id, "many-5");
}

TEST_F(JobJournalTest, MovesADamagedOneAsideAndBeginsANewOne) {
  {
    Writing writing(temp.path());
    for (uint64_t i = 1; i <= 300; ++i) writing.journal->add(origin(i), std::string(500, 't'), [](const Status&) {});
  }
  temp.overwrite("journal.db", std::string(20'000, 'x'), 4096);
  {
    Writing again(temp.path());
    EXPECT_THAT(again.contents.jobs, SizeIs(0));
    EXPECT_TRUE(again.add(1).ok());
  }
  EXPECT_THAT(Writing(temp.path()).contents.jobs, SizeIs(1));
  unsigned aside = 0;
  for (auto& entry : std::filesystem::directory_iterator(temp.path())) {
    aside += entry.path().filename().string().starts_with("journal.db.damaged-");
  }
  EXPECT_EQ(aside, 1u);
  ASSERT_THAT(logged, SizeIs(1));
  EXPECT_THAT(logged[0], HasSubstr("damaged"));
}

TEST_F(JobJournalTest, MovesAsideWhatIsNoDatabase) {
  temp.write("journal.db", std::string(10'000, 'n'));
  Writing writing(temp.path());
  EXPECT_TRUE(writing.add(1).ok());
}

TEST_F(JobJournalTest, IsUsedByOneServerAtATime) {
  Writing writing(temp.path());
  auto second = JobJournal::open(temp.path());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::CONFLICT);
  EXPECT_TRUE(writing.add(1).ok()) << "and the second one does no harm to the first";
}

TEST_F(JobJournalTest, LeavesOneOfALaterVersionAlone) {
  { Writing writing(temp.path()); }
  // The number that PRAGMA user_version stands for, in the header of the file.
  temp.overwrite("journal.db", std::string("\0\0\0\x63", 4), 60);
  auto opened = JobJournal::open(temp.path());
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code, ErrorCode::UNSUPPORTED);
  EXPECT_TRUE(std::filesystem::exists(temp / "journal.db"));
}

TEST_F(JobJournalTest, ReadsOneOfTheFirstVersion) {
  {
    Writing writing(temp.path());
    ASSERT_TRUE(writing.add(1).ok());
  }
  {
    auto database = storage::Database::open(temp / "journal.db", {"the journal", "test"});
    ASSERT_TRUE(database.ok());
    ASSERT_TRUE(database->execute("ALTER TABLE jobs DROP COLUMN stops; PRAGMA user_version = 1").ok());
  }
  Writing writing(temp.path());
  ASSERT_THAT(writing.contents.jobs, SizeIs(1));
  EXPECT_EQ(writing.contents.jobs[0].progress.stops, 0u);
}

TEST_F(JobJournalTest, MayBeReadByItsOwnerOnly) {
  Writing writing(temp.path());
  ASSERT_TRUE(writing.add(1).ok());
  EXPECT_EQ(temp.stat("journal.db").st_mode & 0777, 0600u);
  EXPECT_EQ(temp.stat("journal.db-wal").st_mode & 0777, 0600u);
}

}  // namespace
}  // namespace capstan::server::compute
