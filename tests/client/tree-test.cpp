// Whole folders in both directions.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client-fixture.h"

namespace capstan::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Tree : public ClientTest {
 protected:
  Tree() {
    up.recursive = true;
    down.recursive = true;
  }
  struct stat statOf(const std::string& name) {
    struct stat stat {};
    EXPECT_EQ(lstat(path(name).c_str(), &stat), 0) << name;
    return stat;
  }
  void hostile(const std::string& path, EntryType type, const std::string& target = "") {
    Entry entry;
    entry.path = path;
    entry.type = type;
    entry.target = target;
    entry.mode = 0644;
    entry.version = "h";
    server.tree.extraListing.push_back(entry);
  }

  UploadSettings up;
  DownloadSettings down;
};

TEST_F(Tree, ThereAndBackAgainIsTheSame) {
  writeLocal("tree/a", "1");
  writeLocal("tree/folder/with space\nand newline", "2");
  writeLocal("tree/folder/deep/er/\xff\xfe", "3");
  writeLocal("tree/large", randomContent(1'000'000));
  std::filesystem::create_directory(path("tree/empty"));
  std::filesystem::create_symlink("../nowhere", path("tree/link"));
  chmod(path("tree/folder").c_str(), 0500);
  timespec times[2] = {{5, 0}, {1'500'000'000, 111'222'333}};
  utimensat(AT_FDCWD, path("tree/folder").c_str(), times, 0);
  utimensat(AT_FDCWD, path("tree/link").c_str(), times, AT_SYMLINK_NOFOLLOW);

  TransferSummary sent = upload(path("tree"), "x/y", up);
  EXPECT_EQ(sent.files, 4u);
  EXPECT_EQ(sent.folders, 5u);
  EXPECT_EQ(sent.symlinks, 1u);
  EXPECT_THAT(sent.failures, IsEmpty());
  EXPECT_EQ(server.tree.nodes["x/y/folder"].mode, 0500u);
  EXPECT_EQ(server.tree.nodes["x/y/folder"].mtime, 1'500'000'000'111'222'333);

  TransferSummary got = download("x/y", path("back"), down);
  EXPECT_EQ(got.files, 4u);
  EXPECT_EQ(got.folders, 5u);
  EXPECT_EQ(got.symlinks, 1u);
  EXPECT_EQ(got.bytes, sent.bytes);
  EXPECT_EQ(readLocal("back/folder/with space\nand newline"), "2");
  EXPECT_EQ(readLocal("back/folder/deep/er/\xff\xfe"), "3");
  EXPECT_TRUE(readLocal("back/large") == randomContent(1'000'000));
  EXPECT_EQ(std::filesystem::read_symlink(path("back/link")), "../nowhere");
  EXPECT_EQ(statOf("back/folder").st_mode & 07777, 0500u);
  EXPECT_EQ(statOf("back/folder").st_mtim.tv_nsec, 111'222'333);
  EXPECT_EQ(statOf("back/link").st_mtim.tv_nsec, 111'222'333);
  EXPECT_EQ(statOf("back").st_mtim.tv_nsec, statOf("tree").st_mtim.tv_nsec);
  chmod(path("tree/folder").c_str(), 0700);
  chmod(path("back/folder").c_str(), 0700);
}

TEST_F(Tree, AFolderIsNotSentOrFetchedWithoutBeingAsked) {
  writeLocal("tree/a", "1");
  expectError(run(client().upload(path("tree"), "x")), ErrorCode::IS_DIRECTORY);
}

TEST_F(Tree, ASingleFileAndASingleSymlinkGoRecursivelyToo) {
  upload(writeLocal("a", "1"), "a", up);
  std::filesystem::create_symlink("a", path("l"));
  EXPECT_EQ(upload(path("l"), "l", up).symlinks, 1u);
  EXPECT_EQ(download("a", path("b"), down).files, 1u);
  EXPECT_EQ(download("l", path("m"), down).symlinks, 1u);
  EXPECT_EQ(std::filesystem::read_symlink(path("m")), "a");
}

TEST_F(Tree, WhatIsNoFileIsAFailureAndTheOthersGoOn) {
  writeLocal("tree/a", "1");
  writeLocal("tree/z", "2");
  ASSERT_EQ(mkfifo(path("tree/pipe").c_str(), 0600), 0);
  TransferSummary summary = upload(path("tree"), "t", up);
  EXPECT_EQ(summary.files, 2u);
  ASSERT_EQ(summary.failures.size(), 1u);
  EXPECT_EQ(summary.failures[0].path, path("tree/pipe"));
  EXPECT_EQ(summary.failures[0].error.code, ErrorCode::UNSUPPORTED);
}

TEST_F(Tree, AnUnreadableFileIsAFailureAndTheOthersGoOn) {
  writeLocal("tree/a", "1");
  writeLocal("tree/b", "2");
  chmod(path("tree/a").c_str(), 0);
  chmod(local.c_str(), 0755);
  // Root reads everything.
  bool root = geteuid() == 0;
  if (root) {
    ASSERT_EQ(seteuid(65534), 0);
  }
  TransferSummary summary = upload(path("tree"), "t", up);
  if (root) {
    ASSERT_EQ(seteuid(0), 0);
  }
  EXPECT_EQ(summary.files, 1u);
  EXPECT_EQ(summary.failures.at(0).error.code, ErrorCode::DENIED);
}

TEST_F(Tree, AFileThatTheServerRefusesIsAFailureAndTheOthersGoOn) {
  for (int i = 0; i < 20; ++i) writeLocal("tree/" + std::to_string(i), "1");
  server.tree.before = [](std::string_view method, std::string_view path) -> kj::Maybe<Error> {
    if (method != "put" || path != "t/7") return nullptr;
    return Error{ErrorCode::DENIED, "not this one", "t/7"};
  };
  TransferSummary summary = upload(path("tree"), "t", up);
  EXPECT_EQ(summary.files, 19u);
  ASSERT_EQ(summary.failures.size(), 1u);
  EXPECT_EQ(summary.failures[0].path, path("tree/7"));
}

TEST_F(Tree, AFullDiskEndsItAll) {
  for (int i = 0; i < 200; ++i) writeLocal("tree/" + std::to_string(i), "1");
  server.tree.before = [](std::string_view method, std::string_view) -> kj::Maybe<Error> {
    if (method != "put") return nullptr;
    return Error{ErrorCode::NO_SPACE, "full", {}};
  };
  expectError(run(client().upload(path("tree"), "t", up)), ErrorCode::NO_SPACE);
  EXPECT_LT(server.tree.calls["put"], 200u);
}

TEST_F(Tree, AFileWhereAFolderShouldBeIsTold) {
  writeLocal("tree/folder/a", "1");
  server.tree.put("t/folder", "I am a file");
  TransferSummary summary = upload(path("tree"), "t", up);
  ASSERT_FALSE(summary.failures.empty());
  for (auto& failure : summary.failures) EXPECT_EQ(failure.error.code, ErrorCode::NOT_DIRECTORY);
}

TEST_F(Tree, ABrokenConnectionDoesNotSendAgainWhatIsThere) {
  for (int i = 0; i < 300; ++i) writeLocal("tree/" + std::to_string(i), std::string(1000, 'x'));
  up.filesInFlight = 8;
  server.cuts = {200'000};
  TransferSummary summary = upload(path("tree"), "t", up);
  EXPECT_EQ(summary.files, 300u);
  EXPECT_THAT(summary.failures, IsEmpty());
  EXPECT_EQ(server.connections, 2u);
  // But for the few that were in flight.
  EXPECT_LE(server.tree.calls["put"], 308u);
}

TEST_F(Tree, SurvivesCutsAtAnyPlaceInBothDirections) {
  for (int i = 0; i < 40; ++i)
    writeLocal("tree/f" + std::to_string(i % 4) + "/" + std::to_string(i), randomContent(20'000, i));
  writeLocal("tree/large", randomContent(900'000));
  for (unsigned seed = 0; seed < 12; ++seed) {
    std::mt19937_64 random(seed);
    server.cutAll();
    clientOwn = nullptr;
    server.tree.nodes.clear();
    std::filesystem::remove_all(path("back"));
    // What breaks before the very first login is answered is not retried.
    server.cuts = {6'000 + random() % 900'000, random() % 900'000, random() % 900'000};
    expectOk(run(client().stat("")));
    EXPECT_THAT(upload(path("tree"), "t", up).failures, IsEmpty());
    server.cutAll();
    server.cuts = {random() % 900'000, random() % 900'000, random() % 900'000};
    TransferSummary summary = download("t", path("back"), down);
    ASSERT_EQ(summary.files, 41u) << "seed " << seed;
    EXPECT_THAT(summary.failures, IsEmpty());
    for (int i = 0; i < 40; ++i) {
      std::string name = "back/f" + std::to_string(i % 4) + "/" + std::to_string(i);
      ASSERT_TRUE(readLocal(name) == randomContent(20'000, i)) << "seed " << seed << " " << name;
    }
  }
}

TEST_F(Tree, AServerThatGoesAwayForGoodEndsItAll) {
  for (int i = 0; i < 100; ++i) writeLocal("tree/" + std::to_string(i), std::string(1000, 'x'));
  options.retryFor = 3'000'000'000;
  server.tree.before = [&](std::string_view method, std::string_view) -> kj::Maybe<Error> {
    if (method == "put" && server.tree.calls["put"] == 50) {
      server.refuse = true;
      server.cutAll();
    }
    return nullptr;
  };
  expectOk(run(client().stat("")));
  Error error = expectError(run(client().upload(path("tree"), "t", up)), ErrorCode::UNREACHABLE);
  EXPECT_THAT(error.message, HasSubstr("gave up"));
  EXPECT_LT(server.elapsed(), 4 * kj::SECONDS);
}

TEST_F(Tree, HostilePathsNeverLeaveTheTarget) {
  server.tree.folder("t");
  server.tree.put("t/good", "fine");
  hostile("t/../escaped", EntryType::FILE);
  hostile("../escaped", EntryType::FILE);
  hostile("/etc/escaped", EntryType::FILE);
  hostile("elsewhere/escaped", EntryType::FILE);
  hostile("t/a//b", EntryType::FILE);
  hostile("t/.", EntryType::DIRECTORY);
  hostile("t", EntryType::DIRECTORY);
  hostile(std::string("t/nul\0byte", 10), EntryType::FILE);
  hostile("t/..", EntryType::SYMLINK, "x");
  TransferSummary summary = download("t", path("x/y/target"), down);
  EXPECT_EQ(summary.files, 1u);
  EXPECT_EQ(summary.failures.size(), 9u);
  for (auto& failure : summary.failures) EXPECT_EQ(failure.error.code, ErrorCode::INVALID_PATH) << failure.path;
  EXPECT_THAT(localNames("x/y"), ElementsAre("target"));
  EXPECT_THAT(localNames("x/y/target"), ElementsAre("good"));
}

TEST_F(Tree, NothingIsWrittenThroughASymlinkOfTheSameDownload) {
  std::filesystem::create_directory(path("outside"));
  server.tree.folder("t");
  server.tree.put("t/zz", "fine");
  server.tree.put("t/way/out", "evil");
  server.tree.nodes["t/way"] = {};
  server.tree.symlink("t/way", path("outside"));
  hostile("t/way", EntryType::DIRECTORY);
  hostile("t/way/out", EntryType::FILE);
  hostile("t/way/folder", EntryType::DIRECTORY);
  hostile("t/way/link", EntryType::SYMLINK, "x");
  TransferSummary summary = download("t", path("target"), down);
  EXPECT_FALSE(summary.failures.empty());
  EXPECT_THAT(localNames("outside"), IsEmpty());
  EXPECT_EQ(readLocal("target/zz"), "fine");
}

TEST_F(Tree, ALocalSymlinkInTheWayIsReplacedOrRefusedButNotFollowed) {
  std::filesystem::create_directories(path("target"));
  std::filesystem::create_directory(path("outside"));
  writeLocal("outside/file", "mine");
  std::filesystem::create_symlink(path("outside/file"), path("target/file"));
  std::filesystem::create_symlink(path("outside"), path("target/folder"));
  server.tree.folder("t");
  server.tree.put("t/file", "theirs");
  server.tree.folder("t/folder");
  server.tree.put("t/folder/inside", "theirs");
  TransferSummary summary = download("t", path("target"), down);
  EXPECT_EQ(readLocal("outside/file"), "mine");
  EXPECT_THAT(localNames("outside"), ElementsAre("file"));
  EXPECT_FALSE(std::filesystem::is_symlink(path("target/file")));
  EXPECT_EQ(readLocal("target/file"), "theirs");
  // The folder once; what is in it is left out without another word.
  ASSERT_EQ(summary.failures.size(), 1u);
  EXPECT_EQ(summary.failures[0].error.code, ErrorCode::NOT_DIRECTORY);
}

TEST_F(Tree, ARefusedLoginIsToldOnceAndNotTriedForEachFile) {
  for (int i = 0; i < 50; ++i) writeLocal("tree/" + std::to_string(i), "1");
  server.tree.token = std::string(32, 't');
  expectError(run(client().upload(path("tree"), "", up)), ErrorCode::DENIED);
  expectError(run(client().upload(path("tree"), "t", up)), ErrorCode::DENIED);
  expectError(run(client().download("", path("all"), down)), ErrorCode::DENIED);
  EXPECT_LE(server.connections, 3u);
}

TEST_F(Tree, OtherTypesAreFailures) {
  server.tree.folder("t");
  server.tree.put("t/a", "1");
  hostile("t/device", EntryType::OTHER);
  TransferSummary summary = download("t", path("t"), down);
  EXPECT_EQ(summary.files, 1u);
  ASSERT_EQ(summary.failures.size(), 1u);
  EXPECT_EQ(summary.failures[0].error.code, ErrorCode::UNSUPPORTED);
}

TEST_F(Tree, AFileThatVanishesMeanwhileIsAFailure) {
  server.tree.folder("t");
  server.tree.put("t/a", "1");
  hostile("t/gone", EntryType::FILE);
  TransferSummary summary = download("t", path("t"), down);
  EXPECT_EQ(summary.files, 1u);
  EXPECT_EQ(summary.failures.at(0).error.code, ErrorCode::NOT_FOUND);
}

TEST_F(Tree, WithoutOverwriteWhatIsThereStays) {
  server.tree.folder("t");
  server.tree.put("t/a", "theirs");
  server.tree.put("t/b", "theirs");
  writeLocal("t/a", "mine");
  down.overwrite = false;
  TransferSummary summary = download("t", path("t"), down);
  EXPECT_EQ(readLocal("t/a"), "mine");
  EXPECT_EQ(readLocal("t/b"), "theirs");
  EXPECT_EQ(summary.failures.at(0).error.code, ErrorCode::EXISTS);
}

TEST_F(Tree, TheServedTreeItselfCanBeFetchedAndFilled) {
  writeLocal("tree/a", "1");
  writeLocal("tree/b/c", "2");
  EXPECT_EQ(upload(path("tree"), "", up).files, 2u);
  EXPECT_EQ(server.tree.nodes["b/c"].content, "2");
  EXPECT_EQ(download("", path("all"), down).files, 2u);
  EXPECT_EQ(readLocal("all/b/c"), "2");
}

TEST_F(Tree, ProgressAddsUp) {
  struct Watcher final : public Progress {
    uint64_t files = 0, bytes = 0, moved = 0, started = 0, done = 0;
    bool known = false;
    void total(uint64_t f, uint64_t b, bool k) override {
      EXPECT_FALSE(known);
      EXPECT_GE(f, files);
      files = f;
      bytes = b;
      known = k;
    }
    void advanced(uint64_t b) override { moved += b; }
    void fileStarted(std::string_view, uint64_t) override { ++started; }
    void fileDone(std::string_view, uint64_t) override { ++done; }
    void resumed(std::string_view, uint64_t) override {}
  };
  for (int i = 0; i < 30; ++i) writeLocal("tree/" + std::to_string(i), std::string(1000 * i, 'x'));
  for (bool sending : {true, false}) {
    Watcher watcher;
    if (sending) {
      expectOk(run(client().upload(path("tree"), "t", up, &watcher)));
    } else {
      expectOk(run(client().download("t", path("back"), down, &watcher)));
    }
    EXPECT_TRUE(watcher.known);
    EXPECT_EQ(watcher.files, 30u);
    EXPECT_EQ(watcher.started, 30u);
    EXPECT_EQ(watcher.done, 30u);
    EXPECT_EQ(watcher.bytes, 435'000u);
    EXPECT_EQ(watcher.moved, 435'000u);
  }
}

TEST_F(Tree, AFolderThatTheServerCannotReadIsAFailureAndTheOthersArrive) {
  writeLocal("tree/closed/", "");
  writeLocal("tree/open/file", "1");
  upload(path("tree"), "x", up);
  server.tree.unread = {errorAt(ErrorCode::DENIED, "x/closed", "cannot list ")};
  server.tree.pageSize = 1;
  TransferSummary got = download("x", path("back"), down);
  EXPECT_EQ(readLocal("back/open/file"), "1");
  ASSERT_EQ(got.failures.size(), 1u);
  EXPECT_EQ(got.failures[0].path, "x/closed");
  EXPECT_EQ(got.failures[0].error.code, ErrorCode::DENIED);
}

TEST_F(Tree, AListingTellsOnceOfEachFolderThatCannotBeRead) {
  writeLocal("tree/closed/", "");
  writeLocal("tree/open/file", "1");
  upload(path("tree"), "x", up);
  server.tree.unread = {errorAt(ErrorCode::DENIED, "x/closed", "cannot list ")};
  server.tree.pageSize = 1;
  std::string paths, unread;
  auto onEntry = [&](Entry&& entry) { paths += entry.path + " "; };
  auto onUnread = [&](Error&& error) { unread += error.path + " "; };
  expectOk(run(client().list("x", true, onEntry, onUnread)));
  EXPECT_EQ(paths, "x/closed x/open x/open/file ");
  EXPECT_EQ(unread, "x/closed ");
}

}  // namespace
}  // namespace capstan::client
