// How much the runs of a share may keep: the oldest of them go first, nobody else's do, and the latest stays whole.
#include <future>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <kj/async.h>

#include <capstan/base/text.h>
#include <capstan/storage/committer.h>
#include <capstan/storage/mutation.h>
#include <capstan/storage/mutations.h>
#include <capstan/storage/place-file.h>
#include <capstan/storage/run.h>
#include <capstan/storage/trash-ledger.h>
#include <capstan/storage/trash.h>
#include <capstan/storage/usage.h>

#include "temp-folder.h"

namespace capstan::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Mutations = std::vector<std::unique_ptr<Mutation>>;

class RefusingDisk final : public Disk {
 public:
  bool refuses = false;
  int renameat2(int fromFolder, const char* from, int toFolder, const char* to, unsigned flags) override {
    if (!refuses) return Disk::renameat2(fromFolder, from, toFolder, to, flags);
    errno = EIO;
    return -1;
  }
};

class TrashBoundsTest : public ::testing::Test {
 public:
  ~TrashBoundsTest() noexcept override {}

 protected:
  static constexpr size_t SIZE = 28'000;  // of each file; with journal and folders a run that has one keeps 41,000
  static constexpr uint64_t BOUND = 100'000;

  void SetUp() override { open(); }
  void open() {
    committer = nullptr;
    trash = nullptr;
    staging = nullptr;
    root = std::move(Root::open(temp.path()).value());
    staging = std::move(Staging::open(*root, 3600'000'000'000).value());
    trash = std::move(Trash::open(*root, *staging, {}).value());
    committer = std::make_unique<Committer>(*root, *staging, disk);
  }

  // Each of those that it was made from has a bound.
  static std::vector<TrashBound> boundsOf(const std::string& holder, uint64_t before) {
    std::vector<TrashBound> bounds{{holder, BOUND, before, "the share " + holder}};
    if (holder.find('/') != std::string::npos) bounds.push_back({"parent", BOUND, before, "the share parent"});
    return bounds;
  }
  std::shared_ptr<storage::Run> begin(const std::string& label, const std::string& holder, uint64_t before = 0) {
    auto bounds = holder.empty() ? std::vector<TrashBound>() : boundsOf(holder, before);
    return trash->begin({}, label, "", {holder, {}}, std::move(bounds)).value();
  }
  std::unique_ptr<Mutation> put(const std::string& path, char filling = 'x') {
    auto file = stageWhole(*staging, path, {}, std::string(SIZE, filling), {}).value();
    return makePlaceFile(std::move(file), {path, {}, {}, true, false});
  }
  // An empty text: it went well.
  std::string carryOut(const std::shared_ptr<storage::Run>& run, std::unique_ptr<Mutation> mutation) {
    Mutations one;
    one.push_back(std::move(mutation));
    return carryOutAll(run, std::move(one)).at(0);
  }
  std::vector<std::string> carryOutAll(const std::shared_ptr<storage::Run>& run, Mutations mutations) {
    kj::EventLoop loop;
    kj::WaitScope waitScope(loop);
    int connection = 0;
    auto results = committer->submitAll(committer->takeTicket(&connection), std::move(mutations), run).wait(waitScope);
    std::vector<std::string> answers;
    for (auto& result : results) {
      bool isQuota = !result.ok() && result.error().code == ErrorCode::QUOTA;
      answers.push_back(result.ok() ? "" : (isQuota ? "quota: " : "") + result.error().message);
    }
    return answers;
  }
  void write(const std::string& path) { temp.write(path, std::string(SIZE, 'o')); }
  // One file of the size goes in a run of its own.
  void displace(const std::string& label, const std::string& holder) {
    write(label);
    ASSERT_EQ(carryOut(begin(label, holder), makeRemove(label, false, {})), "");
  }
  std::vector<std::string> labels() {
    std::vector<std::string> labels;
    auto runs = trash->runs().value();
    for (auto& info : runs) labels.push_back(info.label);
    return labels;
  }

  TempFolder temp;
  RefusingDisk disk;
  std::unique_ptr<Root> root;
  std::unique_ptr<Staging> staging;
  std::unique_ptr<Trash> trash;
  std::unique_ptr<Committer> committer;
};

TEST_F(TrashBoundsTest, DropsTheOldestRunsOfTheShareAndNobodyElses) {
  displace("owner's", "");
  displace("other's", "other");
  for (auto name : {"first", "second", "third", "fourth"}) displace(name, "share");
  EXPECT_THAT(labels(), ElementsAre("fourth", "third", "other's", "owner's"));
  trash->sweep();
  EXPECT_THAT(labels(), ElementsAre("fourth", "third", "other's", "owner's"));
}

TEST_F(TrashBoundsTest, CountsWhatAnEarlierProcessHasLeft) {
  for (auto name : {"first", "second"}) displace(name, "share");
  displace("other's", "other");
  open();
  displace("third", "share");
  EXPECT_THAT(labels(), ElementsAre("third", "other's", "second"));
}

TEST_F(TrashBoundsTest, CountsTheRunsOfAChildForItsParentToo) {
  displace("parent's", "parent");
  displace("sibling's", "parent/sibling");
  displace("child's", "parent/child");
  EXPECT_THAT(labels(), ElementsAre("child's", "sibling's")) << "the oldest of all of them goes";
  displace("child's next", "parent/child");
  EXPECT_THAT(labels(), ElementsAre("child's next", "sibling's")) << "it makes room by its own first";
  displace("parent's", "parent");
  EXPECT_THAT(labels(), ElementsAre("parent's", "child's next"));
  displace("parenthesis", "parenthesis");
  EXPECT_THAT(labels(), ElementsAre("parenthesis", "parent's", "child's next"));
}

TEST_F(TrashBoundsTest, KeepsTheLatestRunWholeOfWhatWasThereBeforeUntilTheNext) {
  displace("earlier", "share");
  Mutations all;
  for (int i = 0; i < 10; ++i) {
    write("old " + std::to_string(i));
    all.push_back(i % 2 == 0 ? makeRemove("old " + std::to_string(i), false, {}) : put("old " + std::to_string(i)));
  }
  auto run = begin("large", "share");
  for (auto& answer : carryOutAll(run, std::move(all))) EXPECT_EQ(answer, "");
  std::string id = run->id();
  run = nullptr;
  trash->sweep();
  EXPECT_THAT(labels(), ElementsAre("large"));
  auto undoing = begin("undo", "share");
  auto steps = trash->undo(id, undoing).value();
  ASSERT_EQ(steps.size(), 10u);
  for (auto& answer : carryOutAll(undoing, std::move(steps))) EXPECT_EQ(answer, "");
  for (int i = 0; i < 10; ++i) EXPECT_EQ(temp.read("old " + std::to_string(i)), std::string(SIZE, 'o'));
  undoing = nullptr;
  displace("next", "share");
  EXPECT_THAT(labels(), ElementsAre("next"));
}

TEST_F(TrashBoundsTest, KeepsAWholeFolderAndDropsOthersForIt) {
  displace("earlier", "share");
  for (int i = 0; i < 10; ++i) write("folder/inner/" + std::to_string(i));
  auto run = begin("folder", "share");
  EXPECT_EQ(carryOut(run, makeRemove("folder", true, {})), "");
  run = nullptr;
  trash->sweep();
  EXPECT_THAT(labels(), ElementsAre("folder"));
  EXPECT_TRUE(trash->runs().value().at(0).canUndo);
  displace("next", "share");
  EXPECT_THAT(labels(), ElementsAre("next"));
}

TEST_F(TrashBoundsTest, GoesOnRemovingFoldersThatWereThere) {
  for (auto folder : {"a", "b"}) {
    for (int i = 0; i < 5; ++i) write(std::string(folder) + "/" + std::to_string(i));
  }
  for (uint64_t before : {uint64_t(1'000'000), uint64_t(0)}) {
    auto run = begin("folders", "share", before);
    EXPECT_EQ(carryOut(run, makeRemove(before > 0 ? "a" : "b", true, {})), "");
    trash->sweep();
    write("c/inner");
    auto answer = carryOut(run, makeRemove("c", true, {}));
    EXPECT_EQ(answer.empty(), before > 0) << answer;  // else it was not there when the run began
  }
}

TEST_F(TrashBoundsTest, RefusesWhatARunWouldKeepOfItsOwnWithoutAnEnd) {
  auto run = begin("again and again", "share");
  int times = 0;
  std::string answer;
  for (; times < 10 && answer.empty(); ++times) answer = carryOut(run, put("log", char('0' + times)));
  EXPECT_EQ(times, 5) << "one is in the tree, three are in the trash";
  EXPECT_THAT(answer, HasSubstr("quota: "));
  EXPECT_THAT(answer, HasSubstr("the share share"));
  EXPECT_EQ(temp.read("log"), std::string(SIZE, '3'));
  EXPECT_LE(contentIn(root->stateFd(), "trash") - LEAST_CHARGE, BOUND);
  EXPECT_EQ(carryOut(begin("others", ""), makeRemove("log", false, {})), "");
  EXPECT_EQ(carryOut(run, put("log")), "") << "nothing is displaced";
  run = nullptr;
  EXPECT_EQ(carryOut(begin("another", "share"), put("log", 'n')), "");
  EXPECT_THAT(labels(), ElementsAre("another", "others"));
}

TEST_F(TrashBoundsTest, RefusesWhatHasNoRoomBesideRunsThatAreUnderWay) {
  for (auto name : {"a", "b", "c"}) write(name);
  auto one = begin("one", "share"), two = begin("two", "share"), three = begin("three", "share");
  EXPECT_EQ(carryOut(one, makeRemove("a", false, {})), "");
  EXPECT_EQ(carryOut(two, makeRemove("b", false, {})), "");
  EXPECT_THAT(carryOut(three, makeRemove("c", false, {})), HasSubstr("quota: "));
  EXPECT_EQ(temp.read("c"), std::string(SIZE, 'o'));
  one = nullptr;
  EXPECT_EQ(carryOut(three, makeRemove("c", false, {})), "");
  EXPECT_THAT(labels(), ElementsAre("three", "two"));
}

TEST_F(TrashBoundsTest, TakesBackARunThatKeepsAlmostAllThatItMay) {
  for (auto name : {"a", "b"}) write(name);
  auto run = begin("done", "share");
  for (auto name : {"a", "b"}) EXPECT_EQ(carryOut(run, put(name)), "");
  std::string id = run->id();
  run = nullptr;
  auto undoing = begin("undone", "share");
  auto steps = trash->undo(id, undoing).value();
  for (auto& answer : carryOutAll(undoing, std::move(steps))) EXPECT_EQ(answer, "");
  for (auto name : {"a", "b"}) EXPECT_EQ(temp.read(name), std::string(SIZE, 'o'));
}

TEST_F(TrashBoundsTest, DoesNotCountWhatCouldNotBeDisplaced) {
  displace("earlier", "share");
  write("a");
  auto run = begin("later", "share");
  disk.refuses = true;
  for (int i = 0; i < 5; ++i) EXPECT_THAT(carryOut(run, makeRemove("a", false, {})), HasSubstr("cannot remove"));
  disk.refuses = false;
  EXPECT_EQ(carryOut(run, makeRemove("a", false, {})), "");
  EXPECT_THAT(labels(), ElementsAre("later", "earlier"));
}

TEST_F(TrashBoundsTest, CountsJournalsToo) {
  auto run = begin("records", "share");
  RunRecord record;
  record.kind = RunRecord::Kind::METADATA;
  record.path = std::string(4000, 'p');
  for (int i = 0; i < 50; ++i) run->record(record);
  EXPECT_TRUE(run->mayGoOn().ok()) << "a run that may take in nothing more may still end in order";
  for (int i = 0; i < 250; ++i) run->record(record);
  ASSERT_FALSE(run->mayGoOn().ok());
  EXPECT_EQ(run->mayGoOn().error().code, ErrorCode::QUOTA);
  run = nullptr;
  EXPECT_TRUE(begin("next", "share")->mayGoOn().ok());
  EXPECT_THAT(labels(), ElementsAre());
}

TEST(TrashLedger, CountsWhatComesWhileSomebodyLooksBesideWhatWasFound) {
  TrashLedger ledger;
  TrashLedger::Run run{"run", "parent/child", 1};
  ledger.add(run, 100);
  uint64_t before = ledger.beforeLook("run");
  ledger.add(run, 50);
  ledger.found(run, 1000, before);
  EXPECT_EQ(ledger.total("parent"), 1050u);
  EXPECT_EQ(ledger.total("parent/child"), 1050u);
  ledger.found(run, 1040, ledger.beforeLook("run"));
  EXPECT_EQ(ledger.bytes("run"), 1040u);
  ledger.add(run, -2000);
  EXPECT_EQ(ledger.total("parent"), 0u);
  EXPECT_FALSE(ledger.following("parent", {}));
  ledger.add({"owner's", "", 2}, 100);
  EXPECT_THAT(ledger.names(), ElementsAre("run"));
}

TEST(TrashLedger, RemembersWhatWasThereWhenARunBeganFirst) {
  TrashLedger ledger;
  std::vector<TrashBound> first{{"share", 10, 1000, {}}}, again{{"share", 10, 2000, {}}};
  ledger.remember({"run", "share", 1}, first);
  ledger.remember({"run", "share", 2}, again);
  EXPECT_EQ(again[0].before, 1000u);
}

TEST_F(TrashBoundsTest, LeavesWhatTakesLongToMeasureToItsOwnThread) {
  for (int i = 0; i < 6000; ++i) temp.write("many/" + std::to_string(i), "");
  ASSERT_EQ(carryOut(begin("many", "share", UINT64_MAX), makeRemove("many", true, {})), "");
  open();
  trash->stop();  // before that thread has come far
  auto asked = trash->runs();
  ASSERT_FALSE(asked.ok());
  EXPECT_TRUE(Trash::isBeingLookedAt(asked.error()));
  EXPECT_FALSE(trash->begin({}, "", "", {"share", {}}, boundsOf("share", 0)).ok()) << "it has to be counted first";
  EXPECT_TRUE(trash->begin({}, "", "", {}, {}).ok()) << "the owner's are not bound";
  open();
  std::promise<void> looked;
  trash->whenLooked([&]() { looked.set_value(); });
  looked.get_future().wait();
  asked = trash->runs();
  ASSERT_TRUE(asked.ok());
  EXPECT_EQ(asked->size(), 1u);
}

TEST_F(TrashBoundsTest, MeasuresWhatComesBackBeforeItsTurn) {
  for (int i = 0; i < 3000; ++i) temp.write("many/" + std::to_string(i), "");
  auto run = begin("many", "");
  ASSERT_EQ(carryOut(run, makeRemove("many", true, {})), "");
  auto restore = trash->restore(run->id(), "many", "back").value();
  EXPECT_EQ(restore->growth(*root), int64_t(LEAST_CHARGE)) << "whoever asks now does not wait";
  size_t budget = 0, slices = 1;
  EXPECT_FALSE(restore->measure(budget));
  for (budget = 1000; !restore->measure(budget); ++slices) budget = 1000;
  EXPECT_GE(slices, 3u);
  EXPECT_EQ(restore->growth(*root), 3001 * int64_t(LEAST_CHARGE));
  EXPECT_EQ(carryOut(nullptr, std::move(restore)), "");
}

}  // namespace
}  // namespace capstan::storage
