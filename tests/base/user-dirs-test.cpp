#include <capstan/base/user-dirs.h>

#include <cstdlib>

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace capstan
