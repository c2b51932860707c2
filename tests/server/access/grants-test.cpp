// The registry of shares: what tokens open, what is on the disk, what ends with what, and several servers of one
// folder.
#include <capstan/server/access/grants.h>

#include <fcntl.h>
#include <sys/file.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <capstan/base/digest.h>
#include <capstan/base/log.h>
#include <capstan/base/text.h>
#include <capstan/server/access/share-file.h>

#include "../../storage/temp-folder.h"

namespace capstan::server {
namespace {

using storage::TempFolder;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string OWNERS = "the owner's token";

class GrantsTest : public testing::Test {
 protected:
  TempFolder temp;

  GrantsTest() { log::setLevel(log::Level::OFF); }
  ~GrantsTest() { log::setLevel(log::Level::INFO); }

  std::shared_ptr<Grants> open(uint32_t sharesLimit = 1000) {
    kj::AutoCloseFd folder(::open(temp.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    auto grants = Grants::open({folder, sharesLimit}, digestOf(DigestAlgorithm::SHA256, OWNERS));
    KJ_REQUIRE(grants.ok(), grants.error().message.c_str());
    return *grants;
  }
  static Grants::Made make(Grants& grants, const std::shared_ptr<Grant>& parent, const std::string& label = "",
                           uint64_t uses = 0, int64_t expires = 0) {
    ShareTerms terms;
    terms.path = "photos";
    terms.label = label;
    terms.uses = uses;
    terms.expires = expires;
    auto made = grants.make(parent, terms);
    KJ_REQUIRE(made.ok(), made.error().message.c_str());
    return *made;
  }
  struct Revoked {
    std::vector<std::shared_ptr<Grant>> grants;
    uint32_t live;
    Status stored;
  };
  // As a server does it.
  static Result<Revoked> revoke(Grants& grants, const Grant& top, const std::string& id) {
    auto ended = grants.end(top, id);
    if (!ended.ok()) return ended.error();
    return Revoked{std::move(ended->grants), ended->live, grants.storeEnd(id)};
  }
  static std::vector<std::string> labels(const Grants& grants, const Grant& top) {
    std::vector<std::string> labels;
    for (auto& info : grants.list(top)) labels.push_back(info.grant->terms.label);
    return labels;
  }
  std::string fileOf(const Grant& grant) const { return "shares/" + grant.id; }
  // Makes a share's file what a later time would have.
  template <typename Change>
  void change(const Grant& grant, Change change) {
    auto file = parseShareFile(temp.read(fileOf(grant)));
    KJ_REQUIRE(file.ok());
    change(*file);
    temp.write(fileOf(grant) + "x", format(*file));
    std::filesystem::rename(temp / (fileOf(grant) + "x"), temp / fileOf(grant));
  }
};

ErrorCode endOf(const Grant& grant) {
  auto ended = grant.ended();
  return ended ? ended->code : ErrorCode::UNSET;
}
ErrorCode codeOf(const Status& status) { return status.ok() ? ErrorCode::UNSET : status.error().code; }

TEST_F(GrantsTest, ATokenOpensItsShareAndNothingElse) {
  auto grants = open();
  auto made = make(*grants, grants->owner());
  EXPECT_EQ(made.token.size(), TOKEN_BYTES);
  EXPECT_EQ(grants->match(made.token), made.grant);
  EXPECT_EQ(grants->match(OWNERS), grants->owner());
  EXPECT_EQ(grants->match(""), nullptr);
  auto wrong = made.token;
  wrong.back() ^= 1;
  EXPECT_EQ(grants->match(wrong), nullptr);
  EXPECT_EQ(grants->match(digestOf(DigestAlgorithm::SHA256, made.token)), nullptr)
      << "what is on the disk opens nothing";
  EXPECT_THAT(made.grant->id, testing::MatchesRegex("[a-z2-7]+"));
  EXPECT_EQ(made.grant->id.size(), 10u);
}

TEST_F(GrantsTest, SharesAreThereAfterARestart) {
  Grants::Made first, second;
  {
    auto grants = open();
    first = make(*grants, grants->owner(), "first");
    second = make(*grants, first.grant, "second");
  }
  auto grants = open();
  auto again = grants->match(second.token);
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(again->id, second.grant->id);
  EXPECT_EQ(again->terms.path, "photos");
  EXPECT_TRUE(again->isFrom(*grants->match(first.token)));
  EXPECT_THAT(labels(*grants, *grants->owner()), ElementsAre("first", "second"));
}

TEST_F(GrantsTest, TheTokenIsNowhereOnTheDisk) {
  auto grants = open();
  auto made = make(*grants, grants->owner(), "x", 2);
  EXPECT_TRUE(grants->use(*made.grant).ok());
  ASSERT_TRUE(revoke(*grants, *grants->owner(), made.grant->id).ok());
  std::string base64(64, '\0');
  base64.resize(size_t(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(base64.data()),
                                       reinterpret_cast<const unsigned char*>(made.token.data()), TOKEN_BYTES)));
  base64.resize(42);  // without what padding changes
  std::string url = base64;
  for (char& c : url) c = c == '+' ? '-' : c == '/' ? '_' : c;
  unsigned files = 0;
  for (auto& entry : std::filesystem::recursive_directory_iterator(temp.path())) {
    if (!entry.is_regular_file()) continue;
    ++files;
    auto name = std::filesystem::relative(entry.path(), temp.path()).string();
    std::string text = name + temp.read(name);
    for (auto& secret : {made.token, toHex(made.token), base64, url}) EXPECT_EQ(text.find(secret), std::string::npos);
  }
  EXPECT_EQ(files, 2u) << "the share and the lock";
  EXPECT_THAT(temp.read(fileOf(*made.grant)), HasSubstr(toHex(digestOf(DigestAlgorithm::SHA256, made.token))));
}

TEST_F(GrantsTest, FilesAreTheOwnersAlone) {
  auto grants = open();
  auto made = make(*grants, grants->owner());
  EXPECT_EQ(temp.stat("shares").st_mode & 07777, 0700u);
  EXPECT_EQ(temp.stat(fileOf(*made.grant)).st_mode & 07777, 0600u);
  EXPECT_EQ(temp.stat("shares/lock").st_mode & 07777, 0600u);
}

TEST_F(GrantsTest, ARevokedShareEndsAllThatWereMadeFromItAlsoAfterARestart) {
  Grants::Made first, child, grandchild, beside;
  {
    auto grants = open();
    first = make(*grants, grants->owner(), "first");
    child = make(*grants, first.grant, "child");
    grandchild = make(*grants, child.grant, "grandchild");
    beside = make(*grants, grants->owner(), "beside");
    auto ended = revoke(*grants, *grants->owner(), first.grant->id);
    ASSERT_TRUE(ended.ok());
    EXPECT_TRUE(ended->stored.ok());
    EXPECT_EQ(ended->live, 3u);
    auto again = revoke(*grants, *grants->owner(), first.grant->id);
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(again->live, 0u);
    EXPECT_EQ(again->grants.size(), 3u) << "whoever ended them first may not have cut them yet";
    EXPECT_EQ(endOf(*grandchild.grant), ErrorCode::REVOKED);
    EXPECT_THAT(grandchild.grant->ended()->message, HasSubstr("grandchild"));
    EXPECT_EQ(codeOf(grants->use(*child.grant)), ErrorCode::REVOKED);
    EXPECT_FALSE(grants->make(child.grant, ShareTerms()).ok());
  }
  auto grants = open();
  for (auto* made : {&first, &child, &grandchild}) {
    auto grant = grants->match(made->token);
    ASSERT_NE(grant, nullptr) << "whoever has the token is told why";
    EXPECT_EQ(endOf(*grant), ErrorCode::REVOKED);
  }
  EXPECT_EQ(endOf(*grants->match(beside.token)), ErrorCode::UNSET);
}

TEST_F(GrantsTest, AGrantRevokesItselfAndWhatWasMadeFromItAndNoOther) {
  auto grants = open();
  auto first = make(*grants, grants->owner());
  auto child = make(*grants, first.grant);
  auto beside = make(*grants, grants->owner());
  for (auto& id : {grants->owner()->id, beside.grant->id, first.grant->id, std::string("no-such-id")}) {
    auto refused = revoke(*grants, *child.grant, id);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::NOT_FOUND);
  }
  auto owners = revoke(*grants, *grants->owner(), OWNER_GRANT);
  ASSERT_FALSE(owners.ok());
  EXPECT_EQ(owners.error().code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_EQ(endOf(*first.grant), ErrorCode::UNSET);
  EXPECT_EQ(revoke(*grants, *child.grant, child.grant->id)->grants.size(), 1u);
  EXPECT_EQ(endOf(*child.grant), ErrorCode::REVOKED);
}

TEST_F(GrantsTest, ListsEachBehindTheOneItWasMadeFrom) {
  auto grants = open();
  auto a = make(*grants, grants->owner(), "a");
  auto b = make(*grants, grants->owner(), "b");
  auto a1 = make(*grants, a.grant, "a1");
  make(*grants, a.grant, "a2");
  make(*grants, a1.grant, "a1x");
  EXPECT_THAT(labels(*grants, *grants->owner()), ElementsAre("a", "a1", "a1x", "a2", "b"));
  EXPECT_THAT(labels(*grants, *a.grant), ElementsAre("a1", "a1x", "a2"));
  EXPECT_THAT(labels(*grants, *b.grant), ElementsAre());
}

TEST_F(GrantsTest, AnotherServerOfTheFolderSeesWhatWasMadeAndRevoked) {
  auto here = open(), there = open();
  auto made = make(*here, here->owner());
  auto child = make(*here, made.grant);
  EXPECT_EQ(there->match(child.token), nullptr);
  EXPECT_TRUE(there->refresh().empty());
  auto same = there->match(child.token);
  ASSERT_NE(same, nullptr);
  EXPECT_EQ(endOf(*same), ErrorCode::UNSET);
  ASSERT_TRUE(revoke(*here, *here->owner(), made.grant->id).ok());
  auto ended = there->refresh();
  EXPECT_EQ(ended.size(), 2u);
  EXPECT_EQ(endOf(*same), ErrorCode::REVOKED);
  EXPECT_TRUE(there->refresh().empty()) << "told once";
}

TEST_F(GrantsTest, NothingIsMadeFromWhatAnotherServerRevokedAMomentAgo) {
  auto here = open(), there = open();
  auto made = make(*here, here->owner());
  there->refresh();
  auto same = there->match(made.token);
  ASSERT_TRUE(revoke(*here, *here->owner(), made.grant->id).ok());
  auto child = there->make(same, ShareTerms());
  ASSERT_FALSE(child.ok());
  EXPECT_EQ(child.error().code, ErrorCode::REVOKED);
}

TEST_F(GrantsTest, UsesAreCountedOnceByWhomeverTheyAreRaced) {
  constexpr uint64_t USES = 40;
  auto here = open(), there = open();
  auto made = make(*here, here->owner(), "raced", USES);
  there->refresh();
  std::atomic<unsigned> succeeded{0}, refused{0};
  std::vector<std::thread> threads;
  for (auto& server : {here, there}) {
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&, server]() {
        auto grant = server->match(made.token);
        for (int k = 0; k < 10; ++k) {
          Status used = server->use(*grant);
          // On a busy machine the others may keep the shares for longer than one waits for them.
          while (codeOf(used) == ErrorCode::OVERLOADED) used = server->use(*grant);
          if (used.ok()) ++succeeded;
          if (codeOf(used) == ErrorCode::EXPIRED) ++refused;
        }
      });
    }
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(succeeded, USES);
  EXPECT_EQ(refused, 80 - USES);
  auto later = open();
  auto grant = later->match(made.token);
  EXPECT_EQ(later->infoOf(*grant).used, USES);
  Status used = later->use(*grant);
  ASSERT_FALSE(used.ok());
  EXPECT_THAT(used.error().message, HasSubstr("raced"));
}

TEST_F(GrantsTest, LastUsesAreWrittenInTheEnd) {
  auto grants = open();
  auto made = make(*grants, grants->owner());
  EXPECT_FALSE(grants->mustCount(*made.grant));
  ASSERT_TRUE(grants->use(*made.grant).ok());
  EXPECT_THAT(temp.read(fileOf(*made.grant)), HasSubstr("used 0\n")) << "no login waits for the disk";
  EXPECT_EQ(grants->infoOf(*made.grant).used, 1u);
  grants = nullptr;
  grants = open();
  auto info = grants->infoOf(*grants->match(made.token));
  EXPECT_EQ(info.used, 1u);
  EXPECT_GT(info.lastUsed, 0);
  EXPECT_EQ(info.lastUsed % 60'000'000'000, 0);
}

TEST_F(GrantsTest, UsesOfTwoServersAddUp) {
  auto here = open(), there = open();
  auto made = make(*here, here->owner());
  there->refresh();
  ASSERT_TRUE(here->use(*made.grant).ok());
  ASSERT_TRUE(there->use(*there->match(made.token)).ok());
  here->tidy();
  there->tidy();
  EXPECT_EQ(there->infoOf(*made.grant).used, 2u);
}

TEST_F(GrantsTest, ExpiresWithItsParentAtTheLatest) {
  auto grants = open();
  auto made = make(*grants, grants->owner(), "short", 0, 1);
  EXPECT_EQ(endOf(*made.grant), ErrorCode::EXPIRED);
  auto child = grants->make(made.grant, ShareTerms());
  ASSERT_FALSE(child.ok());
  EXPECT_EQ(child.error().code, ErrorCode::EXPIRED);
}

TEST_F(GrantsTest, EndedSharesAreListedForThirtyDaysAndThenRemoved) {
  auto grants = open();
  auto old = make(*grants, grants->owner(), "old");
  make(*grants, old.grant, "child of old");
  auto recent = make(*grants, grants->owner(), "recent");
  make(*grants, grants->owner(), "live");
  int64_t now = recent.grant->made;
  for (auto* made : {&old, &recent}) ASSERT_TRUE(revoke(*grants, *grants->owner(), made->grant->id).ok());
  grants->tidy();
  EXPECT_EQ(grants->list(*grants->owner()).size(), 4u);
  change(*old.grant, [&](ShareFile& file) { file.revoked = now - int64_t(ENDED_SHARE_TIME) - 60'000'000'000; });
  grants->refresh();
  grants->tidy();
  EXPECT_THAT(labels(*grants, *grants->owner()), ElementsAre("recent", "live"));
  EXPECT_EQ(grants->match(old.token), nullptr);
  EXPECT_THAT(labels(*open(), *grants->owner()), ElementsAre("recent", "live"));
}

TEST_F(GrantsTest, WhatHoldsNoShareOpensNothingAndStays) {
  Grants::Made damaged, good, orphan;
  {
    auto grants = open();
    good = make(*grants, grants->owner(), "good");
    damaged = make(*grants, grants->owner());
    orphan = make(*grants, damaged.grant);
  }
  std::string text = temp.read(fileOf(*damaged.grant));
  temp.write(fileOf(*damaged.grant), text.substr(0, text.size() / 2));
  temp.makeFolder("shares/abcdefgh");
  temp.link("shares/abcdefghi", temp / fileOf(*good.grant));
  temp.write("shares/README", "not a share");
  auto grants = open();
  EXPECT_THAT(labels(*grants, *grants->owner()), ElementsAre("good"));
  EXPECT_EQ(grants->match(damaged.token), nullptr);
  EXPECT_EQ(grants->match(orphan.token), nullptr);
  EXPECT_EQ(temp.read(fileOf(*damaged.grant)).size(), text.size() / 2);
}

TEST_F(GrantsTest, AShareWhoseFileIsRemovedOrDamagedEnds) {
  auto grants = open();
  auto removed = make(*grants, grants->owner()), damaged = make(*grants, grants->owner());
  grants->refresh();
  std::filesystem::remove(temp / fileOf(*removed.grant));
  temp.write("new", "no share");
  std::filesystem::rename(temp / "new", temp / fileOf(*damaged.grant));
  EXPECT_EQ(grants->refresh().size(), 2u);
  EXPECT_EQ(endOf(*removed.grant), ErrorCode::REVOKED);
  EXPECT_EQ(endOf(*damaged.grant), ErrorCode::REVOKED);
}

TEST_F(GrantsTest, WhatACrashLeftOfAWriteIsSweptAway) {
  open();
  temp.write("shares/abcdefghij.new", "half a");
  open();
  EXPECT_FALSE(std::filesystem::exists(temp / "shares/abcdefghij.new"));
}

TEST_F(GrantsTest, NoMoreSharesThanTheLimitAreLiveUnderOneGrant) {
  auto grants = open(3);
  auto first = make(*grants, grants->owner());
  make(*grants, first.grant);
  auto third = make(*grants, grants->owner());
  for (auto& parent : {grants->owner(), first.grant}) {
    auto refused = grants->make(parent, ShareTerms());
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::LIMIT);
  }
  ASSERT_TRUE(revoke(*grants, *grants->owner(), third.grant->id).ok());
  EXPECT_TRUE(grants->make(first.grant, ShareTerms()).ok());
}

TEST_F(GrantsTest, RevokedIsRevokedAlsoIfTheDiskDoesNotSayIt) {
  auto grants = open();
  auto made = make(*grants, grants->owner());
  temp.makeFolder("shares/" + made.grant->id + ".new/x");
  auto ended = revoke(*grants, *grants->owner(), made.grant->id);
  ASSERT_TRUE(ended.ok());
  EXPECT_FALSE(ended->stored.ok());
  EXPECT_EQ(ended->grants.size(), 1u);
  EXPECT_EQ(endOf(*made.grant), ErrorCode::REVOKED);
  std::filesystem::remove_all(temp / ("shares/" + made.grant->id + ".new"));
  auto again = revoke(*grants, *grants->owner(), made.grant->id);
  EXPECT_TRUE(again->stored.ok());
  EXPECT_EQ(endOf(*open()->match(made.token)), ErrorCode::REVOKED);
}

TEST(Grant, TellsOfTheEndOfWhatItWasMadeFromWithoutItsLabel) {
  auto owner = Grant::newOwner();
  ShareTerms terms;
  terms.label = "family";
  terms.expires = 1;
  auto upper = std::make_shared<Grant>("upper", owner, terms, 0);
  Grant lower("lower", upper, {}, 0);
  EXPECT_THAT(upper->endedAt(2)->message, HasSubstr("the share \"family\" has expired"));
  EXPECT_THAT(lower.endedAt(2)->message, HasSubstr("a share that it was made from has expired"));
}

TEST_F(GrantsTest, WhatAnotherServerRevokedIsToldByRefreshAlsoIfItWasNoticedBefore) {
  auto here = open(), there = open();
  auto first = make(*here, here->owner()), second = make(*here, here->owner());
  auto counted = make(*here, here->owner(), "counted", 5);
  there->refresh();
  ASSERT_TRUE(revoke(*here, *here->owner(), first.grant->id).ok());
  make(*there, there->owner());
  EXPECT_EQ(endOf(*there->match(first.token)), ErrorCode::REVOKED) << "noticed by making another";
  auto told = there->refresh();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0], there->match(first.token));
  ASSERT_TRUE(revoke(*here, *here->owner(), second.grant->id).ok());
  ASSERT_TRUE(there->use(*there->match(counted.token)).ok());
  told = there->refresh();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0], there->match(second.token));
  EXPECT_TRUE(there->refresh().empty()) << "told once";
}

