#include <capstan/storage/beneath.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include <capstan/base/path.h>
#include <capstan/storage/usage.h>

#include "rounds.h"
#include "temp-folder.h"

namespace capstan::storage {
namespace {

// Everything here holds with openat2 and without.
class BeneathTest : public ::testing::TestWithParam<Root::Resolve> {
 protected:
  BeneathTest() {
    folder.write("secret", "escaped");
    folder.write("other/secret", "escaped");
    folder.write("top/sub/file", "inside");
    folder.write("top/sub/deep/file", "inside");
    auto opened = Root::open(folder.path(), GetParam());
    KJ_REQUIRE(opened.ok(), opened.error().message.c_str());
    served = std::move(*opened);
    root = newRootBeneath(*served, "top/sub");
  }

  TempFolder folder;
  std::unique_ptr<Root> served, root;

  static std::string contentIn(const Root& root, std::string_view path) {
    KJ_IF_MAYBE (now, root.tryOpenNow(path, O_RDONLY)) {
      if (now->ok()) return contentOf(now->value());
    }
    auto opened = root.open(path, O_RDONLY, Follow::YES);
    if (!opened.ok()) return std::string("error ") + std::to_string(int(opened.error().code));
    return contentOf(*opened);
  }
  static std::string contentOf(int fd) {
    char buffer[64];
    ssize_t size = readAt(fd, buffer, sizeof(buffer), 0);
    return size < 0 ? "unreadable" : std::string(buffer, size_t(size));
  }
  ErrorCode codeOf(std::string_view path) const {
    auto opened = root->open(path, O_RDONLY, Follow::YES);
    return opened.ok() ? ErrorCode::UNSET : opened.error().code;
  }
};

INSTANTIATE_TEST_SUITE_P(Resolve, BeneathTest, ::testing::Values(Root::Resolve::FASTEST, Root::Resolve::BY_NAMES),
                         [](auto& info) { return info.param == Root::Resolve::FASTEST ? "Fastest" : "ByNames"; });

TEST_P(BeneathTest, OpensWhatIsInTheFolderAndNothingElse) {
  EXPECT_EQ(contentIn(*root, "file"), "inside");
  EXPECT_EQ(contentIn(*root, "deep/file"), "inside");
  EXPECT_TRUE(S_ISDIR(root->stat("").value().st_mode));
  folder.link("top/sub/within", "deep/../file");
  EXPECT_EQ(contentIn(*root, "within"), "inside");
  // They stay in the served folder, and lead out of this one.
  folder.link("top/sub/out", "../../secret");
  folder.link("top/sub/deep/up", "../../../other");
  folder.link("top/sub/around", "../sub/file");
  folder.link("top/sub/slash", "/etc/passwd");
  for (std::string path :
       {"out", "deep/up/secret", "deep/up", "around", "slash", "..", "../x", "/", "a//b", "./file"}) {
    EXPECT_EQ(codeOf(path), ErrorCode::INVALID_PATH) << path;
  }
  EXPECT_EQ(root->locate("deep/up/new").error().code, ErrorCode::INVALID_PATH);
  EXPECT_EQ(root->locate("").error().code, ErrorCode::INVALID_PATH);
  EXPECT_THAT(root->open("out", O_RDONLY, Follow::YES).error().message, ::testing::HasSubstr("leads out"));
}

TEST_P(BeneathTest, FindsTheFolderAnewAndNeverThroughASymlink) {
  std::string top = folder / "top", away = folder / "away";
  ASSERT_EQ(rename(top.c_str(), away.c_str()), 0);
  EXPECT_EQ(codeOf("file"), ErrorCode::NOT_FOUND);
  EXPECT_EQ(root->locate("new", true).error().code, ErrorCode::NOT_FOUND);
  EXPECT_FALSE(std::filesystem::exists(top));
  folder.link("top", "away");
  EXPECT_EQ(codeOf("file"), ErrorCode::NOT_FOUND) << "through a symlink that stays in the served folder";
  std::filesystem::remove(top);
  folder.makeFolder("top");
  folder.link("top/sub", "../other");
  EXPECT_EQ(codeOf("secret"), ErrorCode::NOT_FOUND) << "through a symlink as its last name";
  std::filesystem::remove_all(top);
  folder.write("top/sub/file", "inside");
  EXPECT_EQ(contentIn(*root, "file"), "inside");
}

TEST_P(BeneathTest, KeepsTheServersOwnFolderOutOfReachAndOthersOfThatNameNot) {
  folder.link("top/sub/state", "../../.capstan");
  EXPECT_EQ(codeOf("state"), ErrorCode::INVALID_PATH);
  folder.write("top/sub/.capstan/file", "inside");
  EXPECT_EQ(contentIn(*root, ".capstan/file"), "inside");
  EXPECT_TRUE(root->locate(".capstan/new").ok());
  auto state = newRootBeneath(*served, ".capstan");
  EXPECT_EQ(state->open("", O_RDONLY | O_DIRECTORY, Follow::NO).error().code, ErrorCode::NOT_FOUND);
  EXPECT_FALSE(newRootBeneath(*served, ".capstan/trash")->stat("").ok());
}

TEST_P(BeneathTest, TellsThePathWithoutSymlinks) {
  folder.link("top/sub/link", "deep");
  EXPECT_EQ(root->canonical("link").value(), "deep");
  EXPECT_EQ(root->canonical("link/file").value(), "deep/file");
  EXPECT_EQ(root->canonical("").value(), "");
  folder.link("top/sub/out", "../../other");
  EXPECT_EQ(root->canonical("out").error().code, ErrorCode::INVALID_PATH);
  auto deeper = newRootBeneath(*root, "deep");
  EXPECT_EQ(contentIn(*deeper, "file"), "inside");
  EXPECT_EQ(deeper->pathInServed(), "top/sub/deep");
}

TEST_P(BeneathTest, CountsWhatIsInAFolder) {
  folder.write("top/sub/deep/more", std::string(10'000, 'x'));
  auto opened = root->open("", O_RDONLY | O_DIRECTORY, Follow::NO);
  EXPECT_EQ(storage::contentIn(*opened, "."), 10'000u + 4 * LEAST_CHARGE) << "two folders, and two small files";
  EXPECT_EQ(contentAt(*root, "deep/more"), 10'000);
  EXPECT_EQ(contentAt(*root, "deep"), 4096);
  EXPECT_EQ(contentAt(*root, "none"), 0);
  EXPECT_EQ(parentsFor(*root, "deep/new/newer/file"), 2 * 4096);
}

TEST_P(BeneathTest, NeverLeadsOutWhileSymlinksAreFlipped) {
  folder.write("other/d/secret", "escaped");
  folder.write("top/sub/in/secret", "inside");
  folder.write("top/sub/in/d/secret", "inside");
  std::string sub = folder / "top/sub";
  std::atomic<bool> done = false;
  std::thread flipper([&] {
    // "x" is in turn a folder, a link inside, and links that lead out, but not out of the served folder; "in/d" moves
    // out of the subtree and back, for ".."; the subtree itself becomes a link.
    while (!done) {
      std::string x = sub + "/x", next = sub + "/next";
      for (std::string target : {"../../other", "in", "../../other/d/..", "in/d/..", "../../../../../../tmp"}) {
        if (symlink(target.c_str(), next.c_str()) == 0) rename(next.c_str(), x.c_str());
      }
      rename((sub + "/in/d").c_str(), (folder / "d").c_str());
      rename((folder / "d").c_str(), (sub + "/in/d").c_str());
      unlink(x.c_str());
      if (rename((sub + "/in").c_str(), x.c_str()) == 0) rename(x.c_str(), (sub + "/in").c_str());
      std::string aside = folder / "aside";
      if (rename(sub.c_str(), aside.c_str()) == 0) {
        if (symlink("../other", sub.c_str()) == 0) unlink(sub.c_str());
        rename(aside.c_str(), sub.c_str());
      }
    }
  });
  struct stat out = folder.stat("other"), outer = folder.stat(".");
  uint64_t inside = 0, refused = 0;
  for (Rounds rounds; rounds.more(inside > 0 && refused > 0);) {
    for (std::string path : {"x/secret", "x/d/secret", "secret"}) {
      std::string content = contentIn(*root, path);
      EXPECT_NE(content, "escaped") << path;
      ++(content == "inside" ? inside : refused);
    }
    auto place = root->locate("x/new");
    if (place.ok()) {
      struct stat status;
      ASSERT_EQ(fstat(place->folder, &status), 0);
      EXPECT_NE(status.st_ino, out.st_ino);
      EXPECT_NE(status.st_ino, outer.st_ino);
    }
    auto status = root->stat("x/secret", Follow::YES);
    if (status.ok()) {
      EXPECT_EQ(status->st_size, 6);
    }
    if (HasFailure()) break;
  }
  done = true;
  flipper.join();
  EXPECT_GT(inside, 0u);
  EXPECT_GT(refused, 0u);
}

}  // namespace
}  // namespace capstan::storage
