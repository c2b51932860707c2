#include <capstan/storage/trash.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <map>

#include <kj/async.h>

#include <capstan/base/text.h>
#include <capstan/storage/committer.h>
#include <capstan/storage/mutation.h>
#include <capstan/storage/mutations.h>
#include <capstan/storage/place-file.h>
#include <capstan/storage/run.h>
#include <capstan/storage/trash-journal.h>

#include "temp-folder.h"

namespace capstan::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Ends the process at a rename, before it or after it, as a kill would.
class CrashingDisk final : public Disk {
 public:
  CrashingDisk(int at, bool after) : left(at), after(after) {}
  int renameat2(int fromFolder, const char* from, int toFolder, const char* to, unsigned flags) override {
    bool now = left-- == 0;
    if (now && !after) _exit(1);
    int result = Disk::renameat2(fromFolder, from, toFolder, to, flags);
    if (now) _exit(1);
    return result;
  }

 private:
  int left;
  const bool after;
};

// Notes the order of flushes and renames.
class NotingDisk final : public Disk {
 public:
  int fsync(int fd) override {
    note("fsync", fd);
    return Disk::fsync(fd);
  }
  int syncfs(int fd) override {
    calls.push_back("syncfs");
    return Disk::syncfs(fd);
  }
  int renameat2(int fromFolder, const char* from, int toFolder, const char* to, unsigned flags) override {
    note("rename", toFolder);
    return Disk::renameat2(fromFolder, from, toFolder, to, flags);
  }
  std::vector<std::string> calls;

 private:
  void note(const std::string& what, int fd) {
    std::error_code ignored;
    auto path = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), ignored);
    calls.push_back(what + " " + path.filename().string());
  }
};

// Refuses one rename.
class RefusingDisk final : public Disk {
 public:
  explicit RefusingDisk(int at) : left(at) {}
  int renameat2(int fromFolder, const char* from, int toFolder, const char* to, unsigned flags) override {
    if (left-- != 0) return Disk::renameat2(fromFolder, from, toFolder, to, flags);
    errno = EIO;
    return -1;
  }

 private:
  int left;
};

class TrashTest : public ::testing::Test {
 public:
  ~TrashTest() noexcept override {}

 protected:
  // All of a tree but its Disk, which may be another one.
  struct Opened {
    std::unique_ptr<Root> root;
    std::unique_ptr<Staging> staging;
    std::unique_ptr<Trash> trash;
    std::unique_ptr<Committer> committer;