TEST_F(GrantsTest, LoginsWithWhatWasMadeFromALimitedShareAreItsUsesToo) {
  auto grants = open();
  auto limited = make(*grants, grants->owner(), "limited", 3);
  auto child = make(*grants, limited.grant, "child"), grandchild = make(*grants, child.grant, "grandchild", 10);
  EXPECT_TRUE(grants->mustCount(*child.grant));
  EXPECT_TRUE(grants->use(*child.grant).ok());
  EXPECT_TRUE(grants->use(*grandchild.grant).ok());
  EXPECT_TRUE(grants->use(*limited.grant).ok());
  EXPECT_EQ(grants->infoOf(*limited.grant).used, 3u);
  EXPECT_EQ(grants->infoOf(*child.grant).used, 1u);
  EXPECT_EQ(grants->infoOf(*grandchild.grant).used, 1u);
  for (auto* each : {&limited, &child, &grandchild}) {
    Status used = grants->use(*each->grant);
    ASSERT_FALSE(used.ok());
    EXPECT_EQ(used.error().code, ErrorCode::EXPIRED);
    const char* told =
        each == &limited ? "the share \"limited\" was used 3 times" : "a share that it was made from was";
    EXPECT_THAT(used.error().message, HasSubstr(told)) << "its label is for its own holder";
    EXPECT_TRUE(grants->infoOf(*each->grant).isUsedUp);
  }
  auto later = open();
  EXPECT_EQ(codeOf(later->use(*later->match(grandchild.token))), ErrorCode::EXPIRED);
  EXPECT_EQ(later->infoOf(*later->match(grandchild.token)).used, 1u);
}

