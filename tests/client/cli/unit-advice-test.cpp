#include <capstan/client/cli/unit-advice.h>

#include <cerrno>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace capstan::cli {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(UnitAdvice, NamesTheSettingThatKeepsAnAddressAway) {
  Error error{ErrorCode::INVALID_ARGUMENT, std::string("cannot listen on 0.0.0.0:1: ") + strerror(EAFNOSUPPORT), {}};
  Error told = withUnitSettings(error);
  EXPECT_EQ(told.code, error.code);
  EXPECT_THAT(told.message, StartsWith(error.message));
  for (const char* setting : {"ListenStream=", "RestrictAddressFamilies=", "PrivateNetwork=no"}) {
    EXPECT_THAT(told.message, HasSubstr(setting));
  }
}

TEST(UnitAdvice, NamesTheSettingThatMakesAFolderReadOnly) {
  Error error = errorFromErrno(EROFS, "cannot make the folder", "/srv/files/.capstan");
  Error told = withUnitSettings(error);
  EXPECT_THAT(told.message, StartsWith(error.message));
  EXPECT_THAT(told.message, HasSubstr("ReadWritePaths="));
  EXPECT_EQ(told.path, error.path);
}

TEST(UnitAdvice, LeavesOtherReasonsAlone) {
  for (int number : {ENOENT, EACCES, EADDRINUSE, ENOSPC}) {
    Error error = errorFromErrno(number, "cannot serve", "/srv");
    EXPECT_EQ(withUnitSettings(error).message, error.message);
  }
}

TEST(UnitAdvice, TellsHowOthersReachAServerThatIsAService) {
  EXPECT_EQ(howToBeReached({}), "start it with --listen HOST:PORT");
  EXPECT_EQ(howToBeReached(Unit{"runner.service", false}), "start it with --listen HOST:PORT");
  std::string machine = howToBeReached(Unit{"capstan.service", false});
  EXPECT_THAT(machine, HasSubstr("ListenStream=HOST:PORT"));
  EXPECT_THAT(machine, HasSubstr("systemctl edit capstan.socket"));
  EXPECT_THAT(machine, testing::Not(HasSubstr("--listen")));
  EXPECT_THAT(howToBeReached(Unit{"capstan.service", true}), HasSubstr("systemctl --user edit capstan.socket"));
  EXPECT_THAT(howToBeReached(Unit{"capstan@a.service", false}), HasSubstr("capstan@a.socket"));
}

}  // namespace
}  // namespace capstan::cli
