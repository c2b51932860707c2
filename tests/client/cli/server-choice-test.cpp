#include <capstan/client/cli/server-choice.h>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include <gtest/gtest.h>
#include <kj/debug.h>
#include <kj/io.h>

#include "../../storage/temp-folder.h"

namespace capstan::cli {
namespace {

// A user who has a token, as one whose server has been started has.
class ServerChoiceTest : public testing::Test {
 protected:
  void SetUp() override {
    setenv("XDG_STATE_HOME", state.path().c_str(), 1);
    ASSERT_EQ(mkdir((state / "capstan").c_str(), 0700), 0);
    token = write("capstan/owner.token");
  }
  void TearDown() override { unsetenv("XDG_STATE_HOME"); }

  std::string write(const std::string& name) {
    std::ofstream(state / name) << std::string(64, 'a') << "\n";
    chmod((state / name).c_str(), 0600);
    return state / name;
  }
  client::Options optionsFor(const ServerWish& wish) {
    auto choice = chooseServer(wish);
    EXPECT_TRUE(choice.ok());
    return choice.ok() ? clientOptionsOf(*choice) : client::Options();
  }

  storage::TempFolder state;
  std::string token;
};

TEST_F(ServerChoiceTest, ATokenThatNobodyNamesIsForOwnServersAlone) {
  ServerWish wish;
  wish.server = "127.0.0.1:1";
  auto options = optionsFor(wish);
  EXPECT_EQ(options.token, std::string(32, '\xaa'));
  EXPECT_TRUE(options.tokenIsOwn);
}

TEST_F(ServerChoiceTest, ATokenThatSomebodyNamesIsSentWhereverTheySay) {
  ServerWish wish;
  wish.server = "127.0.0.1:1";
  wish.tokenFile = token;
  auto options = optionsFor(wish);
  EXPECT_EQ(options.token, std::string(32, '\xaa'));
  EXPECT_FALSE(options.tokenIsOwn);
}

TEST_F(ServerChoiceTest, ASocketOfAnotherUserIsNotTakenForTheOwnServers) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can make a socket of somebody else";
  setenv("XDG_RUNTIME_DIR", state.path().c_str(), 1);
  std::string path = state / "capstan.sock";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_LT(path.size(), sizeof(address.sun_path));
  path.copy(address.sun_path, path.size());
  kj::AutoCloseFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  KJ_SYSCALL(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof(address)));
  KJ_SYSCALL(listen(listener, 1));
  EXPECT_EQ(optionsFor({}).address.toString(), "unix:" + path);
  KJ_SYSCALL(chown(path.c_str(), 61'000, 61'000));
  EXPECT_EQ(optionsFor({}).address.toString(), "127.0.0.1:4457");
  unsetenv("XDG_RUNTIME_DIR");
}

TEST_F(ServerChoiceTest, AnAnswerIsWaitedForAsLongAsTheCommandMayTake) {
  GlobalFlags flags;
  Config config;
  flags.server = "127.0.0.1:1";
  EXPECT_EQ(optionsFor(wishOf(flags, {}, config)).answerTimeout, 0u);
  config.timeout = 20'000'000'000;
  EXPECT_EQ(optionsFor(wishOf(flags, {}, config)).answerTimeout, 20'000'000'000u);
  flags.timeout = 40'000'000'000;
  EXPECT_EQ(optionsFor(wishOf(flags, {}, config)).answerTimeout, 40'000'000'000u);
  flags.timeout = UINT64_MAX;
  EXPECT_LT(optionsFor(wishOf(flags, {}, config)).answerTimeout, uint64_t(INT64_MAX / 2));
}

}  // namespace
}  // namespace capstan::cli
