#include <capstan/server/files/trash-server.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "batching.h"

namespace capstan::server::files {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Property;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class TrashServerTest : public ::testing::Test, public Batching {
 public:
  ~TrashServerTest() noexcept override {}

 protected:
  std::vector<std::string> listed(const std::string& run = {}, const std::string& path = {}, uint32_t max = 0) {
    std::vector<std::string> paths;
    std::string cursor;
    auto capability = trash();
    while (true) {
      auto request = capability.listRequest();
      request.setRun(rpc::asData(run));
      request.setPath(rpc::asData(path));
      request.setCursor(rpc::asData(cursor));
      request.setMaxEntries(max);
      auto response = request.send().wait(waitScope);
      for (auto item : response.getItems()) paths.emplace_back(rpc::asView(item.getEntry().getPath()));
      if (response.getAtEnd()) return paths;
      cursor = std::string(rpc::asView(response.getCursor()));
    }
  }
  // Everything in the served folder: path, and content, target or "/".
  std::map<std::string, std::string> tree() {
    std::map<std::string, std::string> all;
    for (auto item = std::filesystem::recursive_directory_iterator(temp.path()); item != decltype(item)(); ++item) {
      std::string path = std::filesystem::relative(item->path(), temp.path());
      if (path == ".capstan") {
        item.disable_recursion_pending();
        continue;
      }
      all[path] = item->is_symlink()     ? "-> " + std::filesystem::read_symlink(item->path()).string()
                  : item->is_directory() ? "/"
                                         : temp.read(path);
    }
    return all;
  }
};

TEST_F(TrashServerTest, KeepsWhatABatchOverwritesAndRemoves) {
  temp.write("replaced", "old");
  temp.write("removed", "gone");
  temp.write("folder/inner/file", "deep");
  temp.write("target", "under");
  temp.write("source", "over");
  auto answers = runBatch({putting("replaced", "new"), removing("removed"), removing("folder", true),
                           renaming("source", "target"), putting("made", "1")},
                          "a test");
  EXPECT_THAT(answers, Each(Property(&Answer::ok, true)));
  EXPECT_THAT(listed(lastRun),
              ElementsAre("replaced", "removed", "folder", "folder/inner", "folder/inner/file", "target"));
  EXPECT_THAT(listed({}, "folder/inner"), ElementsAre("folder/inner", "folder/inner/file"));
  EXPECT_THAT(listed({}, "", 1), SizeIs(6));
  auto runs = trash().runsRequest().send().wait(waitScope);
  ASSERT_EQ(runs.getRuns().size(), 1u);
  auto run = runs.getRuns()[0];
  EXPECT_EQ(rpc::asView(run.getId()), lastRun);
  EXPECT_EQ(std::string(run.getLabel().cStr()), "a test");
  EXPECT_EQ(run.getCreated(), 1u);
  EXPECT_EQ(run.getReplaced(), 1u);
  EXPECT_EQ(run.getRemoved(), 3u);
  EXPECT_EQ(run.getMoved(), 1u);
  EXPECT_TRUE(run.getCanUndo());
  EXPECT_GT(run.getBytes(), 0u);
}

TEST_F(TrashServerTest, TakesARunBackWhateverItDid) {
  temp.write("a", "old a");
  temp.write("b", "old b");
  temp.write("d/x", "x");
  temp.write("d/e/y", "y");
  temp.write("empty/z", "z");
  ASSERT_EQ(chmod((temp / "b").c_str(), 0640), 0);
  temp.link("l", "a");
  auto before = tree();
  mode_t mode = temp.stat("b").st_mode;
  auto answers =
      runBatch({putting("a", "new a"), settingMetadata("a", {0600, {}}), putting("a", "newer a"),
                settingMetadata("b", {0600, 5'000'000'000}), putting("new/n", "n", {}, true), renaming("d", "moved"),
                putting("moved/x", "new x"), removing("moved/e", true), removing("empty/z"), removing("empty"),
                removing("l"), linking("l", "b"), copying("a", "copy"), renaming("copy", "b")});
  for (auto& answer : answers) EXPECT_TRUE(answer.ok()) << answer;
  EXPECT_NE(tree(), before);
  auto after = tree();
  std::string run = lastRun;

  auto undone = undo(run);
  EXPECT_EQ(undone.code, ErrorCode::UNSET);
  for (auto& [path, code] : undone.failures) ADD_FAILURE() << path << ": " << kebabCase(code);
  EXPECT_EQ(tree(), before);
  EXPECT_EQ(temp.stat("b").st_mode, mode);

  auto again = undo(undone.run);
  for (auto& [path, code] : again.failures) ADD_FAILURE() << path << ": " << kebabCase(code);
  EXPECT_EQ(tree(), after);
}

TEST_F(TrashServerTest, LeavesWhatWasChangedSince) {
  temp.write("a", "old");
  temp.write("b", "old");
  runBatch({putting("a", "new"), putting("b", "new"), putting("c", "new"), makingFolder("d")});
  std::string run = lastRun;
  temp.write("a", "edited");
  temp.write("d/theirs", "x");
  auto undone = undo(run);
  EXPECT_EQ(undone.count, 2u);
  EXPECT_THAT(undone.failures,
              UnorderedElementsAre(std::pair("d", ErrorCode::CONFLICT), std::pair("a", ErrorCode::CONFLICT)));
  EXPECT_EQ(temp.read("a"), "edited");
  EXPECT_EQ(temp.read("b"), "old");
  EXPECT_FALSE(std::filesystem::exists(temp / "c"));
}

TEST_F(TrashServerTest, PutsBackOneThingWhereNothingIs) {
  temp.write("folder/file", "content");
  runBatch({removing("folder", true)});
  EXPECT_TRUE(restore({}, "folder/file", "else/where").ok());
  EXPECT_EQ(temp.read("else/where"), "content");
  EXPECT_EQ(restore({}, "folder/file").code, ErrorCode::NOT_FOUND);
  EXPECT_TRUE(restore(lastRun, "folder").ok());
  EXPECT_TRUE(std::filesystem::is_directory(temp / "folder"));
  EXPECT_THAT(listed(), IsEmpty());
  temp.write("a", "1");
  runBatch({removing("a")});
  temp.write("a", "2");
  EXPECT_EQ(restore({}, "a").code, ErrorCode::EXISTS);
  EXPECT_EQ(temp.read("a"), "2");
}

TEST_F(TrashServerTest, SaysWhenARunIsUnknownOrNotWhole) {
  EXPECT_EQ(undo(std::string(16, 'x')).code, ErrorCode::NOT_FOUND);
  temp.write("a", "1");
  runBatch({removing("a")});
  ASSERT_TRUE(restore({}, "a").ok());
  EXPECT_EQ(undo(lastRun).code, ErrorCode::EXPIRED);
}

TEST_F(TrashServerTest, IsEmptiedOnRequestAndSurvivesARestart) {
  temp.write("a", "1");
  runBatch({putting("a", "2")});
  std::string run = lastRun;
  stop();
  start();
  EXPECT_THAT(listed(run), ElementsAre("a"));
  auto refused = trash().emptyRequest().send().wait(waitScope);
  EXPECT_EQ(refused.getOutcome().getError().getCode(), schema::Error::Code::DENIED);
  connect(OWNER_GRANT);
  EXPECT_THAT(listed(run), ElementsAre("a"));
  auto request = trash().emptyRequest();
  request.setOlderThan(3600'000'000'000);
  EXPECT_EQ(request.send().wait(waitScope).getFreed(), 0u);
  EXPECT_THAT(listed(run), SizeIs(1));
  EXPECT_GT(trash().emptyRequest().send().wait(waitScope).getFreed(), 0u);
  EXPECT_THAT(listed(), IsEmpty());
  EXPECT_EQ(temp.read("a"), "2");
}

TEST_F(TrashServerTest, HoldsSeveralBatchesOfARunTogether) {
  temp.write("a", "1");
  temp.write("b", "1");
  auto first = begin();
  std::string run = lastRun;
  add(first, {putting("a", "2")});
  commit(first);
  auto second = begin(run);
  add(second, {putting("b", "2")});
  commit(second);
  EXPECT_THAT(listed(run), ElementsAre("a", "b"));
  EXPECT_EQ(undo(run).count, 2u);
  EXPECT_EQ(temp.read("a"), "1");
  EXPECT_EQ(temp.read("b"), "1");
}

TEST_F(TrashServerTest, LosesNothingWhenSomethingIsOverwrittenThatWasNotExpected) {
  temp.write("a", "1");
  auto answers = runBatch({putting("a", "2", is(Version(16, 'v'))), removing("a", false, is(Version(16, 'v')))});
  EXPECT_EQ(answers[0].code, ErrorCode::CONFLICT);
  EXPECT_EQ(answers[1].code, ErrorCode::CONFLICT);
  EXPECT_EQ(temp.read("a"), "1");
  EXPECT_THAT(listed(), IsEmpty());
}

}  // namespace
}  // namespace capstan::server::files
