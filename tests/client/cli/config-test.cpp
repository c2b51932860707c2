// Configuration files, and which server and token follow from them.
#include <capstan/client/cli/config.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <capstan/client/cli/server-choice.h>
#include <capstan/rpc/invite.h>
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

TEST(Config, TheFoldersFileWinsButForRemotes) {
  Config both = merged(config("timeout = \"1s\"\n[remotes.a]\nserver = \"near:1\"\n"),
                       config("server = \"far:1\"\ntimeout = \"2s\"\ntoken-file = \"/t\"\n[remotes.a]\nserver = "
                              "\"far:2\"\n[remotes.b]\nserver=\"far:3\"\n"));
  EXPECT_EQ(both.server, "far:1");
  EXPECT_EQ(both.serverOrigin, Origin::USER);
  EXPECT_EQ(both.tokenFile, "/t");
  EXPECT_EQ(both.timeout, 1'000'000'000u);
  EXPECT_EQ(both.remotes["a"].server, "far:2");
  EXPECT_EQ(both.remotes["b"].server, "far:3");
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

TEST(Config, RemotesTellHowToSpeak) {
  Config read = config(
      "server = \"@home.invite\"\n[remotes.a]\nserver = \"a:1\"\ncertificate = \"a.pem\"\n"
      "[remotes.b]\nserver = \"@~/b.invite\"\ninsecure = true\n");
  EXPECT_EQ(read.server, "@/etc/c/home.invite");
  EXPECT_EQ(read.remotes["a"].certificate, "/etc/c/a.pem");
  EXPECT_FALSE(read.remotes["a"].insecure);
  EXPECT_EQ(read.remotes["b"].server, "@/home/me/b.invite");
  EXPECT_TRUE(read.remotes["b"].insecure);
  EXPECT_FALSE(parseConfig("[remotes.x]\nserver=\"a:1\"\ninsecure = yes\n", "c.toml", "", "").ok());
}

TEST(ServerWish, TakesFromARemoteHowToSpeakAndFromNobodyElse) {
  Config file = config(
      "server = \"a\"\n[remotes.a]\nserver = \"a:1\"\ncertificate = \"/a.pem\"\n"
      "[remotes.b]\nserver = \"b:1\"\ninsecure = true\n");
  GlobalFlags none, b, insecure;
  b.server = "b";
  insecure.insecure = true;
  EXPECT_EQ(wishOf(none, {}, file).certificateFile, "/a.pem");
  EXPECT_FALSE(wishOf(none, {}, file).insecure);
  EXPECT_FALSE(wishOf(b, {}, file).certificateFile);
  EXPECT_TRUE(wishOf(b, {}, file).insecure);
  EXPECT_FALSE(wishOf(none, {"c:1", {}}, file).certificateFile);
  EXPECT_TRUE(wishOf(insecure, {}, file).insecure);
  EXPECT_TRUE(wishOf(none, {{}, {}, true}, file).insecure);
}

struct InviteFile {
  std::string path = testing::TempDir() + "/capstan-invite-" + std::to_string(getpid());
  rpc::Invite invite;

  InviteFile() {
    invite.addresses = {*rpc::parseAddress("files.example:1"), *rpc::parseAddress("10.0.0.1:2")};
    invite.token = std::string(32, 't');
    invite.certificate = rpc::TlsIdentity::make()->certificate;
    write(*rpc::format(invite));
  }
  ~InviteFile() { std::filesystem::remove(path); }

  void write(const std::string& text, unsigned mode = 0600) {
    std::ofstream(path) << text;
    std::filesystem::permissions(path, std::filesystem::perms(mode));
  }
  ServerWish wish() const {
    ServerWish wish;
    wish.server = "@" + path;
    return wish;
  }
};

TEST(ChooseServer, TakesAddressesTokenAndCertificateFromAnInvite) {
  InviteFile file;
  auto choice = chooseServer(file.wish());
  ASSERT_TRUE(choice.ok()) << choice.error().message;
  EXPECT_EQ(choice->address.host, "files.example");
  EXPECT_EQ(choice->moreAddresses.size(), 1u);
  EXPECT_EQ(choice->token, file.invite.token);
  EXPECT_EQ(choice->security.kind, rpc::Security::Kind::PINNED);
  EXPECT_EQ(choice->security.certificate, file.invite.certificate);
  EXPECT_THAT(choice->warnings, testing::IsEmpty());
  auto options = clientOptionsOf(*choice);
  EXPECT_EQ(options.moreAddresses, choice->moreAddresses);
  EXPECT_EQ(options.security.certificate, file.invite.certificate);
  EXPECT_EQ(options.token, file.invite.token);
}

TEST(ChooseServer, WarnsOfAnInviteThatOthersCanRead) {
  InviteFile file;
  file.write(*rpc::format(file.invite), 0644);
  auto choice = chooseServer(file.wish());
  ASSERT_TRUE(choice.ok());
  EXPECT_THAT(choice->warnings, testing::ElementsAre(HasSubstr("chmod 600")));
}

TEST(ChooseServer, InsecureDoesNotTakeAnInvitesPinAway) {
  InviteFile file;
  ServerWish wish = file.wish();
  wish.insecure = true;
  EXPECT_EQ(chooseServer(wish)->security.kind, rpc::Security::Kind::PINNED);
}

TEST(ChooseServer, TellsMissingInvitesFromWhatIsNone) {
  InviteFile file;
  file.write("hello\n");
  auto none = chooseServer(file.wish());
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code, ErrorCode::INVALID_ARGUMENT);
  file.path += "-missing";
  auto missing = chooseServer(file.wish());
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::NOT_FOUND);
}

TEST(ChooseServer, SpeaksAsTheFlagsAndTheAddressWantIt) {
  using Kind = rpc::Security::Kind;
  ServerWish wish;
  wish.server = "files.example:1";
  EXPECT_EQ(chooseServer(wish)->security.kind, Kind::AUTOMATIC);
  wish.insecure = true;
  EXPECT_EQ(chooseServer(wish)->security.kind, Kind::PLAIN);
  wish.insecure = false;
  InviteFile file;
  wish.certificateFile = file.path;
  EXPECT_EQ(chooseServer(wish)->security.kind, Kind::PINNED) << "an invite holds a certificate, too";
  file.write("none");
  EXPECT_EQ(chooseServer(wish).error().code, ErrorCode::INVALID_ARGUMENT);
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
