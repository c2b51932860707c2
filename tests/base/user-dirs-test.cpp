#include <capstan/base/user-dirs.h>

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>
#include <kj/debug.h>

namespace capstan {
namespace {

TEST(UserFolders, FollowTheXdgVariablesAndIgnoreRelativeOnes) {
  setenv("XDG_STATE_HOME", "/some/state", 1);
  setenv("XDG_CONFIG_HOME", "relative", 1);
  setenv("XDG_RUNTIME_DIR", "/run/user/1", 1);
  setenv("HOME", "/home/somebody", 1);
  EXPECT_EQ(userStateFolder(), "/some/state/capstan");
  EXPECT_EQ(userConfigFolder(), "/home/somebody/.config/capstan");
  EXPECT_EQ(defaultSocketPath(), "/run/user/1/capstan.sock");
  EXPECT_EQ(tokenLinkFor("127.0.0.1:4457"), "/some/state/capstan/tokens/127.0.0.1:4457");
}

class RuntimeFolder : public testing::Test {
 protected:
  void SetUp() override {
    KJ_ASSERT(mkdtemp(base.data()) != nullptr);
    own = base + "/" + std::to_string(getuid());
    KJ_SYSCALL(mkdir(own.c_str(), 0700));
  }
  void TearDown() override { std::filesystem::remove_all(base); }
  std::string base = std::filesystem::temp_directory_path() / "capstan-run-XXXXXX";
  std::string own;
};

TEST_F(RuntimeFolder, IsTheUsersOwnIfItIsThere) {
  EXPECT_EQ(runtimeFolderOf(getuid(), base), own);
  EXPECT_EQ(runtimeFolderOf(getuid() + 1, base), "");
}

TEST_F(RuntimeFolder, IsNoneThatOthersCanChange) {
  KJ_SYSCALL(mkdir((base + "/" + std::to_string(getuid() + 1)).c_str(), 0700));
  EXPECT_EQ(runtimeFolderOf(getuid() + 1, base), "") << "it belongs to somebody else";
  KJ_SYSCALL(chmod(own.c_str(), 0777));
  EXPECT_EQ(runtimeFolderOf(getuid(), base), "");
  std::filesystem::remove(own);
  std::filesystem::create_symlink(base, own);
  EXPECT_EQ(runtimeFolderOf(getuid(), base), "");
}

TEST_F(RuntimeFolder, IsWhereTheServerIsLookedForWithoutTheVariable) {
  unsetenv("XDG_RUNTIME_DIR");
  std::string folder = runtimeFolderOf(getuid());
  if (folder.empty()) folder = "/tmp/capstan-" + std::to_string(getuid());
  EXPECT_EQ(defaultSocketPath(), folder + "/capstan.sock");
}

}  // namespace
}  // namespace capstan
