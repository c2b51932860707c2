// What is planned about several paths: moves, copies, order, folders that stay. Written as edits on a model tree, and
// the operations that are expected of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>

#include "model-tree.h"

namespace capstan::sync::model {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class PlanMoves : public testing::Test {
 protected:
  World world;
  PlanOptions options;

  PlanMoves() {
    options.conflictPath = [](std::string_view path) { return std::string(path) + "~"; };
  }

  void folder(const std::string& path) { world.makeFolder(Side::LOCAL, path); }
  void file(const std::string& path) { world.write(Side::LOCAL, path, world.newContent()); }

  Plan plan() { return makePlan(world.differences(options), options); }
  // Also carries it out, after which nothing may be left to do.
  std::vector<std::string> operations() {
    Plan made = plan();
    std::vector<std::string> texts;
    for (const Operation& operation : made.operations) texts.push_back(describe(operation));
    EXPECT_EQ(world.apply(made, texts.size(), texts.size()), "");
    EXPECT_THAT(plan().operations, IsEmpty());
    return texts;
  }
  // --checksum and the like would know them.
  void copyKnownContents() {
    world.knowsDigests = true;
    options.findContent = [this](Side side, const Node& node) -> std::string {
      for (const auto& [path, agreed] : world.agreed) {
        if (agreed.on(side).digest == node.digest) return path;
      }
      return {};
    };
  }
};

TEST_F(PlanMoves, ARenamedFolderOfAThousandFilesIsOneMove) {
  folder("old");
  for (int i = 0; i < 1000; ++i) file("old/" + std::to_string(i));
  world.agreeAboutAll();
  world.rename(Side::LOCAL, "old", "new");
  EXPECT_THAT(operations(), ElementsAre("remote move new from old"));
}

TEST_F(PlanMoves, WhatWasChangedInARenamedFolderIsAllThatIsSent) {
  folder("old");
  file("old/a");
  file("old/b");
  file("old/c");
  world.agreeAboutAll();
  world.rename(Side::LOCAL, "old", "new");
  file("new/b");
  world.remove(Side::LOCAL, "new/c");
  EXPECT_THAT(operations(), ElementsAre("remote move new from old", "remote put new/b", "remote remove new/c"));
}

TEST_F(PlanMoves, FoldersThatWereMovedOutOfEachOtherAreMovedOneByOne) {
  folder("a");
  folder("a/b");
  file("a/b/f");
  file("a/g");
  world.agreeAboutAll();
  world.rename(Side::LOCAL, "a", "x");
  world.rename(Side::LOCAL, "x/b", "y");
  EXPECT_THAT(operations(), ElementsAre("remote move x from a", "remote move y from x/b"));
}

TEST_F(PlanMoves, AFolderIsMadeBeforeSomethingIsMovedIntoIt) {
  folder("a");
  file("a/f");
  world.agreeAboutAll();
  folder("new");
  folder("new/deep");
  world.rename(Side::LOCAL, "a", "new/deep/a");
  EXPECT_THAT(operations(),
              ElementsAre("remote make-folder new", "remote make-folder new/deep", "remote move new/deep/a from a"));
}

TEST_F(PlanMoves, AnIdentityThatIsUsedAgainIsNoMove) {
  folder("old");
  file("old/f");
  world.agreeAboutAll();
  uint64_t identity = world.tree(Side::LOCAL)["old"].node.identity;
  world.remove(Side::LOCAL, "old");
  folder("new");
  world.tree(Side::LOCAL)["new"].node.identity = identity;
  file("new/f");
  EXPECT_THAT(operations(),
              ElementsAre("remote make-folder new", "remote put new/f", "remote remove old/f", "remote remove old"));
}

TEST_F(PlanMoves, RotatedFilesAreMovedTheLastOneFirst) {
  for (const char* name : {"log", "log.1", "log.2"}) file(name);
  world.agreeAboutAll();
  world.rename(Side::LOCAL, "log.1", "log.2");
  world.rename(Side::LOCAL, "log", "log.1");
  file("log");
  EXPECT_THAT(operations(),
              ElementsAre("remote move log.2 from log.1", "remote move log.1 from log", "remote put log"));
}

TEST_F(PlanMoves, OfNamesThatWereSwappedOneIsMovedAndOneIsSent) {
  file("a");
  file("b");
  world.agreeAboutAll();
  world.rename(Side::LOCAL, "a", "c");
  world.rename(Side::LOCAL, "b", "a");
  world.rename(Side::LOCAL, "c", "b");
  EXPECT_THAT(operations(), ElementsAre("remote move a from b", "remote put b"));
}

TEST_F(PlanMoves, AFileThatMovesIntoAFolderOfItsOwnNameIsSent) {
  file("f");
  world.agreeAboutAll();
  world.rename(Side::LOCAL, "f", "g");
  folder("f");
  world.rename(Side::LOCAL, "g", "f/g");
  EXPECT_THAT(operations(), ElementsAre("remote remove f", "remote make-folder f", "remote put f/g"));
}

TEST_F(PlanMoves, AFileWithAKnownContentIsCopied) {
  copyKnownContents();
  file("a");
  world.agreeAboutAll();
  folder("backup");
  world.copy(Side::LOCAL, "a", "backup/a");
  EXPECT_THAT(operations(), ElementsAre("remote make-folder backup", "remote copy backup/a from a"));
}

TEST_F(PlanMoves, ACopyIsMadeBeforeItsSourceIsOverwritten) {
  copyKnownContents();
  file("z");
  world.agreeAboutAll();
  world.copy(Side::LOCAL, "z", "z.old");
  file("z");
  EXPECT_THAT(operations(), ElementsAre("remote copy z.old from z", "remote put z"));
}

TEST_F(PlanMoves, CopiesOverEachOtherInARingAreBrokenBySending) {
  copyKnownContents();
  for (const char* name : {"a", "b"}) file(name);
  world.agreeAboutAll();
  uint64_t a = world.tree(Side::LOCAL)["a"].content, b = world.tree(Side::LOCAL)["b"].content;
  world.write(Side::LOCAL, "a", b);
  world.write(Side::LOCAL, "b", a);
  EXPECT_THAT(operations(), ElementsAre("remote copy b from a", "remote put a"));
}

TEST_F(PlanMoves, AFileThatWasMovedByOtherMeansIsKnownByItsContent) {
  world.knowsDigests = true;
  file("a");
  world.agreeAboutAll();
  world.copy(Side::LOCAL, "a", "b");
  world.remove(Side::LOCAL, "a");
  EXPECT_THAT(operations(), ElementsAre("remote move b from a"));
}

TEST_F(PlanMoves, BothSidesMoveWhatTheOtherHasMoved) {
  options.mode = Mode::TWO_WAY;
  folder("p");
  file("p/f");
  folder("a");
  file("a/g");
  world.agreeAboutAll();
  world.rename(Side::LOCAL, "a", "p/b");
  world.rename(Side::REMOTE, "p", "q");
  EXPECT_THAT(operations(), ElementsAre("local move q from p", "remote move q/b from a"));
}

TEST_F(PlanMoves, WhatBothSidesHaveMovedElsewhereIsInBothPlaces) {
  options.mode = Mode::TWO_WAY;
  file("a");
  world.agreeAboutAll();
  world.rename(Side::LOCAL, "a", "b");
  world.rename(Side::REMOTE, "a", "c");
  EXPECT_THAT(operations(), ElementsAre("local put c", "remote put b", "remote forget a"));
}

TEST_F(PlanMoves, AFolderThatTheOtherSideHasRemovedComesBackForWhatWasChangedInIt) {
  options.mode = Mode::TWO_WAY;
  folder("a");
  file("a/changed");
  file("a/same");
  world.agreeAboutAll();
  file("a/changed");
  world.remove(Side::REMOTE, "a");
  EXPECT_THAT(operations(), ElementsAre("remote make-folder a", "remote put a/changed", "local remove a/same"));
}

TEST_F(PlanMoves, AChangedFolderGivesWayToAFileWithAllThatIsInIt) {
  options.mode = Mode::TWO_WAY;
  folder("a");
  file("a/f");
  world.agreeAboutAll();
  file("a/new");
  world.remove(Side::REMOTE, "a");
  world.write(Side::REMOTE, "a", world.newContent());
  EXPECT_THAT(operations(), ElementsAre("local move a~ from a", "local put a", "remote make-folder a~",
                                        "remote put a~/f", "remote put a~/new", "remote forget a/f"));
}

TEST_F(PlanMoves, WhatIsInTheWayIsRemovedRightBefore) {
  folder("a");
  folder("a/b");
  file("a/b/c");
  world.agreeAboutAll();
  world.remove(Side::LOCAL, "a");
  file("a");
  EXPECT_THAT(operations(), ElementsAre("remote remove a/b/c", "remote remove a/b", "remote remove a", "remote put a"));
}

TEST_F(PlanMoves, WhatIsReplacedIsNoDeletionWhatWasInItIs) {
  folder("a");
  file("a/b");
  world.agreeAboutAll();
  world.remove(Side::LOCAL, "a");
  file("a");
  EXPECT_EQ(plan().deletions, 1u);
}

TEST_F(PlanMoves, AFolderOfWhichNobodyKnowsWhatIsInItStaysWithThoseAboveIt) {
  for (Mode mode : {Mode::PUSH, Mode::TWO_WAY}) {
    World anew;
    std::swap(world, anew);
    options.mode = mode;
    options.isUnread = [](std::string_view path) { return path == "a/closed"; };
    for (const char* name : {"a", "a/closed", "b", "b/open"}) folder(name);
    file("a/f");
    world.agreeAboutAll();
    world.remove(Side::LOCAL, "a");
    world.remove(Side::LOCAL, "b");
    file("b");
    Plan made = plan();
    std::vector<std::string> texts;
    for (const Operation& operation : made.operations) texts.push_back(describe(operation));
    EXPECT_THAT(texts, ElementsAre("remote remove b/open", "remote remove b", "remote put b", "remote remove a/f"));
    EXPECT_EQ(made.deletions, 2u);
    ASSERT_EQ(made.withheld.size(), 2u);
    EXPECT_EQ(made.withheld[1].path, "a/closed");
    EXPECT_FALSE(made.withheld[0].isDeletion || made.withheld[1].isDeletion);
  }
}

TEST_F(PlanMoves, AFolderOfWhichNobodyKnowsWhatIsInItIsNoDeletionThatCouldBeAccepted) {
  world.makeFolder(Side::REMOTE, "closed");
  options.isUnread = [](std::string_view path) { return path == "closed"; };
  options.isUnexplained = [](std::string_view) { return true; };
  for (bool accepted : {false, true}) {
    options.acceptUnexplained = accepted;
    EXPECT_THAT(plan().operations, IsEmpty());
    ASSERT_EQ(plan().withheld.size(), 1u);
    EXPECT_FALSE(plan().withheld[0].isDeletion);
  }
}

TEST_F(PlanMoves, AFileDoesNotTakeThePlaceOfAFolderOfWhichNobodyKnowsWhatIsInIt) {
  options.isUnread = [](std::string_view path) { return path == "closed" || path == "a/closed"; };
  for (const char* name : {"closed", "a", "a/closed"}) folder(name);
  world.agreeAboutAll();
  for (const char* name : {"closed", "a"}) {
    world.remove(Side::LOCAL, name);
    file(name);
  }
  EXPECT_THAT(plan().operations, IsEmpty());
  EXPECT_EQ(plan().withheld.size(), 3u);
}

TEST_F(PlanMoves, AFolderStaysWritableUntilEverythingIsInIt) {
  folder("a");
  file("a/f");
  world.setMode(Side::LOCAL, "a", 0555);
  EXPECT_THAT(operations(), ElementsAre("remote make-folder a", "remote put a/f", "remote set-metadata a"));
}

TEST_F(PlanMoves, FoldersAreClosedFromTheInsideToTheOutside) {
  folder("a");
  folder("a/b");
  file("a/b/f");
  world.setMode(Side::LOCAL, "a", 0444);
  world.setMode(Side::LOCAL, "a/b", 0555);
  EXPECT_THAT(operations(), ElementsAre("remote make-folder a", "remote make-folder a/b", "remote put a/b/f",
                                        "remote set-metadata a/b", "remote set-metadata a"));
}

TEST_F(PlanMoves, ACopyIsMadeBeforeItsSourceMakesRoom) {
  copyKnownContents();
  folder("a");
  file("a/f");
  world.agreeAboutAll();
  world.copy(Side::LOCAL, "a/f", "b");
  world.copy(Side::LOCAL, "a/f", "c");
  world.remove(Side::LOCAL, "a");
  file("a");
  EXPECT_THAT(operations(),
              ElementsAre("remote move b from a/f", "remote copy c from b", "remote remove a", "remote put a"));
}

TEST_F(PlanMoves, WhatNobodyCanExplainStaysWithTheFoldersAboveIt) {
  file("f");
  world.makeFolder(Side::REMOTE, "a");
  world.makeFolder(Side::REMOTE, "a/b");
  world.write(Side::REMOTE, "a/b/c", world.newContent());
  options.isUnexplained = [](std::string_view path) { return path == "a/b/c"; };
  Plan made = plan();
  ASSERT_EQ(made.withheld.size(), 3u);
  for (const Withheld& one : made.withheld) EXPECT_TRUE(one.isDeletion) << one.path;
  EXPECT_EQ(made.deletions, 0u);
  options.acceptUnexplained = true;
  EXPECT_EQ(plan().deletions, 3u);
}

TEST_F(PlanMoves, AFolderWithSomethingThatStaysIsNotReplaced) {
  file("a");
  world.makeFolder(Side::REMOTE, "a");
  world.write(Side::REMOTE, "a/extra", world.newContent());
  options.isUnexplained = [](std::string_view) { return true; };
  Plan made = plan();
  EXPECT_THAT(made.operations, IsEmpty());
  ASSERT_EQ(made.withheld.size(), 2u);
  EXPECT_EQ(made.withheld[0].path, "a");
  EXPECT_FALSE(made.withheld[0].isDeletion);
}

TEST_F(PlanMoves, AStampAloneIsNoReasonToSend) {
  world.knowsDigests = true;
  file("a");
  world.agreeAboutAll();
  world.setMode(Side::LOCAL, "a", world.tree(Side::LOCAL)["a"].node.mode);
  EXPECT_THAT(operations(), ElementsAre("remote agree a"));
}

TEST_F(PlanMoves, AStampThatWasTooYoungIsLookedIntoByDigest) {
  file("a");
  world.agreeAboutAll();
  Agreed& agreed = world.agreed["a"];
  agreed.local.settled = false;
  agreed.local.digest = agreed.remote.digest = digestOf(world.tree(Side::LOCAL)["a"].content);
  options.agreedAt = [this](std::string_view path) { return world.agreed[std::string(path)]; };
  Changes changes = world.changesOf(Side::LOCAL);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_THAT(digestsWanted(differencesOf(changes, {}, options.agreedAt), options).local, ElementsAre("a"));
  changes["a"]->digest = "another one";
  EXPECT_EQ(makePlan(differencesOf(changes, {}, options.agreedAt), options).operations[0].kind, Operation::Kind::PUT);
  changes["a"]->digest = agreed.local.digest;
  EXPECT_EQ(makePlan(differencesOf(changes, {}, options.agreedAt), options).operations[0].kind, Operation::Kind::AGREE);
}

TEST_F(PlanMoves, AnEmptyFileThatWasTooYoungIsAsItWas) {
  Node empty, full;
  empty.type = full.type = EntryType::FILE;
  full.size = 5;
  full.mtime = 7;
  empty.stamp = "old";
  full.stamp = "new";
  Agreed agreed{empty, empty};
  agreed.local.settled = false;
  options.mode = Mode::TWO_WAY;
  options.agreedAt = [&](std::string_view path) { return path == "a" ? std::optional(agreed) : std::nullopt; };
  Changes local{{"a", empty}};
  auto kinds = [&](const Changes& remote) {
    std::vector<std::string> names;
    for (auto& operation : makePlan(differencesOf(local, remote, options.agreedAt), options).operations) {
      names.emplace_back(nameOf(operation.kind));
    }
    return names;
  };
  EXPECT_THAT(kinds({}), ElementsAre("agree"));
  EXPECT_THAT(kinds({{"a", full}}), ElementsAre("put")) << "what was changed at the server alone is no conflict";
}

TEST_F(PlanMoves, AFileThatWasRenamedSoonAfterItWasWrittenIsLookedIntoAndMoved) {
  folder("old");
  file("old/a");
  file("b");
  world.agreeAboutAll();
  for (const char* path : {"old/a", "b"}) {
    Agreed& agreed = world.agreed[path];
    agreed.local.settled = false;
    agreed.local.digest = digestOf(world.tree(Side::LOCAL)[path].content);
  }
  world.rename(Side::LOCAL, "old", "new");
  world.rename(Side::LOCAL, "b", "c");
  EXPECT_THAT(operations(), ElementsAre("remote move new from old", "remote move c from b", "remote agree new/a"));
}

TEST_F(PlanMoves, FilesOfTheSameSizeAreHashedWhereTheirTimesDiffer) {
  world.knowsDigests = false;
  file("a");
  world.tree(Side::REMOTE) = world.tree(Side::LOCAL);
  EXPECT_THAT(digestsWanted(world.differences(options), options).local, IsEmpty());  // same size and time
  world.setTime(Side::REMOTE, "a");
  auto differences = differencesOf(world.changesOf(Side::LOCAL), world.changesOf(Side::REMOTE), options.agreedAt);
  EXPECT_THAT(digestsWanted(differences, options).local, ElementsAre("a"));
  EXPECT_THAT(digestsWanted(differences, options).remote, ElementsAre("a"));
}

TEST_F(PlanMoves, TheSameInputGivesTheSamePlan) {
  for (int i = 0; i < 50; ++i) file("f" + std::to_string(i));
  world.agreeAboutAll();
  for (int i = 0; i < 50; i += 2) world.rename(Side::LOCAL, "f" + std::to_string(i), "g" + std::to_string(i));
  Plan one = plan(), two = plan();
  ASSERT_EQ(one.operations.size(), two.operations.size());
  for (size_t i = 0; i < one.operations.size(); ++i) {
    EXPECT_EQ(describe(one.operations[i]), describe(two.operations[i]));
  }
}

// Of the processor's time, and far more than is needed: what is quadratic takes minutes.
constexpr double LONG_SECONDS = 20;

TEST_F(PlanMoves, TimeFollowsTheNumberOfDifferences) {
  constexpr int FOLDERS = 200, FILES = 1000;
  Changes created, moved;
  ByPath<Agreed> agreed;
  for (int i = 0; i < FOLDERS * FILES; ++i) {
    Node node;
    node.type = EntryType::FILE;
    node.size = 1;
    node.identity = i + 1;
    node.stamp = std::to_string(i);
    std::string name = std::to_string(i / FILES) + "/" + std::to_string(i % FILES);
    created["new" + name] = node;
    moved["new" + name] = node;
    moved["old" + name] = std::nullopt;
    agreed["old" + name] = {node, node};
  }
  options.agreedAt = [&](std::string_view path) {
    auto found = agreed.find(path);
    return found == agreed.end() ? std::nullopt : std::optional<Agreed>(found->second);
  };
  for (const Changes* changes : {&created, &moved}) {
    clock_t begin = std::clock();
    Plan made = makePlan(differencesOf(*changes, {}, options.agreedAt), options);
    double took = double(std::clock() - begin) / CLOCKS_PER_SEC;
    EXPECT_EQ(made.operations.size(), size_t(FOLDERS * FILES));
    EXPECT_LT(took, LONG_SECONDS);
    RecordProperty("milliseconds", int(took * 1000));
  }
}

}  // namespace
}  // namespace capstan::sync::model