TEST_F(GrantsTest, AServerThatKeepsTheSharesLockedHangsNoOther) {
  auto grants = open();
  auto made = make(*grants, grants->owner(), "", 2), usedUp = make(*grants, grants->owner(), "", 1);
  ASSERT_TRUE(grants->use(*usedUp.grant).ok());
  kj::AutoCloseFd stopped(::open((temp / "shares/lock").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(flock(stopped, LOCK_EX), 0);
  EXPECT_EQ(codeOf(grants->use(*usedUp.grant)), ErrorCode::EXPIRED) << "known without the disk";
  EXPECT_EQ(codeOf(grants->use(*made.grant)), ErrorCode::OVERLOADED);
  auto another = grants->make(grants->owner(), ShareTerms());
  ASSERT_FALSE(another.ok());
  EXPECT_EQ(another.error().code, ErrorCode::OVERLOADED);
  auto ended = revoke(*grants, *grants->owner(), made.grant->id);
  ASSERT_TRUE(ended.ok());
  EXPECT_EQ(codeOf(ended->stored), ErrorCode::OVERLOADED);
  EXPECT_EQ(endOf(*made.grant), ErrorCode::REVOKED);
  ASSERT_EQ(flock(stopped, LOCK_UN), 0);
  grants->refresh();
  EXPECT_EQ(endOf(*open()->match(made.token)), ErrorCode::REVOKED) << "stored as soon as that could be";
}

TEST_F(GrantsTest, SharesThatEndAtOnceAreForgottenTheOldestFirst) {
  constexpr uint32_t LIMIT = 3;
  auto here = open(LIMIT), there = open(LIMIT);
  auto guests = make(*here, here->owner(), "guests");
  there->refresh();
  for (int i = 0; i < 10; ++i) {
    make(*here, guests.grant, std::to_string(i), 0, 1 + i);
    there->refresh();
  }
  EXPECT_THAT(labels(*here, *guests.grant), testing::UnorderedElementsAre("5", "6", "7", "8", "9"));
  EXPECT_EQ(there->list(*there->owner()).size(), 2 * LIMIT) << "another server forgets them too";
  EXPECT_EQ(endOf(*guests.grant), ErrorCode::UNSET);
  size_t files = 0;
  for (auto& entry : std::filesystem::directory_iterator(temp / "shares")) files += entry.path().filename() != "lock";
  EXPECT_EQ(files, 2 * LIMIT);
}

TEST_F(GrantsTest, AMissingFileEndsAShareOnlyWhenNobodyWrites) {
  auto grants = open();
  auto made = make(*grants, grants->owner());
  grants->refresh();
  kj::AutoCloseFd writer(::open((temp / "shares/lock").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(flock(writer, LOCK_EX), 0);
  std::filesystem::rename(temp / fileOf(*made.grant), temp / "aside");
  EXPECT_TRUE(grants->refresh().empty());
  EXPECT_EQ(endOf(*made.grant), ErrorCode::UNSET);
  std::filesystem::rename(temp / "aside", temp / fileOf(*made.grant));
  ASSERT_EQ(flock(writer, LOCK_UN), 0);
  EXPECT_TRUE(grants->refresh().empty());
  EXPECT_EQ(endOf(*made.grant), ErrorCode::UNSET);
}

}  // namespace
}  // namespace capstan::server
