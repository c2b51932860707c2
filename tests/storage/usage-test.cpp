// How much a folder holds: the right sum, in slices, in a time that grows with what is there and not with its depth.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>

#include <gtest/gtest.h>

#include <capstan/storage/usage.h>

#include "temp-folder.h"

namespace capstan::storage {
namespace {

constexpr int OPEN_FOLDER = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

double secondsOfThisThread() {
  timespec used;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return double(used.tv_sec) + double(used.tv_nsec) / 1e9;
}

class UsageTest : public ::testing::Test {
 public:
  ~UsageTest() noexcept override {}

 protected:
  TempFolder temp;
  kj::AutoCloseFd top{open(temp.path().c_str(), OPEN_FOLDER)};

  uint64_t bytes() { return contentIn(top, ".") - LEAST_CHARGE; }
  static uint64_t walked(ContentWalk& walk, size_t slice, size_t& slices) {
    size_t budget = slice;
    for (slices = 1; !walk.step(budget); ++slices) budget = slice;
    return walk.bytes();
  }
};

// Each folder holds two: the next one, and an empty one, for which one has to come back from below. Paths are too long
// for everybody but those who go step by step.
class Chain {
 public:
  Chain(int top, int depth) : depth(depth), bottom(openat(top, ".", OPEN_FOLDER)) {
    for (int i = 0; i < depth; ++i) {
      KJ_REQUIRE(mkdirat(bottom, "a", 0700) == 0 && mkdirat(bottom, i % 2 == 0 ? "b" : "0", 0700) == 0);
      bottom = kj::AutoCloseFd(openat(bottom, "a", OPEN_FOLDER));
    }
  }
  ~Chain() noexcept {
    for (int i = depth; i-- > 0;) {
      bottom = kj::AutoCloseFd(openat(bottom, "..", OPEN_FOLDER));
      for (auto name : {"a", "b", "0"}) unlinkat(bottom, name, AT_REMOVEDIR);
    }
  }

 private:
  const int depth;
  kj::AutoCloseFd bottom;
};

TEST_F(UsageTest, TakesNoLongerForDeepFoldersThanForManyInARow) {
  constexpr int DEPTH = 3000;  // some file systems take long to make more
  Chain chain(top, DEPTH);
  double begin = secondsOfThisThread();
  EXPECT_EQ(bytes(), 2 * DEPTH * LEAST_CHARGE);
  EXPECT_LT(secondsOfThisThread() - begin, 1) << "not as the square of the depth";
}

TEST_F(UsageTest, CountsSizesHolesIncludedAndFilesWithSeveralNamesOnce) {
  temp.write("folder/file", std::string(10'000, 'x'));
  temp.write("folder/inner/small", "x");
  temp.link("link", "folder/file");
  temp.write("holes", "");
  ASSERT_EQ(truncate((temp / "holes").c_str(), 1 << 30), 0);
  ASSERT_EQ(::link((temp / "folder/file").c_str(), (temp / "again").c_str()), 0);
  EXPECT_EQ(bytes(), 10'000 + (1 << 30) + 4 * LEAST_CHARGE) << "two folders, a small file, a symlink";
  EXPECT_EQ(contentIn(top, "folder/file"), 10'000u);
  EXPECT_EQ(contentIn(top, "missing"), 0u);
  ContentWalk walk(top, ".");
  size_t slices = 0;
  walked(walk, 100, slices);
  EXPECT_LT(walk.onDisk(), 1 << 20) << "holes are not on the disk";
}

TEST_F(UsageTest, GoesOnInSlices) {
  for (int i = 0; i < 100; ++i) temp.write("folder " + std::to_string(i % 10) + "/" + std::to_string(i), "x");
  ContentWalk walk(top, ".");
  size_t slices = 0;
  EXPECT_EQ(walked(walk, 7, slices) - LEAST_CHARGE, bytes());
  EXPECT_GE(slices, 110u / 7);
}

TEST_F(UsageTest, CountsAllThatStaysWhereItIsWhateverIsMovedMeanwhile) {
  temp.makeFolder("outside");
  kj::AutoCloseFd outside(open((temp / "outside").c_str(), OPEN_FOLDER));
  temp.makeFolder("inside/a/b/c/d");
  temp.makeFolder("inside/a/b/e");
  for (auto folder : {"inside/a/f", "inside/g/h", "inside/i"}) temp.makeFolder(folder);
  size_t all = contentIn(top, "inside") / LEAST_CHARGE;
  ASSERT_EQ(all, 10u);
  for (size_t before = 0; before < 30; ++before) {
    ContentWalk walk(top, "inside");
    size_t budget = before;
    bool done = walk.step(budget);
    ASSERT_EQ(renameat(top, "inside/a/b", outside, "b"), 0);  // with three below
    for (budget = 1; !done && !walk.step(budget);) budget = 1;
    EXPECT_GE(walk.bytes() / LEAST_CHARGE, all - 4) << before;
    EXPECT_LE(walk.bytes() / LEAST_CHARGE, all) << before;
    ASSERT_EQ(renameat(outside, "b", top, "inside/a/b"), 0);
  }
}

}  // namespace
}  // namespace capstan::storage
