// Which folder a server gets, and what becomes of those that dead servers left: no job stays behind, whenever a server
// that takes them over is killed.
#include <capstan/server/compute/jobs/compute-folder.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "job-house.h"

#include <capstan/base/log.h>

namespace capstan::server::compute {
namespace {

using ::testing::SizeIs;

class ComputeFolder : public ::testing::Test {
 protected:
  storage::TempFolder temp;

  LockedFolder lock() {
    auto locked = lockComputeFolder(temp.path());
    KJ_REQUIRE(locked.ok(), locked.error().message.c_str());
    return std::move(*locked);
  }
  std::string folder(const std::string& name) { return temp.path() + "/.capstan/compute/" + name; }
  static void write(const std::string& path, const std::string& content) { std::ofstream(path) << content; }

  // What a server left that died with a queued job, one that is done and a tombstone.
  struct Left {
    std::string name;
    void operator()(ComputeFolder& test) const {
      std::string path = test.folder(name);
      std::filesystem::create_directories(path);
      write(path + "/lock", "");
      write(path + "/" + name + ".input-1", "5\n6\n");
      write(path + "/" + name + "-done.result", "1\n2\n");
      auto journal = JobJournal::open(path);
      KJ_REQUIRE(journal.ok());
      auto then = [](const Status& status) { KJ_ASSERT(status.ok()); };
      ContentInfo info{ElementType::INT, Encoding::LINES, 2, 4, false};
      (*journal)->add(origin(1, "-queued"), serialize(taskOn(JobKind::SUM, InputFile{name + ".input-1", info})), then);
      (*journal)->add(origin(2, "-done"), {}, then);
      JobProgress done;
      done.state = JobState::DONE;
      done.ended = wallClock();
      done.result = info;
      (*journal)->update(2, done, then);
      (*journal)->add(origin(3, "-gone"), {}, then);
      (*journal)->bury(3, {name + "-gone", "owner", wallClock()}, then);
    }
    JobOrigin origin(uint64_t sequence, const char* suffix) const {
      JobOrigin origin;
      origin.sequence = sequence;
      origin.id = name + suffix;
      origin.grant = "owner";
      origin.kind = JobKind::SUM;
      return origin;
    }
  };

  void expectComplete(JobHouse& house, const std::string& name) {
    EXPECT_EQ(house.wait(house.find(name + "-queued")).state, JobState::DONE);
    house.result(house.find(name + "-queued"));
    EXPECT_EQ(*house.got->number(), Number(int64_t(11)));
    EXPECT_EQ(house.result(house.find(name + "-done")), "1\n2\n");
    EXPECT_EQ(house.findError(name + "-gone"), ErrorCode::EXPIRED);
  }
};

TEST_F(ComputeFolder, IsTheFirstThatIsFree) {
  auto first = lock(), second = lock();
  EXPECT_EQ(second.path, first.path + "-2");
  std::string path = first.path;
  first.lock = nullptr;
  EXPECT_EQ(lock().path, path);
}

TEST_F(ComputeFolder, GetsTheJobsOfAllThatNobodyUses) {
  Left{"HOST-2"}(*this);
  Left{"another-host"}(*this);
  auto own = lock();
  adoptComputeFolders(own);
  EXPECT_FALSE(std::filesystem::exists(folder("HOST-2")));
  EXPECT_FALSE(std::filesystem::exists(folder("another-host")));
  JobHouse house(temp.path(), {}, own.path);
  expectComplete(house, "HOST-2");
  expectComplete(house, "another-host");
  EXPECT_THAT(house.jobs->list("owner", {}, 0).jobs, SizeIs(4));
  house.reopen();
  expectComplete(house, "HOST-2");
}

TEST_F(ComputeFolder, LeavesThoseThatAreInUse) {
  auto own = lock(), other = lock();
  std::string name = std::filesystem::path(other.path).filename().string();
  Left{name}(*this);
  adoptComputeFolders(own);
  {
    JobHouse house(temp.path(), {}, own.path);
    EXPECT_THAT(house.jobs->list("owner", {}, 0).jobs, SizeIs(0));
  }
  JobHouse house(temp.path(), {}, other.path);
  expectComplete(house, name);
}

TEST_F(ComputeFolder, MayBeAdoptedAgainAfterTheFilesAreThere) {
  auto own = lock();
  Left{"HOST-2"}(*this);
  write(own.path + "/HOST-2.input-1", "of an earlier try");
  std::filesystem::create_hard_link(folder("HOST-2") + "/HOST-2-done.result", own.path + "/HOST-2-done.result");
  adoptComputeFolders(own);
  JobHouse house(temp.path(), {}, own.path);
  expectComplete(house, "HOST-2");
}

TEST_F(ComputeFolder, MayBeAdoptedAgainAfterTheJournalIsThere) {
  auto own = lock();
  Left{"HOST-2"}(*this);
  adoptComputeFolders(own);
  // The folder is there still, and the other half of what each file was.
  std::filesystem::create_directories(folder("HOST-2"));
  write(folder("HOST-2") + "/lock", "");
  write(folder("HOST-2") + "/HOST-2.input-1", "5\n6\n");
  adoptComputeFolders(own);
  EXPECT_FALSE(std::filesystem::exists(folder("HOST-2")));
  JobHouse house(temp.path(), {}, own.path);
  expectComplete(house, "HOST-2");
}

TEST_F(ComputeFolder, KnowsEachJobOnceIfItsJournalIsReadTwice) {
  auto own = lock();
  Left{"HOST-2"}(*this);
  adoptComputeFolders(own);
  std::string journal;
  for (auto& entry : std::filesystem::directory_iterator(own.path)) {
    if (isAdoptedJournal(entry.path().filename().string())) journal = entry.path().string();
  }
  ASSERT_NE(journal, "");
  std::filesystem::copy_file(journal, temp / "copy");
  JobHouse house(temp.path(), {}, own.path);
  expectComplete(house, "HOST-2");
  house.jobs = nullptr;
  std::filesystem::copy_file(temp / "copy", journal);
  house.open();
  auto page = house.jobs->list("owner", {}, 0);
  EXPECT_THAT(page.jobs, SizeIs(2));
  EXPECT_EQ(house.status(house.find("HOST-2-queued")).starts, 1u);
  EXPECT_FALSE(std::filesystem::exists(journal));
}

TEST_F(ComputeFolder, KeepsTheFilesOfJobsThatCannotBeReadYet) {
  log::setLevel(log::Level::ERROR);
  auto own = lock();
  Left{"HOST-2"}(*this);
  adoptComputeFolders(own);
  write(own.path + "/unknown.input-1", "of the other");
  std::filesystem::create_directories(own.path + "/adopted-other.db");  // no file: it cannot be opened
  JobHouse house(temp.path(), {}, own.path);
  expectComplete(house, "HOST-2");
  EXPECT_TRUE(std::filesystem::exists(own.path + "/unknown.input-1"));
}

TEST_F(ComputeFolder, WithADamagedJournalStaysWhereItIs) {
  log::setLevel(log::Level::ERROR);
  auto own = lock();
  Left{"HOST-2"}(*this);
  write(folder("HOST-2") + "/journal.db", "no database");
  adoptComputeFolders(own);
  EXPECT_TRUE(std::filesystem::exists(folder("HOST-2") + "/journal.db"));
  EXPECT_TRUE(std::filesystem::exists(folder("HOST-2") + "/HOST-2.input-1"));
  JobHouse house(temp.path(), {}, own.path);
  EXPECT_THAT(house.jobs->list("owner", {}, 0).jobs, SizeIs(0));
}

}  // namespace
}  // namespace capstan::server::compute
