#include <capstan/storage/staging.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <set>

#include <capstan/storage/staged-file.h>

#include "temp-folder.h"

namespace capstan::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

class StagingTest : public ::testing::Test {
 protected:
  TempFolder temp;
  std::unique_ptr<Root> root = std::move(Root::open(temp.path()).value());

  std::unique_ptr<Staging> open(uint64_t resumeTime = 3600'000'000'000) {
    return std::move(Staging::open(*root, resumeTime).value());
  }
  std::vector<std::string> namesIn(const std::string& folder) {
    std::vector<std::string> names;
    for (auto& item : std::filesystem::directory_iterator(temp / folder)) names.push_back(item.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  // What a server leaves behind that is killed: a folder whose lock nobody holds.
  void leaveBehind(const std::string& instance) {
    temp.write(".capstan/staging/" + instance + "/lock", "");
    temp.write(".capstan/staging/" + instance + "/0", "half an upload");
    temp.write(".capstan/staging/" + instance + "/1/removed/folder", "x");
  }
};

TEST_F(StagingTest, SweepsWhatDeadServersLeftAndNothingOfLiveOnes) {
  auto live = open();
  auto file = live->create().value();
  ASSERT_TRUE(writeAt(file->fd(), "mine", 4, 0));
  leaveBehind("1-dead");
  leaveBehind("2-dead");
  auto second = open();
  second->finishDeleting();
  EXPECT_THAT(namesIn(".capstan/staging"), SizeIs(3));  // two live ones and resume
  struct stat status;
  EXPECT_EQ(fstatat(file->folder(), file->name().c_str(), &status, 0), 0);
  EXPECT_EQ(status.st_size, 4);
  second = nullptr;
  file = nullptr;
  live = nullptr;
  EXPECT_THAT(namesIn(".capstan/staging"), ElementsAre("resume"));
}

TEST_F(StagingTest, DropsWhatIsNotKept) {
  auto staging = open();
  { auto file = staging->create().value(); }
  staging->finishDeleting();
  EXPECT_THAT(namesIn(".capstan/staging"), SizeIs(2));
  std::string own;
  for (auto& name : namesIn(".capstan/staging")) {
    if (name != "resume") own = name;
  }
  auto left = namesIn(".capstan/staging/" + own);
  ASSERT_THAT(left, ElementsAre(StartsWith("lane-"), "lock"));
  EXPECT_THAT(namesIn(".capstan/staging/" + own + "/" + left[0]), SizeIs(0));
}

TEST_F(StagingTest, KeepsResumableContentForItsTime) {
  std::string name = Staging::resumeNameOf("grant", "path", "key");
  {
    auto staging = open();
    auto file = staging->resume(name).value();
    ASSERT_TRUE(writeAt(file->fd(), "half", 4, 0));
    staging->sweep();
  }
  {
    auto staging = open();
    auto file = staging->resume(name).value();
    struct stat status;
    ASSERT_EQ(fstat(file->fd(), &status), 0);
    EXPECT_EQ(status.st_size, 4);
    auto expired = open(0);  // its sweep leaves what is in use
    EXPECT_THAT(namesIn(".capstan/staging/resume"), ElementsAre(name));
  }
  auto expired = open(0);
  EXPECT_THAT(namesIn(".capstan/staging/resume"), IsEmpty());
}

TEST_F(StagingTest, TellsResumableUploadsApartByAllOfTheirParts) {
  std::set<std::string> names;
  for (auto [grant, path, key] :
       {std::tuple("a", "b", "c"), {"ab", "", "c"}, {"a", "bc", ""}, {"", "ab", "c"}, {"a", "b", "cc"}}) {
    names.insert(Staging::resumeNameOf(grant, path, key));
  }
  EXPECT_THAT(names, SizeIs(5));
}

TEST_F(StagingTest, HandsResumableContentToWhoeverComesLast) {
  auto staging = open();
  auto first = staging->resume("name").value();
  ASSERT_TRUE(writeAt(first->fd(), "half", 4, 0));
  auto second = staging->resume("name").value();
  EXPECT_FALSE(first->tryUse().ok());
  EXPECT_TRUE(second->tryUse().ok());
  first = nullptr;
  EXPECT_THAT(namesIn(".capstan/staging/resume"), ElementsAre("name"));
  char found[4];
  EXPECT_EQ(readAt(second->fd(), found, 4, 0), 4);
}

TEST_F(StagingTest, SaysSoWhenAnotherServerHasTheResumableContent) {
  auto mine = open(), theirs = open();
  auto file = theirs->resume("name").value();
  auto refused = mine->resume("name");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::OVERLOADED);
  file = nullptr;
  EXPECT_TRUE(mine->resume("name").ok());
}

TEST_F(StagingTest, StartsAnewAfterDiscarding) {
  auto staging = open();
  auto first = staging->resume("name").value();
  ASSERT_TRUE(writeAt(first->fd(), "wrong", 5, 0));
  first->discard();
  auto second = staging->resume("name").value();
  struct stat status;
  ASSERT_EQ(fstat(second->fd(), &status), 0);
  EXPECT_EQ(status.st_size, 0);
}

TEST_F(StagingTest, ReadsTheUmaskOnce) {
  mode_t before = umask(027);
  auto staging = open();
  umask(before);
  EXPECT_EQ(staging->newFileMode(), 0640u);
}

}  // namespace
}  // namespace capstan::storage
