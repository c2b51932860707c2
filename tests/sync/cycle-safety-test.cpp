// What a cycle does not do because of doubtful evidence, and that it comes back to it by itself.
#include <gmock/gmock.h>

#include "cycle-fixture.h"

namespace capstan::sync {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Kind = Operation::Kind;

TEST_F(CycleTest, NothingIsRemovedWhenThereIsNoRoomForWhatComesBefore) {
  for (const char* name : {"a", "b", "c"}) write(here, name, name);
  settle(Mode::PUSH);
  remove(here, "a");
  write(here, "d", "d");
  there.full = true;
  auto report = run();
  ASSERT_TRUE(report.stop);
  EXPECT_FALSE(report.stop->wholly);
  ASSERT_EQ(report.withheld.size(), 1u);
  EXPECT_EQ(report.withheld[0].path, "a");
  EXPECT_TRUE(report.withheld[0].isDeletion);
  EXPECT_EQ(tree(there), "a=a b=b c=c");
  there.full = false;
  report = run();
  EXPECT_FALSE(report.stop);
  EXPECT_THAT(takeOperations(), ElementsAre("there put d", "there remove a"));
  EXPECT_EQ(tree(there), tree(here));
}

TEST_F(CycleTest, WhatNobodyCanExplainStaysAndIsToldOnce) {
  write(there, "extra", "precious");
  write(here, "a", "1");
  begin(Mode::PUSH);
  auto report = run();
  ASSERT_TRUE(report.stop);
  EXPECT_EQ(report.stop->deletions, 1u);
  EXPECT_FALSE(report.stop->wholly);
  EXPECT_EQ(tree(there), "a=1 extra=precious");
  letTimePass();
  for (bool whole : {false, true}) {
    report = run(whole);
    EXPECT_FALSE(report.stop) << report.summary();
    EXPECT_THAT(report.withheld, IsEmpty());
  }
  EXPECT_EQ(tree(there), "a=1 extra=precious");
}

TEST_F(CycleTest, WhatNobodyCanExplainGoesOnlyIfExactlySoManyAreAccepted) {
  write(there, "one", "1");
  write(there, "two", "2");
  write(here, "a", "1");
  begin(Mode::PUSH);
  EXPECT_EQ(run().stop->deletions, 2u);
  letTimePass();
  for (uint64_t wrong : {1, 3}) {
    begin(Mode::PUSH, wrong);
    auto report = run();
    ASSERT_TRUE(report.stop);
    EXPECT_EQ(report.stop->deletions, 2u);
    EXPECT_EQ(tree(there), "a=1 one=1 two=2");
  }
  begin(Mode::PUSH, 2);
  auto report = run();
  EXPECT_FALSE(report.stop) << report.summary();
  EXPECT_EQ(tree(there), "a=1");
}

// Not by the number of those that are only there because of what is in them.
TEST_F(CycleTest, AFolderOfWhatNobodyCanExplainIsLeftAloneWithIt) {
  makeFolder(there, "folder");
  write(there, "folder/extra", "precious");
  write(here, "folder", "a file");
  begin(Mode::PUSH);
  EXPECT_TRUE(run().stop);
  remove(here, "folder");
  letTimePass();
  auto report = run(true);
  EXPECT_FALSE(report.stop) << report.summary();
  EXPECT_EQ(tree(there), "folder/ folder/extra=precious");
}

TEST_F(CycleTest, TooManyDeletionsAtOnceStopItWhollyUntilTheyAreAccepted) {
  for (const char* name : {"a", "b", "c"}) write(here, name, name);
  settle(Mode::PUSH);
  remove(here, "a");
  remove(here, "b");
  write(here, "d", "d");
  auto report = run();
  ASSERT_TRUE(report.stop);
  EXPECT_TRUE(report.stop->wholly);
  EXPECT_EQ(report.stop->deletions, 2u);
  EXPECT_THAT(takeOperations(), IsEmpty());
  begin(Mode::PUSH, 2);
  EXPECT_FALSE(run().stop);
  EXPECT_EQ(tree(there), "c=c d=d");
}

TEST_F(CycleTest, AFolderThatIsNotThereRemovesNothingAlsoBeforeTheFirstRunWasComplete) {
  write(here, "a", "1");
  write(here, "b", "2");
  write(there, "c", "3");
  begin(Mode::TWO_WAY, std::nullopt, 1);
  local->beforeOperation = [](const Operation& operation) -> std::optional<Error> {
    return errorWith(ErrorCode::IO, operation.path);
  };
  remote->beforeOperation = [](const Operation& operation) -> std::optional<Error> {
    if (operation.path == "a") return std::nullopt;
    return errorWith(ErrorCode::UNREACHABLE, operation.path);
  };
  run();
  EXPECT_GT(state->count(), 0u);
  EXPECT_TRUE(state->get("last-run").empty());
  there.mounted = there.exists = false;
  auto report = run();
  ASSERT_TRUE(report.stop);
  EXPECT_EQ(tree(here), "a=1 b=2");
  there.mounted = there.exists = true;
  local->beforeOperation = remote->beforeOperation = nullptr;
  EXPECT_FALSE(run().stop);
  EXPECT_EQ(tree(here), "a=1 b=2 c=3");
}

TEST_F(CycleTest, AfterAnotherFolderWasInItsPlaceEverythingIsLookedAt) {
  for (const char* name : {"a", "b", "c"}) write(there, name, name);
  settle(Mode::TWO_WAY);
  there.mounted = false;  // an empty mount point
  remove(here, "a");
  write(here, "b", "changed");
  write(here, "c", "changed");
  run();
  there.mounted = true;
  begin(Mode::TWO_WAY);
  for (int i = 0; i < 2; ++i) run();
  EXPECT_EQ(tree(here), tree(there));
}

TEST_F(CycleTest, AFolderInWhichARemovalFailedIsNotTakenForOneThatHoldsSomethingIgnored) {
  makeFolder(here, "folder");
  for (const char* name : {"folder/a", "x", "y", "z"}) write(here, name, name);
  settle(Mode::PUSH);
  remove(here, "folder");
  remote->beforeOperation = [](const Operation& operation) -> std::optional<Error> {
    if (operation.path == "folder/a") return errorWith(ErrorCode::DENIED, operation.path);
    return std::nullopt;
  };
  EXPECT_EQ(run().failures.size(), 1u);
  EXPECT_FALSE(state->isKept("folder"));
  remote->beforeOperation = nullptr;
  run();
  EXPECT_EQ(tree(there), "x=x y=y z=z");
}

TEST_F(CycleTest, AFolderThatHoldsSomethingIgnoredStaysQuietly) {
  makeFolder(here, "folder");
  for (const char* name : {"folder/a", "x", "y", "z"}) write(here, name, name);
  settle(Mode::PUSH);
  write(there, "folder/b.o", "ignored");
  remove(here, "folder");
  auto report = run();
  EXPECT_THAT(report.failures, IsEmpty());
  EXPECT_FALSE(report.stop);
  EXPECT_EQ(tree(there), "folder/ folder/b.o=ignored x=x y=y z=z");
  takeOperations();
  run(true);
  EXPECT_THAT(takeOperations(), IsEmpty());
}

TEST_F(CycleTest, RulesThatWereReadAndAreGoneBeforeTheyWereAgreedUponDoNotCount) {
  makeFolder(here, "folder");
  settle(Mode::TWO_WAY);
  write(here, ".capstanignore", "folder/\n");
  remote->lookError = errorWith(ErrorCode::UNREACHABLE, "");
  EXPECT_TRUE(run(true).error);
  remote->lookError.reset();
  remove(here, ".capstanignore");
  write(here, "folder/a", "1");
  for (int i = 0; i < 2; ++i) run();
  EXPECT_EQ(tree(there), "folder/ folder/a=1");
}

// A folder was moved here in the same moment in which something in it was changed at the server: its size and time tell
// nothing.
TEST_F(CycleTest, AYoungFileInAMovedFolderIsLookedInto) {
  makeFolder(here, "old");
  write(here, "old/a", "1");
  makeFolder(here, "other");
  begin(Mode::PUSH);
  run();
  ASSERT_TRUE(there.write("old/a", "2", 1, ++now, 0644, false));  // without another stamp or time
  move(here, "old", "other/new");
  run();
  letTimePass();
  run();
  EXPECT_EQ(tree(there), "other/ other/new/ other/new/a=1");
}

TEST_F(CycleTest, RulesThatCannotBeReadAreNotTakenForNone) {
  write(here, ".capstanignore", "secret\n");
  write(here, "secret", "not for others");
  begin(Mode::PUSH);
  run();
  write(here, "a", "1");
  remove(here, ".capstanignore");
  write(here, ".capstanignore", "secret\n# the same\n");
  rulesAreUnreadable = errorWith(ErrorCode::IO, ".capstanignore");
  begin(Mode::PUSH);
  auto report = run();
  ASSERT_TRUE(report.error);
  EXPECT_EQ(report.error->code, ErrorCode::IO);
  EXPECT_EQ(there.find("a"), nullptr);
  EXPECT_EQ(there.find("secret"), nullptr);
  rulesAreUnreadable.reset();
  EXPECT_FALSE(run().error);
  EXPECT_NE(there.find("a"), nullptr);
  EXPECT_EQ(there.find("secret"), nullptr);
}

TEST_F(CycleTest, ACycleIsCancelledAlsoWhileNobodyAnswers) {
  begin(Mode::PUSH);
  write(here, "a", "1");
  isStuck = true;
  auto running = cycle->run({false, false});
  EXPECT_FALSE(running.poll(waitScope));
  cycle->cancel();
  ASSERT_TRUE(running.poll(waitScope));
  EXPECT_FALSE(running.wait(waitScope).didSomething());
  isStuck = false;
  EXPECT_FALSE(run().error);
  EXPECT_EQ(tree(there), "a=1");
}

TEST_F(CycleTest, APathThatFailsInTheFirstRunDoesNotMakeAllRunsTheFirst) {
  begin(Mode::TWO_WAY);
  write(here, "a", "1");
  write(here, "c", "1");
  write(there, "b", "2");
  local->beforeOperation = [](const Operation& operation) -> std::optional<Error> {
    if (operation.path == "b") return errorWith(ErrorCode::DENIED, "b");
    return std::nullopt;
  };
  EXPECT_EQ(run().failures.size(), 1u);
  EXPECT_FALSE(state->get("last-run").empty());
  remove(here, "a");
  EXPECT_EQ(run().failures.size(), 1u);
  EXPECT_EQ(tree(there), "b=2 c=1");
  // Another process: the cursor says nothing of it any more.
  begin(Mode::TWO_WAY);
  EXPECT_FALSE(run().error);
  EXPECT_EQ(tree(here), "b=2 c=1");
  EXPECT_TRUE(state->get("again").empty());
}

TEST_F(CycleTest, ANumberOfDeletionsIsAcceptedOnce) {
  for (int i = 0; i < 8; ++i) write(here, "f" + std::to_string(i), "x");
  settle(Mode::PUSH);
  for (int i = 0; i < 5; ++i) remove(here, "f" + std::to_string(i));
  begin(Mode::PUSH, 5);
  remote->beforeOperation = [](const Operation& operation) -> std::optional<Error> {
    if (operation.path == "f0") return errorWith(ErrorCode::DENIED, "f0");
    return std::nullopt;
  };
  EXPECT_EQ(run().removed, 4u);
  remote->beforeOperation = nullptr;
  for (int i = 0; i < 4; ++i) write(here, "g" + std::to_string(i), "x");
  run();
  for (int i = 0; i < 4; ++i) remove(here, "g" + std::to_string(i));
  remove(here, "f5");
  EXPECT_TRUE(run().stop);
}

// A run that is killed after it has placed something, and before it has recorded that: nothing is agreed about it, but
// it came after both were in step, and the target of a mirror keeps nothing that has come since.
TEST_F(CycleTest, WhatAKilledRunHasPlacedAndNotRecordedGoesWithWhatItCameFrom) {
  for (Mode mode : {Mode::PUSH, Mode::PULL}) {
    auto& from = mode == Mode::PUSH ? here : there;
    auto& to = mode == Mode::PUSH ? there : here;
    for (const char* name : {"a", "b", "c"}) write(from, name, name);
    settle(mode);
    write(from, "placed", "1");
    killInRun(mode);
    ASSERT_NE(to.find("placed"), nullptr);
    ASSERT_FALSE(state->find("placed"));
    remove(from, "placed");
    begin(mode);
    EXPECT_FALSE(run().stop) << nameOf(mode);
    EXPECT_EQ(tree(to), "a=a b=b c=c") << nameOf(mode);
  }
}

// Without an agreement nobody can tell it from something that a user has made.
TEST_F(CycleTest, WhatAKilledTwoWayRunHasPlacedAndNotRecordedComesBack) {
  for (const char* name : {"a", "b", "c"}) write(here, name, name);
  settle(Mode::TWO_WAY);
  write(there, "placed", "1");
  killInRun(Mode::TWO_WAY);
  ASSERT_NE(here.find("placed"), nullptr);
  ASSERT_FALSE(state->find("placed"));
  remove(there, "placed");
  begin(Mode::TWO_WAY);
  EXPECT_FALSE(run().stop);
  EXPECT_EQ(tree(there), "a=a b=b c=c placed=1");
  EXPECT_EQ(tree(here), tree(there));
}

// Before the first run was complete nobody knows what was there before it.
TEST_F(CycleTest, WhatAKilledFirstRunHasPlacedAndNotRecordedStaysAndIsTold) {
  for (const char* name : {"a", "b", "c"}) write(there, name, name);
  killInRun(Mode::PULL);
  ASSERT_EQ(tree(here), "a=a b=b c=c");
  ASSERT_EQ(state->count(), 0u);
  remove(there, "c");
  begin(Mode::PULL);
  auto report = run();
  ASSERT_TRUE(report.stop);
  EXPECT_EQ(report.stop->deletions, 1u);
  EXPECT_FALSE(report.stop->wholly);
  EXPECT_EQ(tree(here), "a=a b=b c=c");
  begin(Mode::PULL, 1);
  run();
  EXPECT_EQ(tree(here), "a=a b=b");
}

// In each mode, and whichever side it is that cannot be read: here it is `disk`, the other one `whole`.
class UnreadableFolder : public CycleTest, public testing::WithParamInterface<std::tuple<Mode, Side>> {
 protected:
  const Mode mode = std::get<0>(GetParam());
  const Side side = std::get<1>(GetParam());
  sim::FakeDisk& disk = side == Side::LOCAL ? here : there;
  sim::FakeDisk& whole = side == Side::LOCAL ? there : here;

