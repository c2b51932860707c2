// What the configuration of the current folder may say, which anybody may have put there, and what not.
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include <capstan/client/cli/folder-file.h>
#include <capstan/client/cli/server-choice.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../../storage/temp-folder.h"

namespace capstan::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Config config(std::string_view text) {
  auto parsed = parseConfig(text, "c.toml", "", "/home/me");
  EXPECT_TRUE(parsed.ok()) << (parsed.ok() ? "" : parsed.error().message);
  return parsed.ok() ? std::move(*parsed) : Config{};
}

Config both(std::string_view folder, std::string_view user = "") { return merged(config(folder), config(user)); }

GlobalFlags serverFlag(const char* server) {
  GlobalFlags flags;
  flags.server = server;
  return flags;
}

TEST(FolderConfig, ItsServerGetsNoTokenOfTheUsersConfigurationAndEnvironment) {
  Config planted = both("server = \"evil:1\"\n", "token-file = \"/home/me/secret\"\n");
  ServerWish wish = wishOf({}, {}, planted);
  EXPECT_EQ(wish.server, "evil:1");
  EXPECT_EQ(wish.addressOrigin, Origin::FOLDER);
  EXPECT_FALSE(wish.tokenFile);
  EXPECT_THAT(wish.warnings, ElementsAre(HasSubstr("is not sent to a server that .capstan.toml names")));
  wish = wishOf({}, {{}, "/home/me/other"}, both("server = \"evil:1\"\n"));
  EXPECT_FALSE(wish.tokenFile);
  EXPECT_THAT(wish.warnings, ElementsAre(HasSubstr("CAPSTAN_TOKEN_FILE")));
}

TEST(FolderConfig, ItsRemoteGetsNoTokenOfTheUserWhoeverNamesIt) {
  Config planted = both("[remotes.r]\nserver = \"evil:1\"\n", "token-file = \"/home/me/secret\"\nserver = \"r\"\n");
  for (auto& wish : {wishOf({}, {{}, "/env"}, planted), wishOf(serverFlag("r"), {{}, "/env"}, planted),
                     wishOf({}, {"r", "/env"}, planted)}) {
    EXPECT_EQ(wish.server, "evil:1");
    EXPECT_EQ(wish.addressOrigin, Origin::FOLDER);
    EXPECT_FALSE(wish.tokenFile);
  }
}

TEST(FolderConfig, ATokenOfTheCommandLineGoesWhereTheFolderSays) {
  GlobalFlags flags;
  flags.tokenFile = "/typed";
  ServerWish wish = wishOf(flags, {{}, "/env"}, both("server = \"evil:1\"\ntoken-file = \"~/x\"\n"));
  EXPECT_EQ(wish.tokenFile, "/typed");
  EXPECT_EQ(wish.tokenOrigin, Origin::USER);
  EXPECT_THAT(wish.warnings, IsEmpty());
}

TEST(FolderConfig, ItMayNameARemoteOfTheUserWhichKeepsItsToken) {
  Config named = both("server = \"office\"\n", "[remotes.office]\nserver = \"o:1\"\ntoken-file = \"/o\"\n");
  ServerWish wish = wishOf({}, {}, named);
  EXPECT_EQ(wish.server, "o:1");
  EXPECT_EQ(wish.addressOrigin, Origin::USER);
  EXPECT_EQ(wish.tokenFile, "/o");
  EXPECT_EQ(wishOf({}, {{}, "/env"}, named).tokenFile, "/env");
}

TEST(FolderConfig, ARemoteOfTheUserIsNotReplacedAndNotMixed) {
  Config planted =
      both("[remotes.office]\nserver = \"evil:1\"\ninsecure = true\ncertificate = \"evil.pem\"\ntoken-file = \"t\"\n",
           "[remotes.office]\nserver = \"o:1\"\n");
  ServerWish wish = wishOf(serverFlag("office"), {}, planted);
  EXPECT_EQ(wish.server, "o:1");
  EXPECT_EQ(wish.addressOrigin, Origin::USER);
  EXPECT_FALSE(wish.insecure);
  EXPECT_FALSE(wish.certificateFile);
  EXPECT_FALSE(wish.tokenFile);
  EXPECT_THAT(wish.warnings, ElementsAre(HasSubstr("office")));
  EXPECT_THAT(wishOf(serverFlag("other:1"), {}, planted).warnings, IsEmpty());
}

TEST(FolderConfig, ItsRemotesDoNotStandForAddresses) {
  for (const char* name : {"files.example:4457", "files.example", "localhost", "@friend.invite", "::1", ""}) {
    std::string planted = "[remotes.\"" + std::string(name) + "\"]\nserver = \"evil:1\"\n";
    EXPECT_EQ(wishOf(serverFlag(name), {}, both(planted)).server, name);
    EXPECT_EQ(wishOf(serverFlag(name), {}, both("", planted)).server, "evil:1") << "the user may";
  }
}

TEST(FolderConfig, DoesNotGetIntoTheWayOfAServerThatIsTyped) {
  Config planted = both("server = \"evil:1\"\ntoken-file = \"/other\"\n", "token-file = \"/mine\"\n");
  ServerWish wish = wishOf(serverFlag("h:1"), {}, planted);
  EXPECT_EQ(wish.tokenFile, "/mine");
  EXPECT_EQ(wish.tokenOrigin, Origin::USER);
  EXPECT_THAT(wish.warnings, IsEmpty());
  EXPECT_EQ(wishOf({}, {"e:1", {}}, planted).tokenFile, "/mine");
}