    Opened(const std::string& folder, Disk& disk, TrashLimits limits = {})
        : root(std::move(Root::open(folder).value())),
          staging(std::move(Staging::open(*root, 3600'000'000'000).value())),
          trash(std::move(Trash::open(*root, *staging, limits).value())),
          committer(std::make_unique<Committer>(*root, *staging, disk)) {}

    std::unique_ptr<Mutation> put(const std::string& path, const std::string& content, Expectation expectation = {}) {
      auto file = stageWhole(*staging, path, {}, content, {}).value();
      return makePlaceFile(std::move(file), {path, std::move(expectation), {}, true, false});
    }
  };
  using Mutations = std::vector<std::unique_ptr<Mutation>>;

  std::vector<Result<Entry>> carryOut(Opened& tree, Mutations mutations, std::shared_ptr<storage::Run> run) {
    kj::EventLoop loop;
    kj::WaitScope waitScope(loop);
    int connection = 0;
    return tree.committer->submitAll(tree.committer->takeTicket(&connection), std::move(mutations), std::move(run))
        .wait(waitScope);
  }
  void expectAllWell(const std::vector<Result<Entry>>& results) {
    for (auto& result : results) EXPECT_TRUE(result.ok()) << result.error().message;
  }
  template <typename... T>
  static Mutations list(T... mutations) {
    Mutations all;
    (all.push_back(std::move(mutations)), ...);
    return all;
  }

  std::map<std::string, std::string> contents() {
    std::map<std::string, std::string> all;
    for (auto item = std::filesystem::recursive_directory_iterator(temp.path()); item != decltype(item)(); ++item) {
      std::string path = std::filesystem::relative(item->path(), temp.path());
      if (path == ".capstan") {
        item.disable_recursion_pending();
      } else {
        all[path] = item->is_directory() ? "/" : temp.read(path);
      }
    }
    return all;
  }
  // Contents of all plain files in the trash, in no order.
  std::multiset<std::string> inTrash() {
    std::multiset<std::string> all;
    for (auto& item : std::filesystem::recursive_directory_iterator(temp / ".capstan/trash")) {
      std::string path = std::filesystem::relative(item.path(), temp.path());
      if (item.is_regular_file() && item.path().filename() != JOURNAL_FILE) all.insert(temp.read(path));
    }
    return all;
  }

  void fillTree() {
    for (auto name : {"replaced", "expected", "removed", "target", "source"})
      temp.write(name, std::string("old ") + name);
    temp.write("folder/inner", "old inner");
  }
  Mutations changeEverything(Opened& tree) {
    Expectation known{Expectation::Kind::VERSION, versionOf(temp.stat("expected"))};
    return list(tree.put("replaced", "new replaced"), tree.put("expected", "new expected", known),
                makeRemove("removed", false, {}), makeRemove("folder", true, {}),
                makeRename({"source", "target", {}, {}, false}));
  }

  TempFolder temp;
  Disk disk;
  const std::string id = std::string(16, 'r');
};

TEST_F(TrashTest, IsWholeAfterACrashAtEachRename) {
  for (int at = 0; at < 12; ++at) {
    for (bool after : {false, true}) {
      std::filesystem::remove_all(temp.path());
      std::filesystem::create_directory(temp.path());
      fillTree();
      auto before = contents();
      pid_t child = fork();
      if (child == 0) {
        CrashingDisk crashing(at, after);
        Opened tree(temp.path(), crashing);
        auto run = tree.trash->begin(id, "crash", "test").value();
        carryOut(tree, changeEverything(tree), std::move(run));
        _exit(0);
      }
      int status = 0;
      ASSERT_EQ(waitpid(child, &status, 0), child);
      SCOPED_TRACE("rename " + std::to_string(at) + (after ? " done" : " not done"));

      Opened tree(temp.path(), disk);
      auto found = contents();
      auto kept = inTrash();
      for (auto& [path, content] : before) {
        if (path == "source" && found["target"] == content) continue;
        auto now = found.find(path);
        if (now != found.end() && now->second == content) continue;
        if (content != "/") {
          EXPECT_EQ(kept.count(content), 1u) << path;
        }
        if (now != found.end() && path != "target") {
          EXPECT_EQ(now->second, "new " + path);
        }
      }
      for (auto& content : kept) EXPECT_THAT(content, HasSubstr("old")) << "only what was displaced is in the trash";
      auto undoing = tree.trash->begin({}, "undo", "test").value();
      auto steps = tree.trash->undo(id, undoing);
      if (!steps.ok()) {
        EXPECT_EQ(steps.error().code, ErrorCode::NOT_FOUND);
        EXPECT_EQ(found, before);
        continue;
      }
      expectAllWell(carryOut(tree, std::move(*steps), std::move(undoing)));
      EXPECT_EQ(contents(), before);
    }
  }
}

TEST_F(TrashTest, FlushesContentBeforeItIsPlacedAndTheTrashBeforeTheAnswer) {
  temp.write("d/a", "old");
  NotingDisk noting;
  Opened tree(temp.path(), noting);
  expectAllWell(carryOut(tree, list(tree.put("d/a", "new")), tree.trash->begin(id, "", "").value()));
  auto& calls = noting.calls;
  auto at = [&](const std::string& call) { return std::find(calls.begin(), calls.end(), call) - calls.begin(); };
  EXPECT_LT(at("rename files"), at("rename d"));
  auto last = ptrdiff_t(calls.size());
  for (auto call : {"fsync d", "fsync journal", "fsync files"}) {
    if (at("syncfs") < last) break;
    EXPECT_LT(at("rename d"), at(call));
    EXPECT_LT(at(call), last) << call;
  }
}

TEST_F(TrashTest, LeavesOutATornTailOfAJournal) {
  temp.write("a", "old");
  {
    Opened tree(temp.path(), disk);
    expectAllWell(carryOut(tree, list(tree.put("a", "new")), tree.trash->begin(id, "label", "client").value()));
  }
  std::string journal = ".capstan/trash/72727272727272727272727272727272/journal";
  std::string whole = temp.read(journal);
  {
    std::ofstream file(temp / journal, std::ios::app | std::ios::binary);
    file << encode(RunRecord{}).substr(0, 20);
  }
  Opened tree(temp.path(), disk);
  auto runs = tree.trash->runs().value();
  ASSERT_THAT(runs, SizeIs(1));
  EXPECT_EQ(runs[0].label, "label");
  EXPECT_EQ(runs[0].client, "client");
  EXPECT_EQ(runs[0].replaced, 1u);
  // What comes after it is not hidden by it.
  expectAllWell(carryOut(tree, list(makeRemove("a", false, {})), tree.trash->begin(id, "", "").value()));
  EXPECT_THAT(tree.trash->runs().value()[0].removed, 1u);
  EXPECT_EQ(decodeJournal(temp.read(journal).substr(0, whole.size())).bytes, whole.size());
}

TEST_F(TrashTest, DeletesWhatIsTooOldOrTooMuch) {
  temp.write("a", std::string(100'000, 'x'));
  Opened tree(temp.path(), disk, {1, 0.1});
  expectAllWell(carryOut(tree, list(makeRemove("a", false, {})), tree.trash->begin(id, "", "").value()));
  tree.trash->sweep();
  EXPECT_THAT(tree.trash->runs().value(), IsEmpty());
  EXPECT_EQ(tree.trash->bytes(), 0u);

  TempFolder other;
  other.write("b", std::string(100'000, 'x'));
  Opened small(other.path(), disk, {UINT64_MAX, 0.0});
  expectAllWell(carryOut(small, list(makeRemove("b", false, {})), small.trash->begin(id, "", "").value()));
  small.trash->sweep();
  EXPECT_THAT(small.trash->runs().value(), IsEmpty());
}

TEST_F(TrashTest, DropsRunsOfTheShareThatKeepsMostBeforeThoseOfTheOwner) {
  for (auto name : {"owners", "a1", "a2", "b"}) temp.write(name, std::string(200'000, 'x'));
  struct statvfs status;
  ASSERT_EQ(statvfs(temp.path().c_str(), &status), 0);
  double bytes = double(status.f_blocks) * double(status.f_frsize);
  Opened tree(temp.path(), disk, {UINT64_MAX, 700'000 / bytes});
  syncfs(tree.root->fd());  // so that their blocks are counted
  auto removeUnder = [&](const std::string& name, std::string holder) {
    auto run = tree.trash->begin({}, name, "", {std::move(holder), {}}).value();
    expectAllWell(carryOut(tree, list(makeRemove(name, false, {})), std::move(run)));
  };
  removeUnder("owners", "");
  removeUnder("a1", "a");
  removeUnder("b", "b");
  removeUnder("a2", "a/inner");
  tree.trash->sweep();
  std::vector<std::string> left;
  auto runs = tree.trash->runs().value();
  for (auto& info : runs) left.push_back(info.label);
  EXPECT_THAT(left, ElementsAre("a2", "b", "owners"));
}

TEST_F(TrashTest, ChangesNothingInARunOfSomebodyElse) {
  temp.write("a", "old");
  std::string journal = temp / (".capstan/trash/" + toHex(id) + "/" + JOURNAL_FILE);
  {
    Opened tree(temp.path(), disk);
    expectAllWell(carryOut(tree, list(makeRemove("a", false, {})), tree.trash->begin(id, "", "").value()));
  }
  Opened tree(temp.path(), disk);
  std::ofstream(journal, std::ios::app) << "torn";
  auto size = std::filesystem::file_size(journal);
  EXPECT_EQ(tree.trash->begin(id, "", "", {"stranger", {}}).error().code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(std::filesystem::file_size(journal), size);
  EXPECT_TRUE(tree.trash->begin(id, "", "").ok());
  EXPECT_LT(std::filesystem::file_size(journal), size) << "its own is put right";
}

TEST_F(TrashTest, LeavesARunAloneAsLongAsItGoesOn) {
  temp.write("a", "old");
  Opened tree(temp.path(), disk, {1, 0.1});
  auto run = tree.trash->begin(id, "", "").value();
  expectAllWell(carryOut(tree, list(makeRemove("a", false, {})), run));
  tree.trash->sweep();
  EXPECT_THAT(tree.trash->runs().value(), SizeIs(1));
  auto undoing = tree.trash->begin({}, "", "").value();
  EXPECT_EQ(tree.trash->undo(id, undoing).error().code, ErrorCode::OVERLOADED);
  run = nullptr;
  tree.trash->sweep();
  EXPECT_THAT(tree.trash->runs().value(), IsEmpty());
}

TEST_F(TrashTest, IsNotLeftByAHostilePath) {
  temp.write("outside/secret", "secret");
  temp.write("root/d/inner/file", "content");
  Opened tree(temp / "root", disk);
  expectAllWell(carryOut(tree, list(makeRemove("d", true, {})), tree.trash->begin(id, "", "").value()));
  // From files/1 up to the folder that holds the served one.
  for (std::string path : {"d/../../../../../outside/secret", "d/../../../../../outside", "d/./inner", "/d"}) {
    EXPECT_EQ(tree.trash->restore(id, path, "to").error().code, ErrorCode::INVALID_PATH) << path;
    EXPECT_EQ(tree.trash->restore(id, "d", path).error().code, ErrorCode::INVALID_PATH) << path;
    EXPECT_EQ(tree.trash->list(id, path, {}, 10).error().code, ErrorCode::INVALID_PATH) << path;
  }
  EXPECT_EQ(tree.trash->restore(id, "d", ".capstan/d").error().code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(temp.read("outside/secret"), "secret");
}

TEST_F(TrashTest, KeepsWhatAnotherProgramHadPutInThePlaceBeforeACrash) {
  temp.write("a", "old");
  {
    Opened tree(temp.path(), disk);
    auto run = tree.trash->begin(id, "", "").value();
    auto slot = run->reserve("a", {}, temp.stat("a"), {}, temp.stat("a").st_ino + 1).value();
    // Neither what was to be displaced nor what was to be placed.
    temp.write(".capstan/trash/72727272727272727272727272727272/files/" + slot.name, "another program's");
  }
  Opened tree(temp.path(), disk);
  EXPECT_THAT(inTrash(), ElementsAre("another program's"));
  EXPECT_THAT(tree.trash->list(id, "", {}, 10).value().items, SizeIs(1));
}

TEST_F(TrashTest, LeavesBothWhereTheyWereIfWhatARenameDisplacesCannotBeKept) {
  temp.write("source", "source");
  temp.write("target", "target");
  auto before = contents();
  RefusingDisk refusing(1);
  Opened tree(temp.path(), refusing);
  auto results =
      carryOut(tree, list(makeRename({"source", "target", {}, {}, false})), tree.trash->begin(id, "", "").value());
  EXPECT_EQ(results[0].error().code, ErrorCode::IO);
  EXPECT_EQ(contents(), before);
}

TEST_F(TrashTest, DoesNotTakeAJournalThatTheSystemEndedWithForWhole) {
  temp.write("a", "old");
  std::string folder = ".capstan/trash/72727272727272727272727272727272/";
  {
    Opened tree(temp.path(), disk);
    expectAllWell(carryOut(tree, list(makeRemove("a", false, {})), tree.trash->begin(id, "", "").value()));
    EXPECT_TRUE(tree.trash->runs().value()[0].canUndo);
  }
  {
    RunRecord opened;
    opened.kind = RunRecord::Kind::OPENED;
    opened.path = "another boot";
    std::ofstream journal(temp / (folder + JOURNAL_FILE), std::ios::app | std::ios::binary);
    journal << encode(opened);
  }
  temp.write(folder + "files/7", "not on record");
  Opened tree(temp.path(), disk);
  EXPECT_FALSE(tree.trash->runs().value()[0].canUndo);
  auto undoing = tree.trash->begin({}, "", "").value();
  EXPECT_EQ(tree.trash->undo(id, undoing).error().code, ErrorCode::EXPIRED);
  auto items = tree.trash->list(id, "", {}, 10).value().items;
  ASSERT_THAT(items, SizeIs(2));
  EXPECT_EQ(items[1].entry.path, "recovered-7");
  auto run = tree.trash->begin(id, "", "").value();
  temp.write("b", "old");
  EXPECT_EQ(run->reserve("b", {}, temp.stat("b"), {}).value().number, 8u);
}

TEST_F(TrashTest, KnowsAfterAKillAllThatWasDone) {
  pid_t child = fork();
  if (child == 0) {
    Opened tree(temp.path(), disk);
    auto run = tree.trash->begin(id, "", "").value();
    RunRecord made;
    made.kind = RunRecord::Kind::CREATED;
    made.path = "made";
    run->record(made);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  Opened tree(temp.path(), disk);
  auto runs = tree.trash->runs().value();
  ASSERT_THAT(runs, SizeIs(1));
  EXPECT_EQ(runs[0].created, 1u);
  EXPECT_TRUE(runs[0].canUndo);
}

TEST_F(TrashTest, LetsOthersInBetweenTheSlicesOfABatch) {
  Opened tree(temp.path(), disk);
  kj::EventLoop loop;
  kj::WaitScope waitScope(loop);
  int connection = 0, other = 0;
  Mutations many;
  for (int i = 0; i < 3000; ++i) many.push_back(makeMakeDirectory("d" + std::to_string(i), {}, false));
  auto batch = tree.committer->submitAll(tree.committer->takeTicket(&connection), std::move(many), nullptr);
  auto behind = tree.committer->submit(tree.committer->takeTicket(&connection), makeRemove("d2999", false, {}));
  auto between = tree.committer->submit(tree.committer->takeTicket(&other), makeMakeDirectory("other", {}, false));
  EXPECT_TRUE(between.wait(waitScope).ok());
  EXPECT_TRUE(behind.wait(waitScope).ok()) << "what comes after a batch on its connection sees all of it";
  expectAllWell(batch.wait(waitScope));
  EXPECT_GE(tree.committer->figures().rounds, 6u);
}

}  // namespace
}  // namespace capstan::storage
