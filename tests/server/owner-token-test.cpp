#include <capstan/server/owner-token.h>

#include <sys/stat.h>

#include <set>
#include <thread>

#include <capstan/base/text.h>

#include "serving.h"

namespace capstan::server {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

std::string secretIn(const storage::TempFolder& folder, const std::string& name = "owner.token") {
  std::string line = folder.read(name);
  return fromHex(line.substr(0, line.find('\n'))).value_or("");
}

Error failure(const storage::TempFolder& folder) {
  auto token = OwnerToken::loadOrMake(folder.path());
  if (!token.ok()) return token.error();
  ADD_FAILURE() << "the token was taken";
  return {};
}

TEST(OwnerToken, IsMadeAtTheFirstStartForItsOwnerAlone) {
  storage::TempFolder folder;
  mode_t before = umask(0);
  auto token = OwnerToken::loadOrMake(folder.path());
  umask(before);
  ASSERT_TRUE(token.ok());
  EXPECT_EQ(token->file(), folder / "owner.token");
  EXPECT_EQ(folder.stat("owner.token").st_mode & 07777, 0600u);
  EXPECT_EQ(folder.read("owner.token").size(), 65u) << "64 hex digits and a newline";
  EXPECT_EQ(secretIn(folder).size(), 32u);
  size_t entries = 0;
  for ([[maybe_unused]] auto& entry : std::filesystem::directory_iterator(folder.path())) ++entries;
  EXPECT_EQ(entries, 1u) << "nothing else is left";
}

TEST(OwnerToken, MatchesItsSecretAndNothingElse) {
  storage::TempFolder folder;
  auto token = OwnerToken::loadOrMake(folder.path());
  ASSERT_TRUE(token.ok());
  std::string secret = secretIn(folder);
  EXPECT_TRUE(token->matches(secret));
  EXPECT_FALSE(token->matches(""));
  EXPECT_FALSE(token->matches(secret.substr(1)));
  EXPECT_FALSE(token->matches(secret + '\0'));
  EXPECT_FALSE(token->matches(toHex(secret)));
  for (size_t i = 0; i < secret.size(); ++i) {
    std::string wrong = secret;
    wrong[i] ^= 0x10;
    EXPECT_FALSE(token->matches(wrong)) << i;
  }
}

TEST(OwnerToken, StaysTheSame) {
  storage::TempFolder folder;
  ASSERT_TRUE(OwnerToken::loadOrMake(folder.path()).ok());
  std::string first = folder.read("owner.token");
  auto again = OwnerToken::loadOrMake(folder.path());
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(folder.read("owner.token"), first);
  EXPECT_TRUE(again->matches(secretIn(folder)));
}

TEST(OwnerToken, DiffersFromServerToServer) {
  storage::TempFolder one, other;
  ASSERT_TRUE(OwnerToken::loadOrMake(one.path()).ok());
  ASSERT_TRUE(OwnerToken::loadOrMake(other.path()).ok());
  EXPECT_NE(one.read("owner.token"), other.read("owner.token"));
}

TEST(OwnerToken, IsOneForServersThatStartAtOnce) {
  for (unsigned round = 0; round < 10; ++round) {
    storage::TempFolder folder;
    std::vector<std::thread> threads;
    std::mutex mutex;
    std::vector<OwnerToken> tokens;
    for (unsigned i = 0; i < 4; ++i) {
      threads.emplace_back([&]() {
        auto token = OwnerToken::loadOrMake(folder.path());
        std::lock_guard lock(mutex);
        if (token.ok()) tokens.push_back(std::move(*token));
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(tokens.size(), 4u);
    for (auto& token : tokens) EXPECT_TRUE(token.matches(secretIn(folder)));
  }
}

TEST(OwnerToken, IsRefusedIfOthersMayReadIt) {
  for (mode_t mode : {0640, 0604, 0660, 0666}) {
    storage::TempFolder folder;
    ASSERT_TRUE(OwnerToken::loadOrMake(folder.path()).ok());
    chmod((folder / "owner.token").c_str(), mode);
    Error error = failure(folder);
    EXPECT_EQ(error.code, ErrorCode::DENIED);
    EXPECT_THAT(error.message, HasSubstr("chmod 600"));
    EXPECT_THAT(error.message, HasSubstr("owner.token"));
  }
}

TEST(OwnerToken, IsRefusedIfItIsAnotherUsers) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  storage::TempFolder folder;
  ASSERT_TRUE(OwnerToken::loadOrMake(folder.path()).ok());
  KJ_SYSCALL(chown((folder / "owner.token").c_str(), 12345, 12345));
  EXPECT_EQ(failure(folder).code, ErrorCode::DENIED);
}

TEST(OwnerToken, IsRefusedIfItIsNone) {
  for (auto content : {"", "abc", "this is a secret that must not be shown"}) {
    storage::TempFolder folder;
    folder.write("owner.token", content);
    chmod((folder / "owner.token").c_str(), 0600);
    Error error = failure(folder);
    EXPECT_EQ(error.code, ErrorCode::CORRUPT);
    EXPECT_EQ(error.message.find("secret"), std::string::npos);
    EXPECT_EQ(folder.read("owner.token"), content) << "it is left as it is";
  }
}

struct Links {
  storage::TempFolder base;
  Variable stateHome{"XDG_STATE_HOME", base.path()};

  Links() { base.write("token", ""); }

  std::string target(const std::string& address) const {
    std::error_code none;
    return std::filesystem::read_symlink(base / ("capstan/tokens/" + address), none);
  }
};

rpc::Address tcp(const std::string& host, uint16_t port) {
  return {.kind = rpc::Address::Kind::TCP, .host = host, .port = port, .path = {}};
}

TEST(TokenLinks, AreMadeForLoopbackAddressesAndRemoved) {
  Links links;
  {
    TokenLinks made({tcp("127.0.0.1", 1), tcp("::1", 2), tcp("192.0.2.1", 3)}, links.base / "token");
    EXPECT_EQ(links.target("127.0.0.1:1"), links.base / "token");
    EXPECT_EQ(links.target("[::1]:2"), links.base / "token");
    EXPECT_THAT(links.target("192.0.2.1:3"), IsEmpty());
  }
  EXPECT_THAT(links.target("127.0.0.1:1"), IsEmpty());
  EXPECT_THAT(links.target("[::1]:2"), IsEmpty());
}

TEST(TokenLinks, OfAnOpenAddressAreForTheWayThroughLoopback) {
  Links links;
  TokenLinks made({tcp("0.0.0.0", 1), tcp("::", 2)}, links.base / "token");
  EXPECT_EQ(links.target("127.0.0.1:1"), links.base / "token");
  EXPECT_EQ(links.target("[::1]:2"), links.base / "token");
}

TEST(TokenLinks, OfADeadServerAreReplacedAndThoseOfALaterOneStay) {
  Links links;
  links.base.write("other", "");
  links.base.makeFolder("capstan/tokens");
  links.base.link("capstan/tokens/127.0.0.1:1", links.base / "dead");
  {
    TokenLinks made({tcp("127.0.0.1", 1)}, links.base / "token");
    EXPECT_EQ(links.target("127.0.0.1:1"), links.base / "token");
    std::filesystem::remove(links.base / "capstan/tokens/127.0.0.1:1");
    links.base.link("capstan/tokens/127.0.0.1:1", links.base / "other");
  }
  EXPECT_EQ(links.target("127.0.0.1:1"), links.base / "other");
}

TEST(TokenLinks, CanBeHandedOn) {
  Links links;
  TokenLinks kept;
  kept = TokenLinks({tcp("127.0.0.1", 1)}, links.base / "token");
  EXPECT_EQ(links.target("127.0.0.1:1"), links.base / "token");
  kept = TokenLinks();
  EXPECT_THAT(links.target("127.0.0.1:1"), IsEmpty());
}

}  // namespace
}  // namespace capstan::server
