// The table of exit statuses that scripts rely on.
#include <capstan/client/cli/exit-status.h>

#include <map>

#include <gtest/gtest.h>

namespace capstan::cli {
namespace {

TEST(ExitStatus, FollowsTheContractForEachCode) {
  std::map<ErrorCode, int> special{
      {ErrorCode::CONFLICT, 4},  {ErrorCode::DENIED, 6},      {ErrorCode::REVOKED, 6},
      {ErrorCode::EXPIRED, 6},   {ErrorCode::UNREACHABLE, 7}, {ErrorCode::PROTOCOL_VERSION, 7},
      {ErrorCode::TIMED_OUT, 8}, {ErrorCode::NOT_FOUND, 9},   {ErrorCode::EXISTS, 10},
  };
  for (unsigned code = 0; code <= unsigned(ErrorCode::UNREACHABLE); ++code) {
    auto found = special.find(ErrorCode(code));
    EXPECT_EQ(exitStatusOf(ErrorCode(code)), found == special.end() ? 1 : found->second) << kebabCase(ErrorCode(code));
  }
}

TEST(ExitStatus, OfSeveralIsPartlyDoneWhereSomethingWasDone) {
  EXPECT_EQ(exitStatusOfAll({}), DONE);
  EXPECT_EQ(exitStatusOfAll({DONE, DONE}), DONE);
  EXPECT_EQ(exitStatusOfAll({NOT_FOUND}), NOT_FOUND);
  EXPECT_EQ(exitStatusOfAll({DONE, NOT_FOUND}), PARTLY_DONE);
  EXPECT_EQ(exitStatusOfAll({PARTLY_DONE, NOT_FOUND}), PARTLY_DONE);
  EXPECT_EQ(exitStatusOfAll({NOT_FOUND, NOT_FOUND}), NOT_FOUND);
  EXPECT_EQ(exitStatusOfAll({NOT_FOUND, DENIED}), FAILED);
}

}  // namespace
}  // namespace capstan::cli
