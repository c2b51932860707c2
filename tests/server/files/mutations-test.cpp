#include <capstan/storage/mutations.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "writing.h"

namespace capstan::server::files {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class MutationsTest : public ::testing::Test {
 protected:
  Writing server;
  TempFolder& temp = server.temp;

  bool exists(const std::string& name) { return std::filesystem::exists(std::filesystem::symlink_status(temp / name)); }
};

TEST_F(MutationsTest, MakesAFolderOnlyWhereNothingIs) {
  Answer made = server.mkdir("a");
  ASSERT_TRUE(made.ok()) << made;
  EXPECT_EQ(made.entry.type, EntryType::DIRECTORY);
  EXPECT_EQ(made.entry.path, "a");
  EXPECT_EQ(made.entry.version, server.versionAt("a"));
  EXPECT_EQ(server.mkdir("a").code, ErrorCode::EXISTS);
  EXPECT_EQ(server.mkdir("b/c").code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(server.mkdir("").code, ErrorCode::EXISTS);
  temp.write("file", "x");
  EXPECT_EQ(server.mkdir("file/c").code, ErrorCode::NOT_DIRECTORY);
  EXPECT_EQ(server.mkdir("file").code, ErrorCode::EXISTS);
  EXPECT_EQ(server.mkdir(".capstan").code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(server.mkdir("../x").code, ErrorCode::INVALID_PATH);
}

TEST_F(MutationsTest, MakesParentsAndIsContentWithAFolderThatIsThere) {
  EXPECT_TRUE(server.mkdir("a/b/c", true).ok());
  ASSERT_TRUE(server.mkdir("a/b/c", true, {0700, {}}).ok());
  EXPECT_EQ(temp.stat("a/b/c").st_mode & 07777, 0777u & ~0022u);  // left alone
  EXPECT_TRUE(server.mkdir("", true).ok());
  temp.link("link", "a");
  EXPECT_TRUE(server.mkdir("link", true).ok());
  EXPECT_TRUE(server.mkdir("link/d", true).ok());
  EXPECT_TRUE(exists("a/d"));
  temp.write("file", "x");
  EXPECT_EQ(server.mkdir("file", true).code, ErrorCode::EXISTS);
  EXPECT_EQ(server.mkdir("file/d", true).code, ErrorCode::NOT_DIRECTORY);
}

TEST_F(MutationsTest, GivesAFolderItsModeAndTime) {
  server.connect("owner");  // who may set them all
  Answer made = server.mkdir("a", false, {02750, 1'000'000'000'123'456'789});
  ASSERT_TRUE(made.ok()) << made;
  EXPECT_EQ(temp.stat("a").st_mode & 07777, 02750u);
  EXPECT_EQ(made.entry.mtime, 1'000'000'000'123'456'789);
}

TEST_F(MutationsTest, KeepsASymlinksTargetAsItIsGiven) {
  std::string target = "../\xff nowhere\n";
  Answer made = server.symlink("link", target, absent(), {{}, 5});
  ASSERT_TRUE(made.ok()) << made;
  EXPECT_EQ(made.entry.type, EntryType::SYMLINK);
  EXPECT_EQ(made.entry.target, target);
  EXPECT_EQ(made.entry.mtime, 5);
  EXPECT_EQ(std::filesystem::read_symlink(temp / "link").string(), target);
  EXPECT_EQ(server.symlink("link", "b", absent()).code, ErrorCode::EXISTS);
  EXPECT_TRUE(server.symlink("link", "b", is(made)).ok());
  EXPECT_EQ(server.symlink("link", "c", is(made)).code, ErrorCode::CONFLICT);
  temp.write("file", "x");
  EXPECT_TRUE(server.symlink("file", "b").ok());
  temp.makeFolder("folder");
  EXPECT_EQ(server.symlink("folder", "b").code, ErrorCode::IS_DIRECTORY);
  EXPECT_EQ(server.symlink("l", "").code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_EQ(server.symlink("l", std::string(4096, 'x')).code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_EQ(server.symlink("l", std::string("a\0b", 3)).code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_TRUE(server.symlink("l", std::string(4095, 'x')).ok());
  EXPECT_THAT(server.staged(), IsEmpty());
}

TEST_F(MutationsTest, SetsMetadataOfTheLinkItself) {
  temp.write("file", "x");
  Answer set = server.setMetadata("file", {0640, -1});
  ASSERT_TRUE(set.ok()) << set;
  EXPECT_EQ(set.entry.mode, 0640u);
  EXPECT_EQ(set.entry.mtime, -1);
  EXPECT_EQ(set.entry.version, server.versionAt("file"));
  EXPECT_EQ(server.setMetadata("file", {0600, {}}, is("another")).code, ErrorCode::CONFLICT);
  EXPECT_TRUE(server.setMetadata("file", {0, {}}, is(set)).ok());
  temp.link("link", "file");
  EXPECT_TRUE(server.setMetadata("link", {{}, 77}).ok());
  EXPECT_EQ(toNanoseconds(temp.stat("link").st_mtim), 77);
  EXPECT_EQ(toNanoseconds(temp.stat("file").st_mtim), -1);
  EXPECT_EQ(server.setMetadata("link", {0600, {}}).code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_EQ(server.setMetadata("file", {0600, {}}, absent()).code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_EQ(server.setMetadata("nothing", {0600, {}}).code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(server.setMetadata(".capstan", {0600, {}}).code, ErrorCode::NOT_FOUND);
  EXPECT_TRUE(server.setMetadata("", {0755, 9}).ok());
  EXPECT_EQ(toNanoseconds(temp.stat("").st_mtim), 9);
}

TEST_F(MutationsTest, RenamesAsTheRulesOfReplacingSay) {
  temp.write("file", "1");
  temp.write("other", "2");
  temp.write("full/file", "3");
  temp.makeFolder("empty");
  temp.makeFolder("folder");
  EXPECT_EQ(server.rename("file", "empty").code, ErrorCode::IS_DIRECTORY);
  EXPECT_EQ(server.rename("folder", "file").code, ErrorCode::NOT_DIRECTORY);
  EXPECT_EQ(server.rename("folder", "full").code, ErrorCode::NOT_EMPTY);
  EXPECT_EQ(server.rename("nothing", "x").code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(server.rename("file", "no/x").code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(server.rename("full", "full/x").code, ErrorCode::INVALID_ARGUMENT);
  temp.link("alias", "full");
  EXPECT_EQ(server.rename("full", "alias/x").code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_EQ(server.rename("", "x").code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_EQ(server.rename("file", "").code, ErrorCode::INVALID_PATH);
  EXPECT_EQ(server.rename(".capstan", "x").code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(server.rename("file", ".capstan/x").code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(temp.read("file"), "1");

  Answer moved = server.rename("file", "other");
  ASSERT_TRUE(moved.ok()) << moved;
  EXPECT_EQ(moved.entry.path, "other");
  EXPECT_EQ(moved.entry.version, server.versionAt("other"));
  EXPECT_EQ(temp.read("other"), "1");
  EXPECT_FALSE(exists("file"));
  EXPECT_TRUE(server.rename("full", "empty").ok());
  EXPECT_EQ(temp.read("empty/file"), "3");
  EXPECT_TRUE(server.rename("alias", "new/deep/alias", {}, {}, true).ok());
  EXPECT_EQ(std::filesystem::read_symlink(temp / "new/deep/alias"), "full");
}

TEST_F(MutationsTest, RenameKeepsOnlyTheNewNameOfTwoNamesOfOneFile) {
  temp.write("d/a", "1");
  ASSERT_EQ(::link((temp / "d/a").c_str(), (temp / "b").c_str()), 0);
  EXPECT_TRUE(server.rename("d/a", "b").ok());
  EXPECT_FALSE(exists("d/a"));
  EXPECT_EQ(temp.read("b"), "1");
  EXPECT_TRUE(server.rename("b", "b").ok());
  EXPECT_EQ(server.rename("b", "b", {}, absent()).code, ErrorCode::EXISTS);
  // One name by two paths must not be taken for two names.
  temp.write("d/c", "2");
  temp.link("alias", "d");
  EXPECT_TRUE(server.rename("d/c", "alias/c").ok());
  EXPECT_EQ(temp.read("d/c"), "2");
}

TEST_F(MutationsTest, RenameHoldsExpectationsOnBothSides) {
  temp.write("a", "1");
  temp.write("b", "2");
  Version a = server.versionAt("a"), b = server.versionAt("b");
  EXPECT_EQ(server.rename("a", "b", {}, absent()).code, ErrorCode::EXISTS);
  EXPECT_EQ(server.rename("a", "b", is(b), {}).code, ErrorCode::CONFLICT);
  EXPECT_EQ(server.rename("a", "b", is(a), is(a)).code, ErrorCode::CONFLICT);
  EXPECT_EQ(server.rename("a", "c", is(a), is(a)).code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(temp.read("a") + temp.read("b"), "12");
  EXPECT_TRUE(server.rename("a", "b", is(a), is(b)).ok());
  EXPECT_EQ(temp.read("b"), "1");
  EXPECT_FALSE(exists("a"));
  temp.write("c", "3");
  EXPECT_TRUE(server.rename("b", "c", is(server.versionAt("b")), {}).ok());
  EXPECT_EQ(temp.read("c"), "1");
  EXPECT_FALSE(exists("b"));
  EXPECT_TRUE(server.rename("c", "d", is(server.versionAt("c")), absent()).ok());
  temp.makeFolder("from");
  temp.makeFolder("empty");
  temp.write("full/x", "4");
  EXPECT_EQ(server.rename("from", "full", is(server.versionAt("from")), is(server.versionAt("full"))).code,
            ErrorCode::NOT_EMPTY);
  EXPECT_TRUE(server.rename("full", "empty", is(server.versionAt("full")), is(server.versionAt("empty"))).ok());
  EXPECT_EQ(temp.read("empty/x"), "4");
  EXPECT_FALSE(exists("full"));
  EXPECT_THAT(server.staged(), IsEmpty());
}

TEST_F(MutationsTest, RemovesWhatIsExpectedAndNothingElse) {
  temp.write("file", "1");
  Version version = server.versionAt("file");
  EXPECT_EQ(server.remove("file", false, is("another")).code, ErrorCode::CONFLICT);
  EXPECT_EQ(server.remove("file", false, absent()).code, ErrorCode::INVALID_ARGUMENT);
  Answer removed = server.remove("file", false, is(version));
  ASSERT_TRUE(removed.ok()) << removed;
  EXPECT_EQ(removed.entry.version, version);
  EXPECT_FALSE(exists("file"));
  EXPECT_EQ(server.remove("file").code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(server.remove("").code, ErrorCode::INVALID_PATH);
  EXPECT_EQ(server.remove("", true).code, ErrorCode::INVALID_PATH);
  EXPECT_EQ(server.remove(".capstan", true).code, ErrorCode::NOT_FOUND);
  temp.write("target/x", "2");
  temp.link("link", "target");
  EXPECT_TRUE(server.remove("link", true).ok());
  EXPECT_EQ(temp.read("target/x"), "2");
  EXPECT_EQ(server.remove("target").code, ErrorCode::NOT_EMPTY);
  temp.makeFolder("empty");
  EXPECT_TRUE(server.remove("empty").ok());
  EXPECT_THAT(server.staged(), IsEmpty());
}

TEST_F(MutationsTest, RemovesAWholeFolderInOneStepHoweverDeep) {
  std::string path = "deep";
  for (int i = 0; i < 30; ++i) {
    path += "/" + std::string(100, 'd');
    temp.makeFolder(path);
    temp.write(path + "/file", "x");
  }
  temp.link("deep/link", "..");
  chmod((temp / "deep/" + std::string(100, 'd')).c_str(), 0500);
  ASSERT_TRUE(server.remove("deep", true, is(server.versionAt("deep"))).ok());
  EXPECT_FALSE(exists("deep"));
  EXPECT_THAT(server.staged(), IsEmpty());
}

TEST_F(MutationsTest, TakesEffectInTheOrderSentWithoutWaiting) {
  auto made = server.sendMkdir("a");
  auto inner = server.sendMkdir("a/b");
  auto put = server.sendPut("a/b/file", "content");
  auto again = server.sendPut("a/b/file", "newer");
  EXPECT_TRUE(answerOf(made.wait(server.waitScope)).ok());
  EXPECT_TRUE(answerOf(inner.wait(server.waitScope)).ok());
  EXPECT_TRUE(answerOf(put.wait(server.waitScope)).ok());
  EXPECT_TRUE(answerOf(again.wait(server.waitScope)).ok());
  EXPECT_EQ(temp.read("a/b/file"), "newer");
}

TEST_F(MutationsTest, RefusesNewWorkWhileShuttingDown) {
  temp.write("file", "1");
  server.scope->shuttingDown = true;
  EXPECT_EQ(server.put("x", "1").code, ErrorCode::SHUTTING_DOWN);
  EXPECT_EQ(server.mkdir("x").code, ErrorCode::SHUTTING_DOWN);
  EXPECT_EQ(server.symlink("x", "y").code, ErrorCode::SHUTTING_DOWN);
  EXPECT_EQ(server.rename("file", "x").code, ErrorCode::SHUTTING_DOWN);
  EXPECT_EQ(server.copy("file", "x").code, ErrorCode::SHUTTING_DOWN);
  EXPECT_EQ(server.remove("file").code, ErrorCode::SHUTTING_DOWN);
  EXPECT_EQ(server.setMetadata("file", {0600, {}}).code, ErrorCode::SHUTTING_DOWN);
  EXPECT_EQ(temp.read("file"), "1");
}

}  // namespace
}  // namespace capstan::server::files