TEST(FolderConfig, InsecureOfTheUserIsTheUsers) {
  Config planted = both("server = \"r\"\n[remotes.r]\nserver = \"evil:1\"\ninsecure = true\n");
  EXPECT_EQ(wishOf({}, {}, planted).insecureOrigin, Origin::FOLDER);
  EXPECT_EQ(wishOf({}, {{}, {}, true}, planted).insecureOrigin, Origin::USER);
}

// With a current folder, and a state folder in which the owner's token lies.
class FolderChoice : public testing::Test {
 protected:
  void SetUp() override {
    home.write("capstan/owner.token", std::string(64, 'a'));
    std::filesystem::permissions(home / "capstan/owner.token", std::filesystem::perms(0600));
    setenv("XDG_STATE_HOME", home.path().c_str(), 1);
    std::filesystem::current_path(folder.path());
  }
  void TearDown() override {
    unsetenv("XDG_STATE_HOME");
    std::filesystem::current_path(before);
  }

  Result<ServerChoice> choose(const std::string& text, const GlobalFlags& flags = {}) {
    return chooseServer(wishOf(flags, {}, both(text)));
  }
  std::string refusal(const std::string& text) {
    auto choice = choose(text);
    EXPECT_FALSE(choice.ok()) << text;
    if (choice.ok()) return "";
    EXPECT_EQ(choice.error().code, ErrorCode::INVALID_ARGUMENT);
    return choice.error().message;
  }

  std::filesystem::path before = std::filesystem::current_path();
  storage::TempFolder home, folder;
};

TEST_F(FolderChoice, TheOwnersTokenDoesNotGoToItsServer) {
  EXPECT_FALSE(choose("", serverFlag("127.0.0.1:1"))->token.empty());
  auto planted = choose("server = \"127.0.0.1:1\"\n");
  ASSERT_TRUE(planted.ok());
  EXPECT_TRUE(planted->token.empty());
  EXPECT_TRUE(clientOptionsOf(*planted).token.empty());
  EXPECT_THAT(planted->withheld, ElementsAre(HasSubstr("--token-file")));
}

TEST_F(FolderChoice, ATokenFileIsOneOfTheFolder) {
  folder.write("sub/t", std::string(64, 'b'));
  folder.link("inside", "sub/t");
  for (std::string name : {"sub/t", "./sub/t", "sub//t", "inside"}) {
    auto choice = choose("server = \"127.0.0.1:1\"\ntoken-file = \"" + name + "\"\n");
    ASSERT_TRUE(choice.ok()) << name << ": " << choice.error().message;
    EXPECT_EQ(choice->token, std::string(32, '\xbb'));
    EXPECT_TRUE(choose("server = \"r\"\n[remotes.r]\nserver = \"127.0.0.1:1\"\ntoken-file = \"" + name + "\"\n").ok());
  }
}

TEST_F(FolderChoice, ATokenFileThatIsNotOfTheFolderIsRefused) {
  std::string outside = home / "capstan/owner.token";
  folder.link("out", outside);
  folder.link("up", home.path());
  folder.makeFolder("sub");
  for (std::string name : {outside, std::string("~/x"), std::string("out"), std::string("up/capstan/owner.token"),
                           std::string("sub/../../x"), std::string(".."), std::string("sub")}) {
    std::string message = refusal("server = \"127.0.0.1:1\"\ntoken-file = \"" + name + "\"\n");
    EXPECT_THAT(message, HasSubstr(".capstan.toml: token-file: "));
    EXPECT_THAT(message, HasSubstr("config.toml, or say --token-file"));
    message = refusal("server = \"r\"\n[remotes.r]\nserver = \"127.0.0.1:1\"\ntoken-file = \"" + name + "\"\n");
    EXPECT_THAT(message, HasSubstr("token-file of the remote r"));
  }
  EXPECT_TRUE(choose("token-file = \"" + outside + "\"\n", serverFlag("127.0.0.1:1")).ok()) << "it is not used";
}

TEST_F(FolderChoice, InsecureIsForThisMachineAlone) {
  std::string message = refusal("server = \"r\"\n[remotes.r]\nserver = \"files.example:1\"\ninsecure = true\n");
  EXPECT_THAT(message, HasSubstr("insecure of the remote r: files.example:1 is another machine"));
  EXPECT_THAT(message, HasSubstr("--insecure"));
  EXPECT_TRUE(choose("server = \"r\"\n[remotes.r]\nserver = \"127.0.0.1:1\"\ninsecure = true\n").ok());
  GlobalFlags insecure;
  insecure.insecure = true;
  EXPECT_TRUE(choose("server = \"files.example:1\"\n", insecure).ok());
}

TEST(FolderFile, IsRelativeAndDoesNotGoUp) {
  for (const char* path : {"a", "a/b", "./a", "..a/b..", "a/..."}) EXPECT_TRUE(isFolderPath(path)) << path;
  for (const char* path : {"", "/a", "..", "../a", "a/../b", "a/.."}) EXPECT_FALSE(isFolderPath(path)) << path;
}

}  // namespace
}  // namespace capstan::cli
