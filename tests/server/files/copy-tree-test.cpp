#include <capstan/storage/copy-tree.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "writing.h"

namespace capstan::server::files {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CopyTest : public ::testing::Test {
 protected:
  Writing server;
  TempFolder& temp = server.temp;

  bool exists(const std::string& name) { return std::filesystem::exists(std::filesystem::symlink_status(temp / name)); }
  void setTime(const std::string& name, int64_t mtime) {
    timespec times[2] = {toTimespec(mtime), toTimespec(mtime)};
    ASSERT_EQ(utimensat(AT_FDCWD, (temp / name).c_str(), times, AT_SYMLINK_NOFOLLOW), 0);
  }
};

TEST_F(CopyTest, CopiesAFileWithModeAndTime) {
  std::string content(300'000, 'x');
  temp.write("a", content);
  chmod((temp / "a").c_str(), 0604);
  setTime("a", 1'234'567'890'123'456'789);
  Answer copied = server.copy("a", "b/c", {}, {}, true);
  ASSERT_TRUE(copied.ok()) << copied;
  EXPECT_EQ(temp.read("b/c"), content);
  EXPECT_EQ(copied.entry.mode, 0604u);
  EXPECT_EQ(copied.entry.mtime, 1'234'567'890'123'456'789);
  EXPECT_EQ(copied.entry.version, server.versionAt("b/c"));
  EXPECT_EQ(temp.read("a"), content);
  EXPECT_THAT(server.staged(), IsEmpty());
}

TEST_F(CopyTest, KeepsHoles) {
  constexpr uint64_t SIZE = 5ull << 30;
  kj::AutoCloseFd fd(::open((temp / "sparse").c_str(), O_RDWR | O_CREAT, 0600));
  ASSERT_EQ(ftruncate(fd, SIZE), 0);
  ASSERT_TRUE(writeAt(fd, "middle", 6, SIZE / 2));
  ASSERT_TRUE(server.copy("sparse", "copy").ok());
  struct stat status = temp.stat("copy");
  EXPECT_EQ(uint64_t(status.st_size), SIZE);
  EXPECT_LT(status.st_blocks * 512, 1 << 20);
  char found[6];
  kj::AutoCloseFd copy(::open((temp / "copy").c_str(), O_RDONLY));
  ASSERT_EQ(readAt(copy, found, 6, SIZE / 2), 6);
  EXPECT_EQ(std::string(found, 6), "middle");
}

TEST_F(CopyTest, CopiesATreeWithEverythingInIt) {
  temp.write("tree/a/b/file", "1");
  temp.write("tree/empty", "");
  temp.write("tree/" + std::string(255, 'n'), "2");
  temp.write("tree/\xff\n", "3");
  temp.makeFolder("tree/none");
  temp.link("tree/link", "../outside");
  setTime("tree/link", 11);
  setTime("tree/a/b", 22);
  setTime("tree/a", 33);
  chmod((temp / "tree/a").c_str(), 0750);
  setTime("tree", 44);
  Answer copied = server.copy("tree", "copy");
  ASSERT_TRUE(copied.ok()) << copied;
  EXPECT_EQ(temp.read("copy/a/b/file"), "1");
  EXPECT_EQ(temp.read("copy/" + std::string(255, 'n')), "2");
  EXPECT_EQ(temp.read("copy/\xff\n"), "3");
  EXPECT_TRUE(exists("copy/empty"));
  EXPECT_TRUE(exists("copy/none"));
  EXPECT_EQ(std::filesystem::read_symlink(temp / "copy/link"), "../outside");
  EXPECT_EQ(toNanoseconds(temp.stat("copy/link").st_mtim), 11);
  EXPECT_EQ(toNanoseconds(temp.stat("copy/a/b").st_mtim), 22);
  EXPECT_EQ(toNanoseconds(temp.stat("copy/a").st_mtim), 33);
  EXPECT_EQ(temp.stat("copy/a").st_mode & 07777, 0750u);
  EXPECT_EQ(copied.entry.mtime, 44);
  EXPECT_EQ(copied.entry.version, server.versionAt("copy"));
}

TEST_F(CopyTest, KeepsTheModeOfAFolderThatMayNotBeWritten) {
  temp.write("tree/sub/file", "1");
  chmod((temp / "tree/sub").c_str(), 0555);
  chmod((temp / "tree").c_str(), 0555);
  ASSERT_TRUE(server.copy("tree", "copy").ok());
  EXPECT_EQ(temp.stat("copy").st_mode & 07777, 0555u);
  EXPECT_EQ(temp.stat("copy/sub").st_mode & 07777, 0555u);
  for (auto name : {"tree", "tree/sub", "copy", "copy/sub"}) chmod((temp / name).c_str(), 0755);
}

TEST_F(CopyTest, ReplacesAsTheRulesSay) {
  temp.write("file", "1");
  temp.write("other", "2");
  temp.write("tree/x", "3");
  temp.makeFolder("empty");
  EXPECT_EQ(server.copy("tree", "empty").code, ErrorCode::EXISTS);
  EXPECT_EQ(server.copy("tree", "file").code, ErrorCode::EXISTS);
  EXPECT_EQ(server.copy("file", "empty").code, ErrorCode::IS_DIRECTORY);
  EXPECT_EQ(server.copy("tree", "tree/copy").code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_EQ(server.copy("tree", "tree").code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_EQ(server.copy("", "x").code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_EQ(server.copy("nothing", "x").code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(server.copy("file", "no/x").code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(server.copy("file", "").code, ErrorCode::INVALID_PATH);
  EXPECT_EQ(server.copy(".capstan", "x").code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(server.copy("file", ".capstan/x").code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(server.copy("file", "other", {}, absent()).code, ErrorCode::EXISTS);
  EXPECT_EQ(server.copy("file", "other", {}, is("another")).code, ErrorCode::CONFLICT);
  EXPECT_EQ(server.copy("file", "other", is("another"), {}).code, ErrorCode::CONFLICT);
  EXPECT_EQ(temp.read("other"), "2");
  EXPECT_TRUE(server.copy("file", "other", is(server.versionAt("file")), is(server.versionAt("other"))).ok());
  EXPECT_EQ(temp.read("other"), "1");
  EXPECT_THAT(server.staged(), IsEmpty());
}

TEST_F(CopyTest, CopiesASymlinkAsALinkAndRefusesSpecialFiles) {
  temp.link("link", "nowhere");
  EXPECT_TRUE(server.copy("link", "copy").ok());
  EXPECT_EQ(std::filesystem::read_symlink(temp / "copy"), "nowhere");
  ASSERT_EQ(mkfifo((temp / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(server.copy("pipe", "x").code, ErrorCode::UNSUPPORTED);
  temp.makeFolder("tree");
  ASSERT_EQ(mkfifo((temp / "tree/pipe").c_str(), 0600), 0);
  Answer refused = server.copy("tree", "x");
  EXPECT_EQ(refused.code, ErrorCode::UNSUPPORTED);
  EXPECT_THAT(refused.message, HasSubstr("tree/pipe"));
  EXPECT_FALSE(exists("x"));
  EXPECT_THAT(server.staged(), IsEmpty());
}

TEST_F(CopyTest, CopiesWhatEarlierCallsLeftAndNotWhatLaterOnesDo) {
  server.put("a", "old");
  auto first = server.sendPut("a", "middle");
  auto request = server.store.copyRequest();
  request.setFrom(rpc::asData("a"));
  request.setTo(rpc::asData("b"));
  auto copy = request.send();
  auto last = server.sendPut("a", "new");
  EXPECT_TRUE(answerOf(last.wait(server.waitScope)).ok());
  EXPECT_TRUE(answerOf(copy.wait(server.waitScope)).ok());
  EXPECT_EQ(temp.read("b"), "middle");
  EXPECT_EQ(temp.read("a"), "new");
}

TEST_F(CopyTest, LeavesNothingWhenItIsCancelled) {
  temp.write("tree/a", std::string(1 << 20, 'x'));
  {
    auto request = server.store.copyRequest();
    request.setFrom(rpc::asData("tree"));
    request.setTo(rpc::asData("copy"));
    auto copy = request.send();
    copy.poll(server.waitScope);
  }
  EXPECT_TRUE(server.put("after", "1").ok());  // the place in the order is given up
  server.stop();
  server.start();
  EXPECT_THAT(server.staged(), IsEmpty());
}

}  // namespace
}  // namespace capstan::server::files
