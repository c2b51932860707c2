#include <capstan/storage/root.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include <sched.h>

#include <atomic>
#include <thread>

#include <capstan/base/path.h>

#include "rounds.h"
#include "temp-folder.h"

namespace capstan::storage {
namespace {

using ::testing::HasSubstr;

// Everything here holds with openat2 and without.
class RootTest : public ::testing::TestWithParam<Root::Resolve> {
 protected:
  TempFolder folder;
  std::unique_ptr<Root> root = openRoot(folder.path());

  static std::unique_ptr<Root> openRoot(const std::string& path) {
    auto opened = Root::open(path, GetParam());
    KJ_REQUIRE(opened.ok(), opened.error().message.c_str());
    return std::move(*opened);
  }
  ErrorCode codeOf(std::string_view path, int flags = O_RDONLY, Follow follow = Follow::YES) {
    auto opened = root->open(path, flags, follow);
    return opened.ok() ? ErrorCode::UNSET : opened.error().code;
  }
  std::string contentOf(std::string_view path) {
    auto opened = root->open(path, O_RDONLY, Follow::YES);
    if (!opened.ok()) return "error: " + opened.error().message;
    char buffer[256];
    ssize_t size = readAt(opened->get(), buffer, sizeof(buffer), 0);
    return size < 0 ? "unreadable" : std::string(buffer, size_t(size));
  }
};

INSTANTIATE_TEST_SUITE_P(Resolve, RootTest, ::testing::Values(Root::Resolve::FASTEST, Root::Resolve::BY_NAMES),
                         [](auto& info) { return info.param == Root::Resolve::FASTEST ? "Fastest" : "ByNames"; });

TEST_P(RootTest, OpensFilesAndFoldersByAnyName) {
  for (std::string name :
       {"plain", "with space", "with\nnewline", "\xff\xfe not UTF-8", "a/b/c/deep", "..hidden", "-"}) {
    folder.write(name, "content of " + name);
    EXPECT_EQ(contentOf(name), "content of " + name);
  }
  std::string longName(255, 'n');
  folder.write(longName, "long");
  EXPECT_EQ(contentOf(longName), "long");
  EXPECT_TRUE(S_ISDIR(root->stat("a/b").value().st_mode));
  EXPECT_TRUE(S_ISDIR(root->stat("").value().st_mode));
  EXPECT_EQ(codeOf("", O_RDONLY | O_DIRECTORY), ErrorCode::UNSET);
}

TEST_P(RootTest, FindsNothingBehindASymlinkForThoseWhoNeverFollow) {
  folder.write("a/b/file", "x");
  folder.link("link", "a");
  folder.link("a/b/last", "file");
  for (std::string path : {"", "a", "a/b", "a/b/file"}) {
    EXPECT_EQ(codeOf(path, O_PATH, Follow::NEVER), ErrorCode::UNSET) << path;
  }
  for (std::string path : {"link", "a/b/last"}) {
    EXPECT_TRUE(S_ISLNK(root->stat(path, Follow::NEVER).value().st_mode)) << path;
    EXPECT_EQ(codeOf(path, O_RDONLY, Follow::NEVER), ErrorCode::UNSUPPORTED) << path;
  }
  for (std::string path : {"link/b", "link/b/file", "link/missing"}) {
    EXPECT_EQ(codeOf(path, O_PATH, Follow::NEVER), ErrorCode::NOT_DIRECTORY) << path;
    EXPECT_EQ(codeOf(path, O_RDONLY, Follow::NEVER), ErrorCode::NOT_DIRECTORY) << path;
  }
  EXPECT_EQ(codeOf("a/missing", O_PATH, Follow::NEVER), ErrorCode::NOT_FOUND);
  EXPECT_EQ(codeOf("a/b/file/x", O_PATH, Follow::NEVER), ErrorCode::NOT_DIRECTORY);
  EXPECT_EQ(codeOf(".capstan", O_PATH, Follow::NEVER), ErrorCode::NOT_FOUND);
}

TEST_P(RootTest, SaysWhatIsWrong) {
  folder.write("file", "x");
  folder.makeFolder("folder");
  EXPECT_EQ(codeOf("missing"), ErrorCode::NOT_FOUND);
  EXPECT_EQ(codeOf("folder/missing/deeper"), ErrorCode::NOT_FOUND);
  EXPECT_EQ(codeOf("file/below"), ErrorCode::NOT_DIRECTORY);
  EXPECT_EQ(codeOf("file", O_RDONLY | O_DIRECTORY), ErrorCode::NOT_DIRECTORY);
  for (std::string path : {"/etc", "..", "a/..", "a/../b", ".", "a//b", "a/", "../x", "./x"}) {
    EXPECT_EQ(codeOf(path), ErrorCode::INVALID_PATH) << path;
    EXPECT_FALSE(root->locate(path).ok()) << path;
  }
  EXPECT_EQ(codeOf(std::string_view("a\0b", 3)), ErrorCode::INVALID_PATH);
  EXPECT_EQ(codeOf(std::string(256, 'n')), ErrorCode::INVALID_PATH);
  EXPECT_EQ(root->locate("").error().code, ErrorCode::INVALID_PATH);
  auto error = root->open("missing", O_RDONLY, Follow::YES).error();
  EXPECT_EQ(error.path, "missing");
  EXPECT_THAT(error.message, HasSubstr("missing"));
}

TEST_P(RootTest, OpensAPathOfExactly4096Bytes) {
  // Made step by step: no system call takes such a path whole.
  std::string path;
  kj::AutoCloseFd at(fcntl(root->fd(), F_DUPFD_CLOEXEC, 0));
  while (path.size() + 256 < MAX_PATH_BYTES) {
    std::string name(MAX_PATH_BYTES - path.size() - 1 > 400 ? 200 : MAX_PATH_BYTES - path.size() - 2 - 100, 'd');
    ASSERT_EQ(mkdirat(at, name.c_str(), 0700), 0) << name.size();
    at = kj::AutoCloseFd(openat(at, name.c_str(), O_RDONLY | O_DIRECTORY));
    path += name + "/";
  }
  std::string last(MAX_PATH_BYTES - path.size(), 'f');
  kj::AutoCloseFd file(openat(at, last.c_str(), O_WRONLY | O_CREAT, 0600));
  ASSERT_TRUE(writeAt(file, "deep", 4, 0));
  path += last;
  ASSERT_EQ(path.size(), MAX_PATH_BYTES);
  EXPECT_EQ(contentOf(path), "deep");
  EXPECT_EQ(root->stat(path).value().st_size, 4);
  auto place = root->locate(path);
  ASSERT_TRUE(place.ok());
  EXPECT_EQ(place->name, last);
  EXPECT_EQ(faccessat(place->folder, last.c_str(), F_OK, 0), 0);
  EXPECT_EQ(codeOf(path + "x"), ErrorCode::INVALID_PATH);
}

TEST_P(RootTest, FollowsSymlinksThatStayInside) {
  folder.write("a/b/file", "inside");
  folder.write("top", "top");
  folder.link("link", "a/b/file");
  folder.link("a/up", "../top");
  folder.link("a/b/around", "../../a/./b/../b//file");
  folder.link("dir", "a/b");
  folder.link("chain", "dir");
  folder.link("here", ".");
  EXPECT_EQ(contentOf("link"), "inside");
  EXPECT_EQ(contentOf("a/up"), "top");
  EXPECT_EQ(contentOf("a/b/around"), "inside");
  EXPECT_EQ(contentOf("chain/file"), "inside");
  EXPECT_EQ(contentOf("here/here/here/top"), "top");
  EXPECT_EQ(root->stat("chain/file", Follow::NO).value().st_ino, folder.stat("a/b/file").st_ino);
  EXPECT_TRUE(S_ISLNK(root->stat("link", Follow::NO).value().st_mode));
  EXPECT_TRUE(S_ISREG(root->stat("link", Follow::YES).value().st_mode));
  EXPECT_TRUE(S_ISDIR(root->stat("here", Follow::YES).value().st_mode));
  EXPECT_EQ(codeOf("link", O_RDONLY, Follow::NO), ErrorCode::UNSUPPORTED);
  EXPECT_EQ(codeOf("chain", O_RDONLY | O_DIRECTORY, Follow::NO), ErrorCode::NOT_DIRECTORY);
  EXPECT_EQ(codeOf("chain", O_RDONLY | O_DIRECTORY, Follow::YES), ErrorCode::UNSET);
}

TEST_P(RootTest, ALinkWithATrailingSlashNamesAFolder) {
  folder.write("file", "x");
  folder.makeFolder("folder");
  folder.link("to-file", "file/");
  folder.link("to-folder", "folder/");
  EXPECT_EQ(codeOf("to-file"), ErrorCode::NOT_DIRECTORY);
  EXPECT_EQ(codeOf("to-folder", O_RDONLY | O_DIRECTORY), ErrorCode::UNSET);
}

TEST_P(RootTest, RefusesASymlinkThatLeadsOut) {
  TempFolder outside;
  outside.write("secret", "secret");
  folder.makeFolder("a");
  folder.link("absolute", outside / "secret");
  folder.link("parent", "..");
  folder.link("a/relative", "../../" + std::filesystem::path(outside.path()).filename().string() + "/secret");
  // Out and in again is out.
  folder.link("detour", "../" + std::filesystem::path(folder.path()).filename().string() + "/a");
  for (std::string path : {"absolute", "parent", "parent/x", "a/relative", "detour", "detour/x"}) {
    EXPECT_EQ(codeOf(path), ErrorCode::INVALID_PATH) << path;
    EXPECT_EQ(codeOf(path, O_PATH), ErrorCode::INVALID_PATH) << path;
    EXPECT_THAT(root->open(path, O_RDONLY, Follow::YES).error().message, HasSubstr("leads out of the served folder"));
    EXPECT_EQ(root->stat(path, Follow::YES).error().code, ErrorCode::INVALID_PATH) << path;
  }
  EXPECT_EQ(root->locate("parent/x").error().code, ErrorCode::INVALID_PATH);
  EXPECT_EQ(root->locate("parent/x/y", true).error().code, ErrorCode::INVALID_PATH);
  // The link itself can be seen and removed.
  EXPECT_TRUE(S_ISLNK(root->stat("absolute", Follow::NO).value().st_mode));
  EXPECT_EQ(root->locate("absolute").value().name, "absolute");
}

TEST_P(RootTest, EndsInSymlinksThatLeadInACircle) {
  folder.link("a", "b");
  folder.link("b", "a");
  folder.link("self", "self/x");
  EXPECT_EQ(codeOf("a"), ErrorCode::INVALID_PATH);
  EXPECT_EQ(codeOf("self"), ErrorCode::INVALID_PATH);
  folder.write("end", "end");
  for (int i = 0; i < 41; ++i) folder.link("n" + std::to_string(i), i == 0 ? "end" : "n" + std::to_string(i - 1));
  EXPECT_EQ(contentOf("n39"), "end");
  EXPECT_EQ(codeOf("n40"), ErrorCode::INVALID_PATH);
}

TEST_P(RootTest, LinksMadeToKeepTheServerBusyCostABoundedTime) {
  std::string deep;
  for (int i = 0; i < 300; ++i) deep += "d/";
  folder.makeFolder(deep);
  std::string target = deep;
  while (target.size() < 4000) target += "../d/";
  folder.link("busy0", target + "busy");
  for (int i = 1; i < 39; ++i)
    folder.link(deep + "busy" + (i == 1 ? "" : std::to_string(i)), target + "busy" + std::to_string(i + 1));
  EXPECT_EQ(codeOf("busy0"), ErrorCode::INVALID_PATH);
}

TEST_P(RootTest, TheServersOwnFolderIsNotThere) {
  folder.write(".capstan/secret", "x");
  folder.link("link", ".capstan");
  folder.link("here", ".");
  folder.makeFolder("a");
  folder.link("a/up", "../.capstan/secret");
  folder.write("a/.capstan", "an ordinary file");
  for (std::string path :
       {".capstan", ".capstan/secret", "link", "link/secret", "here/.capstan", "here/here/.capstan", "a/up"}) {
    EXPECT_EQ(codeOf(path), ErrorCode::NOT_FOUND) << path;
    EXPECT_EQ(codeOf(path, O_PATH), ErrorCode::NOT_FOUND) << path;
  }
  for (std::string path : {".capstan", ".capstan/new", "link/new", "here/.capstan", "here/.capstan/new"}) {
    EXPECT_EQ(root->locate(path).error().code, ErrorCode::NOT_FOUND) << path;
    EXPECT_EQ(root->locate(path, true).error().code, ErrorCode::NOT_FOUND) << path;
  }
  EXPECT_EQ(contentOf("a/.capstan"), "an ordinary file");
  EXPECT_EQ(codeOf(".capstan2"), ErrorCode::NOT_FOUND);
  EXPECT_TRUE(root->locate(".capstan2").ok());
  EXPECT_EQ(folder.stat(".capstan").st_mode & 0777, 0700u);
}

TEST_P(RootTest, NeitherWaitsForAPipeNorOpensADevice) {
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  folder.link("link", "pipe");
  for (std::string path : {"pipe", "link"}) {
    EXPECT_EQ(codeOf(path), ErrorCode::UNSUPPORTED) << path;
    EXPECT_EQ(codeOf(path, O_PATH), ErrorCode::UNSET) << path;
  }
  EXPECT_TRUE(S_ISFIFO(root->stat("pipe").value().st_mode));
  if (mknod((folder / "null").c_str(), S_IFCHR | 0600, makedev(1, 3)) == 0) {
    EXPECT_EQ(codeOf("null"), ErrorCode::UNSUPPORTED);
    EXPECT_TRUE(S_ISCHR(root->stat("null").value().st_mode));
  }
}

TEST_P(RootTest, LocatesTheParentAndMakesItIfAsked) {
  folder.makeFolder("a");
  folder.link("dangling", "nowhere/at/all");
  folder.link("link", "a");
  auto place = root->locate("a/new");
  ASSERT_TRUE(place.ok());
  EXPECT_EQ(place->name, "new");
  struct stat status;
  ASSERT_EQ(fstat(place->folder, &status), 0);
  EXPECT_EQ(status.st_ino, folder.stat("a").st_ino);
  EXPECT_EQ(fsync(place->folder), 0);
  EXPECT_EQ(root->locate("b/c/new").error().code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(root->locate("b/c/new").error().path, "b/c/new");

  place = root->locate("link/b/c/new", true);
  ASSERT_TRUE(place.ok()) << place.error().message;
  EXPECT_EQ(place->toFlush.size(), 2u);
  ASSERT_EQ(fstat(place->toFlush[0], &status), 0);
  EXPECT_EQ(status.st_ino, folder.stat("a").st_ino);
  EXPECT_EQ(fsync(place->toFlush[1]), 0);
  EXPECT_TRUE(S_ISDIR(folder.stat("a/b/c").st_mode));
  EXPECT_TRUE(root->locate("link/b/c/new", true).value().toFlush.empty());
  // What only a symlink names is not made.
  EXPECT_EQ(root->locate("dangling/x", true).error().code, ErrorCode::NOT_FOUND);
  EXPECT_FALSE(std::filesystem::exists(folder / "nowhere"));
  folder.write("file", "x");
  EXPECT_EQ(root->locate("file/x/y", true).error().code, ErrorCode::NOT_DIRECTORY);
}

TEST_P(RootTest, HoldsFewDescriptorsOnDeepPaths) {
  std::string deep;
  for (int i = 0; i < 200; ++i) deep += i == 0 ? "d" : "/d";
  auto place = root->locate("dir/" + deep, true);
  ASSERT_TRUE(place.ok());
  EXPECT_EQ(place->toFlush.size(), 200u);
  place->toFlush.clear();
  folder.link("up", "dir/" + deep + "/../..");
  int highest = fcntl(root->fd(), F_DUPFD_CLOEXEC, 0);
  close(highest);
  ASSERT_EQ(mkdirat(place->folder, "d", 0700), 0);
  auto opened = root->open("up", O_PATH, Follow::YES);
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  EXPECT_LT(opened->get(), highest + 8);
}

TEST_P(RootTest, NeverLeadsOutWhileSymlinksAreFlipped) {
  TempFolder outside;
  outside.write("secret", "escaped");
  outside.write("d/secret", "escaped");
  folder.write("in/secret", "inside");
  folder.write("in/d/secret", "inside");
  std::atomic<bool> done = false;
  std::thread flipper([&] {
    // "x" is in turn a folder inside, a link inside, links that lead out; "in/d" moves up and down, for "..".
    while (!done) {
      std::string x = folder / "x", next = folder / "next";
      for (const std::string& target : {outside.path(), std::string("in"), std::string("../../../../../../tmp"),
                                        std::string("in/d/.."), outside / "d/.."}) {
        if (symlink(target.c_str(), next.c_str()) == 0) rename(next.c_str(), x.c_str());
      }
      rename((folder / "in/d").c_str(), (folder / "d").c_str());
      rename((folder / "d").c_str(), (folder / "in/d").c_str());
      unlink(x.c_str());
      if (rename((folder / "in").c_str(), x.c_str()) == 0) rename(x.c_str(), (folder / "in").c_str());
    }
  });
  uint64_t inside = 0, refused = 0;
  for (Rounds rounds; rounds.more(inside > 0 && refused > 0);) {
    for (std::string path : {"x/secret", "x/d/secret"}) {
      std::string content = contentOf(path);
      ASSERT_NE(content, "escaped");
      if (content == "inside")
        ++inside;
      else
        ++refused;
    }
    auto place = root->locate("x/new");
    if (place.ok()) {
      struct stat status, out;
      ASSERT_EQ(fstat(place->folder, &status), 0);
      ASSERT_EQ(lstat(outside.path().c_str(), &out), 0);
      ASSERT_NE(status.st_ino, out.st_ino);
    }
    auto status = root->stat("x/secret", Follow::YES);
    if (status.ok()) {
      ASSERT_EQ(status->st_size, 6);
    }
  }
  done = true;
  flipper.join();
  EXPECT_GT(inside, 0u);
  EXPECT_GT(refused, 0u);
}

TEST(Root, AnswersAtOnceOnlyWhatTheKernelRemembers) {
  TempFolder folder;
  folder.write("a/file", "x");
  folder.link("link", "a/file");
  auto root = std::move(Root::open(folder.path()).value());
  (void)root->stat("a/file");
  KJ_IF_MAYBE (opened, root->tryOpenNow("a/file", O_RDONLY)) {
    EXPECT_TRUE(opened->ok());
    // Where this works at all, it also knows what is not there, and leaves symlinks to open().
    KJ_IF_MAYBE (missing, root->tryOpenNow("a/missing", O_PATH)) {
      EXPECT_EQ(missing->error().code, ErrorCode::NOT_FOUND);
    }
    EXPECT_TRUE(root->tryOpenNow("link", O_RDONLY) == nullptr);
    EXPECT_TRUE(KJ_ASSERT_NONNULL(root->tryOpenNow("link", O_PATH | O_NOFOLLOW)).ok());
    EXPECT_EQ(KJ_ASSERT_NONNULL(root->tryOpenNow(".capstan", O_PATH)).error().code, ErrorCode::NOT_FOUND);
    EXPECT_EQ(KJ_ASSERT_NONNULL(root->tryOpenNow("../x", O_PATH)).error().code, ErrorCode::INVALID_PATH);
  }
  auto byNames = std::move(Root::open(folder.path(), Root::Resolve::BY_NAMES).value());
  EXPECT_TRUE(byNames->tryOpenNow("a/file", O_RDONLY) == nullptr);
}

TEST(Root, KnowsItsOwnFolderByInodeWhereOtherNamesMeanItToo) {
  // A second name for the same folder, as a file system gives that does not tell cases apart. Made by a mount that only
  // this thread sees.
  TempFolder folder;
  folder.write("PLAIN", "x");
  folder.link("link", ".CAPSTAN");
  bool mounted = false;
  std::thread([&] {
    folder.makeFolder(".capstan/staging");
    folder.makeFolder(".CAPSTAN");
    mounted = unshare(CLONE_NEWNS) == 0 && mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
              mount((folder / ".capstan").c_str(), (folder / ".CAPSTAN").c_str(), nullptr, MS_BIND, nullptr) == 0;
    if (!mounted) return;
    auto root = std::move(Root::open(folder.path()).value());
    for (std::string path : {".capstan", ".CAPSTAN", ".CAPSTAN/staging", "link", "link/staging"}) {
      EXPECT_EQ(root->open(path, O_PATH, Follow::YES).error().code, ErrorCode::NOT_FOUND) << path;
      EXPECT_TRUE(root->tryOpenNow(path, O_PATH) == nullptr || path == ".capstan") << path;
    }
    EXPECT_EQ(root->locate(".CAPSTAN").error().code, ErrorCode::NOT_FOUND);
    EXPECT_EQ(root->locate(".CAPSTAN/new", true).error().code, ErrorCode::NOT_FOUND);
    EXPECT_TRUE(root->open("PLAIN", O_RDONLY, Follow::YES).ok());
    EXPECT_TRUE(root->isState(folder.stat(".CAPSTAN")));
  }).join();
  if (!mounted) GTEST_SKIP() << "cannot mount here";
}

TEST(Root, RefusesToServeWhatIsNoFolder) {
  TempFolder folder;
  folder.write("file", "x");
  folder.makeFolder("bad");
  folder.link("bad/.capstan", "..");
  EXPECT_EQ(Root::open(folder / "missing").error().code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(Root::open(folder / "file").error().code, ErrorCode::NOT_DIRECTORY);
  EXPECT_FALSE(Root::open(folder / "bad").ok());
  EXPECT_THAT(Root::open(folder / "missing").error().message, HasSubstr("missing"));
}

}  // namespace
}  // namespace capstan::storage
