// How one cycle carries out a plan and remembers what came of it; what the plan is to be is specified in plan-test.cpp.
#include <gmock/gmock.h>

#include "cycle-fixture.h"

namespace capstan::sync {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Kind = Operation::Kind;

TEST_F(CycleTest, BringsEverythingInStepAndThenFindsNothingToDo) {
  makeFolder(here, "folder");
  write(here, "folder/a", "1");
  write(there, "b", "2");
  auto report = run();
  EXPECT_EQ(report.filesSent, 1u);
  EXPECT_EQ(report.filesReceived, 1u);
  EXPECT_EQ(report.foldersMade, 1u);
  EXPECT_EQ(tree(here), "b=2 folder/ folder/a=1");
  EXPECT_EQ(tree(there), tree(here));
  takeOperations();
  EXPECT_FALSE(run().didSomething());
  begin(Mode::TWO_WAY);
  EXPECT_FALSE(run(true).didSomething());
  EXPECT_THAT(takeOperations(), IsEmpty());
}

TEST_F(CycleTest, ExpectsWhatEarlierOperationsHaveMadeOfThePlace) {
  write(here, "a", "content");
  settle(Mode::PUSH);
  move(here, "a", "b");
  setMode(here, "b", 0600);
  auto report = run();
  EXPECT_EQ(report.deferred, 0u) << report.summary();
  EXPECT_THAT(takeOperations(), ElementsAre("there move a b", "there set-metadata b"));
  EXPECT_EQ(there.find("b")->node.mode, 0600u);
}

TEST_F(CycleTest, AMoveIsNotAgreedUponBeforeAllOfItIsInStep) {
  write(here, "a", "content");
  settle(Mode::PUSH);
  move(here, "a", "b");
  setMode(here, "b", 0600);
  remote->beforeOperation = [](const Operation& operation) -> std::optional<Error> {
    if (operation.kind == Kind::SET_METADATA) return errorWith(ErrorCode::IO, operation.path);
    return std::nullopt;
  };
  EXPECT_EQ(run().failures.size(), 1u);
  EXPECT_THAT(takeOperations(), ElementsAre("there move a b"));
  EXPECT_FALSE(state->find("a"));
  begin(Mode::PUSH);
  run(true);
  EXPECT_THAT(takeOperations(), ElementsAre("there set-metadata b"));
  EXPECT_EQ(there.find("b")->node.mode, 0600u);
}

TEST_F(CycleTest, NothingIsRememberedBeforeTheSideHasAnswered) {
  write(here, "a", "content");
  bool asked = false;
  remote->beforeAnswer = [&]() {
    asked = true;
    EXPECT_NE(there.find("a"), nullptr);
    EXPECT_FALSE(state->find("a"));
  };
  run();
  EXPECT_TRUE(asked);
  EXPECT_TRUE(state->find("a"));
}

TEST_F(CycleTest, TheAgreementsAboutAMovedFolderMoveWithIt) {
  makeFolder(here, "old");
  makeFolder(here, "old/inner");
  write(here, "old/inner/a", "1");
  write(here, "old/b", "2");
  settle(Mode::TWO_WAY);
  move(here, "old", "new");
  run();
  EXPECT_THAT(takeOperations(), ElementsAre("there move old new"));
  for (const char* path : {"new", "new/inner", "new/inner/a", "new/b"}) {
    auto agreed = state->find(path);
    ASSERT_TRUE(agreed) << path;
    EXPECT_TRUE(isAsAgreed(*here.nodeAt(path), agreed->local)) << path;
    EXPECT_TRUE(isAsAgreed(*there.nodeAt(path), agreed->remote)) << path;
  }
  EXPECT_EQ(state->count(), 4u);
  begin(Mode::TWO_WAY);
  EXPECT_FALSE(run(true).didSomething());
}

TEST_F(CycleTest, WhatWasMovedOutOfAMovedFolderIsAgreedUponWhereItIs) {
  makeFolder(here, "old");
  for (const char* name : {"old/a", "old/b", "x"}) write(here, name, name);
  settle(Mode::TWO_WAY);
  move(here, "old", "new");
  move(here, "new/a", "a");
  run();
  EXPECT_THAT(takeOperations(), ElementsAre("there move old new", "there move new/a a"));
  EXPECT_EQ(state->count(), 4u);
  EXPECT_FALSE(state->find("new/a"));
  begin(Mode::TWO_WAY);
  EXPECT_FALSE(run(true).didSomething());
}

TEST_F(CycleTest, AModeThatAFolderGetsWhileItIsMovedIsNotOverlooked) {
  makeFolder(here, "old");
  write(here, "old/a", "1");
  settle(Mode::TWO_WAY);
  move(here, "old", "new");
  remote->beforeOperation = [this](const Operation&) -> std::optional<Error> {
    there.setMetadata("old", 0700, 0);
    return std::nullopt;
  };
  run();
  remote->beforeOperation = nullptr;
  run();
  EXPECT_EQ(here.find("new")->node.mode, 0700u);
}

TEST_F(CycleTest, WhatIsLeftToDoInAFolderThatWasMovedIsDoneAtItsNewPlace) {
  makeFolder(here, "a");
  write(here, "a/b", "1");
  write(here, "a/keep", "2");
  settle(Mode::TWO_WAY);
  run(true);
  move(there, "a", "c");
  remove(there, "c/b");
  letTimePass();
  local->beforeOperation = [](const Operation& operation) -> std::optional<Error> {
    if (operation.kind == Kind::REMOVE) return errorWith(ErrorCode::CHANGED, operation.path);
    return std::nullopt;
  };
  EXPECT_EQ(run().deferred, 1u);
  EXPECT_THAT(takeOperations(), ElementsAre("here move a c"));
  local->beforeOperation = nullptr;
  run();
  EXPECT_THAT(takeOperations(), ElementsAre("here remove c/b"));
}

TEST_F(CycleTest, WhatTookTheOldPlaceOfSomethingThatWasMovedIsTriedAgain) {
  write(here, "a", "1");
  settle(Mode::PUSH);
  move(here, "a", "b");
  write(here, "a", "another");
  remote->beforeOperation = [](const Operation& operation) -> std::optional<Error> {
    if (operation.kind == Kind::PUT) return errorWith(ErrorCode::OVERLOADED, operation.path);
    return std::nullopt;
  };
  run();
  EXPECT_EQ(tree(there), "b=1");
  remote->beforeOperation = nullptr;
  run();
  EXPECT_EQ(tree(there), "a=another b=1");
}

// What is under a new name was written so shortly before that it only has to be agreed upon once more, at the new name.
TEST_F(CycleTest, NothingIsAgreedUponAtTheNewPlaceOfWhatCouldNotBeMoved) {
  makeFolder(there, "folder");
  settle(Mode::TWO_WAY);
  for (const char* name : {"x", "y", "z"}) write(here, name, name);
  write(here, "c", "precious");
  run();
  letTimePass();
  move(there, "c", "folder/c");
  local->beforeOperation = [this](const Operation& operation) -> std::optional<Error> {
    if (operation.kind == Kind::MOVE) here.remove("folder", false);
    return std::nullopt;
  };
  EXPECT_EQ(run().deferred, 1u);
  EXPECT_FALSE(state->find("folder/c"));
  local->beforeOperation = nullptr;
  for (int i = 0; i < 3; ++i) run();
  EXPECT_EQ(tree(here), "folder/ folder/c=precious x=x y=y z=z");
  EXPECT_EQ(tree(there), tree(here));
}

TEST_F(CycleTest, WhatDependsOnAMoveThatFailedIsNotDoneOnTheOtherSideEither) {
  write(here, "a", "1");
  settle(Mode::TWO_WAY);
  remove(here, "a");
  ASSERT_TRUE(here.makeSymlink("a", "mine", false));
  write(there, "a", "theirs");
  local->beforeOperation = [this](const Operation& operation) -> std::optional<Error> {
    if (operation.kind == Kind::MOVE) here.remove("a", false);
    return std::nullopt;
  };
  run();
  EXPECT_EQ(tree(there), "a=theirs");
  EXPECT_EQ(state->count(), 1u);
  local->beforeOperation = nullptr;
  run();
  EXPECT_EQ(tree(here), "a=theirs");
}

TEST_F(CycleTest, AFileThatChangesWhileItIsReadIsPutOff) {
  write(here, "a", "first");
  remote->beforeOperation = [this](const Operation&) -> std::optional<Error> {
    if (here.find("a")->content == "first") write(here, "a", "second");
    return std::nullopt;
  };
  auto report = run();
  EXPECT_EQ(report.deferred, 1u);
  EXPECT_TRUE(report.failures.empty());
  EXPECT_FALSE(state->find("a"));
  EXPECT_EQ(run().filesSent, 1u);
  EXPECT_EQ(tree(there), "a=second");
}

TEST_F(CycleTest, WhatABrokenConnectionHasLeftIsDoneByTheNextCycle) {
  begin(Mode::PUSH, std::nullopt, 2);
  for (const char* name : {"a", "b", "c", "d", "e"}) write(here, name, name);
  remote->beforeOperation = [](const Operation& operation) -> std::optional<Error> {
    if (operation.path >= "d") return errorWith(ErrorCode::UNREACHABLE, operation.path);
    return std::nullopt;
  };
  auto report = run();
  ASSERT_TRUE(report.error);
  EXPECT_EQ(report.error->code, ErrorCode::UNREACHABLE);
  EXPECT_EQ(state->count(), 3u);
  takeOperations();
  remote->beforeOperation = nullptr;
  report = run();
  EXPECT_FALSE(report.error);
  EXPECT_THAT(takeOperations(), ElementsAre("there put d", "there put e"));
  EXPECT_EQ(tree(there), tree(here));
}

TEST_F(CycleTest, ADryRunTellsExactlyWhatARunDoes) {
  for (const char* name : {"gone", "moved", "changed", "same", "touched"}) write(here, name, name);
  settle(Mode::TWO_WAY);
  remove(here, "gone");
  move(there, "moved", "away");
  write(there, "changed", "theirs");
  setMode(here, "touched", 0600);
  makeFolder(here, "folder");
  write(here, "folder/new", "new");
  auto before = tree(here) + "|" + tree(there);
  auto dry = dryRun();
  EXPECT_TRUE(dry.planned);
  EXPECT_THAT(takeOperations(), IsEmpty());
  EXPECT_EQ(tree(here) + "|" + tree(there), before);
  auto real = run();
  EXPECT_EQ(planned.size(), 6u);
  EXPECT_EQ(takeOperations(), planned);
  auto counts = [](const CycleReport& report) {
    return std::vector<uint64_t>{report.filesSent, report.filesReceived, report.foldersMade, report.moved,
                                 report.removed,   report.metadataSet,   report.bytesSent,   report.bytesReceived};
  };
  EXPECT_EQ(counts(real), counts(dry));
  EXPECT_EQ(tree(here), tree(there));
}

TEST_F(CycleTest, AConflictIsToldUntilTheKeptContentIsGone) {
  write(here, "a", "1");
  settle(Mode::TWO_WAY);
  write(here, "a", "mine");
  write(there, "a", "theirs!");
  auto report = run();
  ASSERT_EQ(report.conflicts.size(), 1u);
  EXPECT_EQ(report.openConflicts, 1u);
  auto conflicts = state->conflicts();
  ASSERT_EQ(conflicts.size(), 1u);
  EXPECT_EQ(conflicts[0].path, "a");
  EXPECT_EQ(conflicts[0].kept, report.conflicts[0].kept);
  EXPECT_EQ(tree(here), "a=theirs! " + conflicts[0].kept + "=mine");
  EXPECT_EQ(tree(there), tree(here));
  letTimePass();
  EXPECT_EQ(run().openConflicts, 1u);
  remove(there, conflicts[0].kept);
  EXPECT_EQ(run().openConflicts, 0u);
  EXPECT_THAT(state->conflicts(), IsEmpty());
}

TEST_F(CycleTest, ExplainsWhatWouldBeDoneAndWhy) {
  for (const char* name : {"same", "gone", "changed"}) write(here, name, name);
  settle(Mode::PUSH);
  write(here, "new", "1");
  write(here, "x.o", "1");
  write(here, "changed", "2");
  remove(here, "gone");
  EXPECT_EQ(explain("same"), "same is in step");
  EXPECT_EQ(explain("nothing"), "nothing is on neither side");
  EXPECT_EQ(explain("x.o"), "x.o is ignored by *.o (--exclude)");
  EXPECT_EQ(explain("new"), "new would be sent: it is new here");
  EXPECT_EQ(explain("changed"), "changed would be sent: it was changed here");
  EXPECT_EQ(explain("gone"), "gone would be removed at the server: it was removed here");
  write(there, "extra", "1");
  EXPECT_EQ(explain("extra"), "extra would be removed at the server: it is not here");
  EXPECT_EQ(tree(there), "changed=changed extra=1 gone=gone same=same");
}

}  // namespace
}  // namespace capstan::sync
