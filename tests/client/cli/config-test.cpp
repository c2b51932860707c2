// Configuration files, and which server and token follow from them.
#include <capstan/client/cli/config.h>

#include <capstan/client/cli/server-choice.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace capstan::cli {
namespace {

using testing::HasSubstr;

Config config(std::string_view text) {
  auto parsed = parseConfig(text, "c.toml", "/etc/c", "/home/me");
  EXPECT_TRUE(parsed.ok()) << (parsed.ok() ? "" : parsed.error().message);
  return parsed.ok() ? std::move(*parsed) : Config{};
}

TEST(Config, ReadsKeysRemotesAndComments) {
  Config read = config(
      "# mine\nserver = \"h:1\" # here\ntoken-file='~/t#1'\ntimeout=\"30s\"\nprogress = false\n\n[other]\nserver = 5 "
      "apples\n"
      "[remotes.office]\r\nserver = \"o:2\"\ntoken-file = \"o.token\"\n[ remotes.\"a b\" ]\nserver=\"x\\\"y\"\n");
  EXPECT_EQ(read.server, "h:1");
  EXPECT_EQ(read.tokenFile, "/home/me/t#1");
  EXPECT_EQ(read.timeout, 30'000'000'000u);
  EXPECT_EQ(read.progress, false);
  EXPECT_FALSE(read.color);
  EXPECT_EQ(read.remotes["office"].server, "o:2");
  EXPECT_EQ(read.remotes["office"].tokenFile, "/etc/c/o.token");
  EXPECT_EQ(read.remotes["a b"].server, "x\"y");
}

TEST(Config, NamesFileAndLineOfAMistake) {
  for (auto& [text, line] : {std::pair("\nserver h:1\n", "line 2"),
                             {"server = \"h:1\n", "line 1"},
                             {"[remotes.x\n", "line 1"},
                             {"a = 1\nprogress = maybe\n", "line 2"},
                             {"timeout = \"soon\"", "line 1"}}) {
    auto parsed = parseConfig(text, "c.toml", "", "");
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_THAT(parsed.error().message, HasSubstr(std::string("c.toml, ") + line));
  }
  EXPECT_FALSE(parseConfig("[remotes.x]\ntoken-file = \"t\"\n", "c.toml", "", "").ok());
}

TEST(Config, TheNearerFileWins) {
  Config both = merged(config("timeout = \"1s\"\n[remotes.a]\nserver = \"near:1\"\n"),
                       config("server = \"far:1\"\ntimeout = \"2s\"\ntoken-file = \"/t\"\n[remotes.a]\nserver = "
                              "\"far:2\"\n[remotes.b]\nserver=\"far:3\"\n"));
  EXPECT_EQ(both.server, "far:1");
  EXPECT_EQ(both.tokenFile, "/t");
  EXPECT_EQ(both.timeout, 1'000'000'000u);
  EXPECT_EQ(both.remotes["a"].server, "near:1");
  EXPECT_EQ(both.remotes["b"].server, "far:3");
}

TEST(Config, AFoldersServerDoesNotGetTheUsersToken) {
  EXPECT_FALSE(merged(config("server = \"evil:1\"\n"), config("token-file = \"/home/me/secret\"\n")).tokenFile);
}

TEST(ServerWish, PrefersFlagThenEnvironmentThenConfiguration) {
  Config file =
      config("server = \"c:1\"\ntoken-file = \"/c\"\n[remotes.office]\nserver = \"o:2\"\ntoken-file = \"/o\"\n");
  GlobalFlags none, flags;
  flags.server = "f:1";
  flags.tokenFile = "/f";
  EXPECT_EQ(wishOf(none, {}, file).server, "c:1");
  EXPECT_EQ(wishOf(none, {}, file).tokenFile, "/c");
  EXPECT_EQ(wishOf(none, {"e:1", "/e"}, file).server, "e:1");
  EXPECT_EQ(wishOf(none, {"e:1", "/e"}, file).tokenFile, "/e");
  EXPECT_EQ(wishOf(flags, {"e:1", "/e"}, file).server, "f:1");
  EXPECT_EQ(wishOf(flags, {"e:1", "/e"}, file).tokenFile, "/f");
  EXPECT_EQ(wishOf(none, {"office", {}}, file).server, "o:2");
  EXPECT_EQ(wishOf(none, {"office", {}}, file).tokenFile, "/o");
  EXPECT_FALSE(wishOf(none, {}, {}).server);
}

TEST(ChooseServer, SaysThatAnInviteIsNoAddress) {
  ServerWish wish{"@invite", {}, "--server"};
  auto choice = chooseServer(wish);
  ASSERT_FALSE(choice.ok());
  EXPECT_EQ(choice.error().code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_THAT(choice.error().message, HasSubstr("is no address"));
}

TEST(ParseToken, TakesSixtyFourHexDigitsAndNeverRepeatsThem) {
  auto token = parseToken("  " + std::string(64, 'a') + "\n", "f");
  ASSERT_TRUE(token.ok());
  EXPECT_EQ(*token, std::string(32, '\xaa'));
  for (std::string text : {std::string(63, 'a'), std::string(62, 'a'), std::string("secret"), std::string()}) {
    auto wrong = parseToken(text, "f");
    ASSERT_FALSE(wrong.ok());
    if (!text.empty()) {
      EXPECT_EQ(wrong.error().message.find(text), std::string::npos);
    }
  }
}

TEST(AliasesOf, FindsWhatLocalhostStandsFor) {
  rpc::Address address;
  address.host = "localhost";
  address.port = 1;
  auto aliases = aliasesOf(address);
  ASSERT_EQ(aliases.size(), 3u);
  EXPECT_EQ(aliases[1].host, "127.0.0.1");
  address.host = "127.0.0.1";
  EXPECT_EQ(aliasesOf(address).size(), 1u);
}

}  // namespace
}  // namespace capstan::cli
