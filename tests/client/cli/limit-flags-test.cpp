// What --limit takes.
#include <capstan/client/cli/limit-flags.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace capstan::cli {
namespace {

using server::Limit;
using server::Limits;
using testing::HasSubstr;

std::string sentenceOf(const std::string& typed) {
  Limits limits;
  auto set = setLimit(limits, typed);
  EXPECT_FALSE(set.ok()) << typed;
  return set.ok() ? "" : set.error().message;
}

TEST(LimitFlag, SetsALimitInTheMeasureOfItsKind) {
  Limits limits;
  ASSERT_TRUE(setLimit(limits, "connection.uploads=7").ok());
  ASSERT_TRUE(setLimit(limits, "grant.staged-bytes=2GiB").ok());
  ASSERT_TRUE(setLimit(limits, "message=4MiB").ok()) << "there is one limit of this name";
  ASSERT_TRUE(setLimit(limits, "login-time=5s").ok());
  EXPECT_EQ(limits[Limit::CONNECTION_UPLOADS], 7u);
  EXPECT_EQ(limits[Limit::GRANT_STAGED_BYTES], 2ull << 30);
  EXPECT_EQ(limits[Limit::CONNECTION_MESSAGE], 4u << 20);
  EXPECT_EQ(limits[Limit::CONNECTION_LOGIN_TIME], 5'000'000'000u);
  EXPECT_EQ(limits[Limit::SERVER_UPLOADS], Limits()[Limit::SERVER_UPLOADS]) << "the others stay";
}

TEST(LimitFlag, SaysWhatWasMeantWhereANameIsWrong) {
  EXPECT_THAT(sentenceOf("connection.uplods=7"), HasSubstr("did you mean connection.uploads?"));
  EXPECT_THAT(sentenceOf("mesage=7"), HasSubstr("did you mean message?"));
  EXPECT_THAT(sentenceOf("\x1b[2J=7"), testing::Not(HasSubstr("\x1b")));
  EXPECT_THAT(sentenceOf("uploads=7"), HasSubstr("say connection.uploads, grant.uploads or server.uploads"));
  EXPECT_THAT(sentenceOf("uploads"), HasSubstr("NAME=VALUE"));
}

TEST(LimitFlag, SaysWhatIsPossibleWhereAValueIsWrong) {
  EXPECT_THAT(sentenceOf("connection.uploads=many"), HasSubstr("a number"));
  EXPECT_THAT(sentenceOf("connection.uploads=-1"), HasSubstr("a number"));
  EXPECT_THAT(sentenceOf("connection.uploads="), HasSubstr("a number"));
  EXPECT_THAT(sentenceOf("connection.uploads=0"), HasSubstr("1 to 1048576"));
  EXPECT_THAT(sentenceOf("message=soon"), HasSubstr("a size"));
  EXPECT_THAT(sentenceOf("message=1"), HasSubstr("2.0 MiB to 64.0 MiB"));
  EXPECT_THAT(sentenceOf("idle-time=4x"), HasSubstr("a duration"));
}

TEST(LimitFlag, ListsEveryLimitWithItsValue) {
  Limits limits;
  ASSERT_TRUE(setLimit(limits, "server.files=4321").ok());
  std::string text = describeLimits(limits);
  for (auto& row : server::limitTable()) EXPECT_THAT(text, HasSubstr(row.fullName() + " ")) << row.fullName();
  EXPECT_THAT(text, HasSubstr("4321"));
}

}  // namespace
}  // namespace capstan::cli