  void expectUnread(const CycleReport& report, const std::string& path) {
    ASSERT_EQ(report.unread.size(), 1u) << report.summary();
    EXPECT_EQ(report.unread[0].path, path);
    EXPECT_EQ(report.unread[0].side, side);
    EXPECT_FALSE(report.stop) << report.stop->sentence;
    EXPECT_FALSE(report.error);
    EXPECT_THAT(report.failures, IsEmpty());
  }
  void fill() {
    for (auto* each : {&here, &there}) {
      for (const char* folder : {"a", "a/closed", "b"}) makeFolder(*each, folder);
      for (const char* file : {"a/closed/x", "a/closed/y", "a/f", "b/f", "b/g", "b/h", "c", "d"})
        ASSERT_TRUE(each->write(file, file, std::string(file).size(), 1'600'000'000'000'000'000, 0644, false));
      letTimePass();
    }
  }
};

std::string nameOfCase(const testing::TestParamInfo<std::tuple<Mode, Side>>& info) {
  std::string mode(nameOf(std::get<0>(info.param)));
  std::erase(mode, '-');
  return mode + (std::get<1>(info.param) == Side::LOCAL ? "Local" : "Remote");
}
INSTANTIATE_TEST_SUITE_P(Modes, UnreadableFolder,
                         testing::Combine(testing::Values(Mode::PUSH, Mode::PULL, Mode::TWO_WAY),
                                          testing::Values(Side::LOCAL, Side::REMOTE)),
                         nameOfCase);

TEST_P(UnreadableFolder, LosesNothingOnEitherSideWhateverTheOtherHasDone) {
  fill();
  settle(mode);
  disk.unreadable = "a/closed";
  remove(whole, "a/closed/x");
  write(whole, "a/closed/new", "new");
  remove(disk, "b/f");
  auto before = tree(whole);
  auto report = run(true);
  expectUnread(report, "a/closed");
  EXPECT_NE(disk.find("a/closed/x"), nullptr);
  EXPECT_NE(whole.find("a/closed/y"), nullptr);
  EXPECT_NE(whole.find("a/closed/new"), nullptr);
  bool isSource = mode == Mode::TWO_WAY || side == (mode == Mode::PUSH ? Side::LOCAL : Side::REMOTE);
  EXPECT_EQ(whole.find("b/f") == nullptr, isSource) << "the evidence for that is good";
}

TEST_P(UnreadableFolder, IsToldByEachRunAndProcessAsLongAsItLasts) {
  fill();
  settle(mode);
  disk.unreadable = "a/closed";
  write(whole, "a/closed/new", "new");
  expectUnread(run(true), "a/closed");
  letTimePass();
  takeOperations();
  for (int i = 0; i < 3; ++i) {
    if (i > 0) begin(mode);
    expectUnread(run(), "a/closed");
    EXPECT_THAT(takeOperations(), IsEmpty());
  }
  disk.unreadable.clear();
  auto report = run();
  EXPECT_THAT(report.unread, IsEmpty());
  EXPECT_THAT(report.failures, IsEmpty());
  bool isSource = mode == Mode::TWO_WAY || side != (mode == Mode::PUSH ? Side::LOCAL : Side::REMOTE);
  if (isSource) EXPECT_NE(disk.find("a/closed/new"), nullptr) << "what waited for it is brought over";
  EXPECT_NE(whole.find("a/closed/new"), nullptr) << "nobody could tell since when it is there";
}

TEST_P(UnreadableFolder, AndThoseAboveItAreNotRemoved) {
  fill();
  settle(mode);
  disk.unreadable = "a/closed";
  remove(whole, "a");
  write(whole, "e", "new");
  auto report = run(true);
  expectUnread(report, "a/closed");
  EXPECT_NE(disk.find("a/closed/x"), nullptr);
  EXPECT_NE(disk.find("a/closed/y"), nullptr);
}

TEST_P(UnreadableFolder, ThatWasNeverSeenHidesWhatTheOtherSideHasInIt) {
  fill();
  disk.unreadable = "a/closed";
  remove(disk, "a/closed/x");
  remove(whole, "a/closed/y");
  begin(mode);
  expectUnread(run(), "a/closed");
  letTimePass();
  begin(mode);
  expectUnread(run(), "a/closed");
  EXPECT_NE(whole.find("a/closed/x"), nullptr);
  // Nobody knows since when its contents are there, when they can be seen at last.
  disk.unreadable.clear();
  letTimePass();
  begin(mode);
  auto report = run(true);
  EXPECT_EQ(report.stop.has_value(), mode != Mode::TWO_WAY);
  EXPECT_NE(whole.find("a/closed/x"), nullptr);
  EXPECT_NE(disk.find("a/closed/y"), nullptr);
  EXPECT_EQ(report.removed, 0u);
}

TEST_P(UnreadableFolder, ThatWasRenamedTakesNothingAlong) {
  fill();
  settle(mode);
  move(disk, "a", "z");
  disk.unreadable = "z/closed";
  auto report = run(true);
  expectUnread(report, "z/closed");
  for (auto* each : {&disk, &whole}) {
    size_t count = 0;
    for (auto& [path, item] : each->view()) count += path.ends_with("/closed/x") || path.ends_with("/closed/y");
    EXPECT_EQ(count, 2u) << tree(*each);
  }
}

}  // namespace
}  // namespace capstan::sync
