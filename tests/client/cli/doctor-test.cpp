// What `capstan doctor` makes of numbers and files; what it finds on a real machine is in tests/e2e/doctor_test.py.
#include <sys/stat.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <capstan/client/cli/doctor-certificate.h>
#include <capstan/client/cli/doctor-clock.h>
#include <capstan/client/cli/doctor-disk.h>
#include <capstan/client/cli/doctor-files.h>
#include <capstan/client/cli/doctor-limits.h>
#include <capstan/client/cli/doctor-service.h>
#include <capstan/client/cli/doctor-share.h>

#include "../../storage/temp-folder.h"

namespace capstan::cli {
namespace {

using storage::TempFolder;
using testing::HasSubstr;
using State = Finding::State;

constexpr uint64_t KIB = 1024, GIB = uint64_t(1) << 30;
constexpr int64_t DAY = 86'400, NOW = 1'795'000'000;

// What is wrong comes with what to do, and what is right without.
void expectState(const Finding& finding, State state) {
  EXPECT_EQ(nameOf(finding.state), std::string(nameOf(state))) << finding.message;
  EXPECT_EQ(finding.advice.empty(), state == State::OK) << finding.message;
  EXPECT_FALSE(finding.message.empty());
}

TEST(DoctorDisk, WarnsWhereLittleRoomIsLeft) {
  struct {
    uint64_t free, total;
    State state;
  } cases[] = {
      {50 * GIB, 100 * GIB, State::OK},    {3 * GIB, 100 * GIB, State::WARNING},  // less than a twentieth
      {11 * GIB, 10'000 * GIB, State::OK},                                        // less than that, but much
      {GIB / 2, GIB, State::WARNING},      {63 << 20, 100 * GIB, State::PROBLEM}, {0, 100 * GIB, State::PROBLEM},
  };
  for (auto& each : cases) {
    expectState(judgeSpace("it", {.free = each.free, .total = each.total, .freeInodes = 0, .totalInodes = 0}),
                each.state);
  }
}

TEST(DoctorDisk, CountsInodesWhereTheyAreCounted) {
  auto judged = [](uint64_t free, uint64_t total) {
    return judgeSpace("it", {.free = 50 * GIB, .total = 100 * GIB, .freeInodes = free, .totalInodes = total});
  };
  expectState(judged(900'000, 1'000'000), State::OK);
  expectState(judged(40'000, 1'000'000), State::WARNING);
  expectState(judged(999, 1'000'000), State::PROBLEM);
  EXPECT_THAT(judged(999, 1'000'000).message, HasSubstr("inodes"));
  expectState(judged(0, 0), State::OK);
}

TEST(DoctorDisk, KnowsFileSystemsByTheirNumbers) {
  EXPECT_EQ(fileSystemOf(0xef53).kind, "ext4");
  EXPECT_EQ(fileSystemOf(0x9123683e).kind, "btrfs");
  EXPECT_TRUE(fileSystemOf(0x6969).isNetwork);
  EXPECT_TRUE(fileSystemOf(0x01021994).isMemory);
  EXPECT_EQ(fileSystemOf(0x1234).kind, "0x1234");
}

TEST(DoctorDisk, WarnsOfFileSystemsThatLackSomething) {
  FileSystem good{.kind = "ext4", .isNetwork = false, .isMemory = false, .exchanges = true, .unnamed = true};
  expectState(judgeFileSystem("it", good), State::OK);
  FileSystem unknown = fileSystemOf(0xef53);
  expectState(judgeFileSystem("it", unknown), State::OK);
  for (auto change :
       {+[](FileSystem& system) { system.isNetwork = true; }, +[](FileSystem& system) { system.isMemory = true; },
        +[](FileSystem& system) { system.exchanges = false; }, +[](FileSystem& system) { system.unnamed = false; }}) {
    FileSystem system = good;
    change(system);
    expectState(judgeFileSystem("it", system), State::WARNING);
  }
}

TEST(DoctorDisk, LeavesNothingInTheFolderThatItTries) {
  TempFolder folder;
  folder.makeFolder("root");
  Findings findings = lookAtRoot(folder / "root");
  ASSERT_EQ(findings.size(), 2u);
  EXPECT_NE(findings[1].state, State::PROBLEM);
  EXPECT_TRUE(std::filesystem::is_empty(folder / "root"));
  folder.makeFolder("root/.capstan");
  lookAtRoot(folder / "root");
  EXPECT_TRUE(std::filesystem::is_empty(folder / "root/.capstan"));
}

TEST(DoctorDisk, NamesARootThatIsMissing) {
  Findings findings = lookAtRoot("/no/such/folder");
  ASSERT_EQ(findings.size(), 1u);
  expectState(findings[0], State::PROBLEM);
  EXPECT_THAT(findings[0].message, HasSubstr("/no/such/folder"));
}

TEST(DoctorDisk, LooksForRoomWhereAFolderIsToBeMade) {
  TempFolder folder;
  EXPECT_THAT(lookAtRoomFor(folder / "not/there/yet").message, HasSubstr("are free for"));
}

TEST(DoctorLimits, WantsDescriptorsForManyConnections) {
  expectState(judgeOpenFiles(UINT64_MAX, "it"), State::OK);
  expectState(judgeOpenFiles(4096, "it"), State::OK);
  expectState(judgeOpenFiles(1024, "it"), State::WARNING);
  expectState(judgeOpenFiles(100, "it"), State::PROBLEM);
}

TEST(DoctorLimits, ReadsTheHardLimitOfAnotherProcess) {
  std::string head = "Limit  Soft Limit  Hard Limit  Units\nMax processes  1  2  processes\n";
  EXPECT_EQ(hardLimitIn(head + "Max open files            1024                 4096                 files     \n"),
            4096u);
  EXPECT_EQ(hardLimitIn(head + "Max open files            1024                 unlimited            files\n"),
            UINT64_MAX);
  EXPECT_EQ(hardLimitIn(head), std::nullopt);
  EXPECT_EQ(hardLimitIn("Max open files"), std::nullopt);
  EXPECT_EQ(hardLimitIn("Max open files 1024\nMax other 1 2"), std::nullopt);
}

TEST(DoctorLimits, TellsWhenInotifyIsExhausted) {
  auto judged = [](uint64_t instances, uint64_t watches) {
    return judgeInotify({.instances = instances, .maxInstances = 128, .watches = watches, .maxWatches = 64 * KIB});
  };
  expectState(judged(3, 100), State::OK);
  expectState(judged(128, 100), State::PROBLEM);
  EXPECT_THAT(judged(128, 100).advice, HasSubstr("max_user_instances"));
  expectState(judged(120, 100), State::WARNING);
  expectState(judged(3, 64 * KIB), State::PROBLEM);
  EXPECT_THAT(judged(3, 64 * KIB).advice, HasSubstr("max_user_watches=1048576"));
  expectState(judged(3, 60 * KIB), State::WARNING);
}

TEST(DoctorClock, KnowsThatTheProgramIsNotOfTheFuture) {
  expectState(judgeClock({.now = NOW, .programChanged = NOW - DAY, .isSynchronised = true, .serverChanged = NOW}),
              State::OK);
  expectState(judgeClock({.now = NOW, .programChanged = NOW + DAY / 2, .isSynchronised = {}, .serverChanged = {}}),
              State::OK);
  expectState(judgeClock({.now = NOW, .programChanged = NOW + 2 * DAY, .isSynchronised = true, .serverChanged = {}}),
              State::PROBLEM);
}

TEST(DoctorClock, WarnsWhereNothingKeepsItRightOrTheServersIsAhead) {
  expectState(judgeClock({.now = NOW, .programChanged = {}, .isSynchronised = false, .serverChanged = {}}),
              State::WARNING);
  Finding ahead = judgeClock({.now = NOW, .programChanged = {}, .isSynchronised = true, .serverChanged = NOW + 90});
  expectState(ahead, State::WARNING);
  EXPECT_THAT(ahead.message, HasSubstr("1:30"));
  expectState(judgeClock({.now = NOW, .programChanged = {}, .isSynchronised = true, .serverChanged = NOW + 2}),
              State::OK);
}

TEST(DoctorCertificate, WarnsBeforeItExpires) {
  auto judged = [](int64_t from, int64_t until) {
    rpc::CertificateFacts facts;
    facts.notBefore = NOW + from * DAY;
    facts.notAfter = NOW + until * DAY;
    return judgeCertificate(facts, NOW, "it", true);
  };
  expectState(judged(-1, 300), State::OK);
  expectState(judged(-300, 10), State::WARNING);
  expectState(judged(-300, 0), State::PROBLEM);
  expectState(judged(1, 300), State::PROBLEM);
  EXPECT_THAT(judged(-1, 300).message, HasSubstr("2027-"));
}

TEST(DoctorCertificate, LooksAtTheServersOwn) {
  TempFolder state;
  auto looked = [&]() { return lookAtCertificate(state.path(), {}, {}); };
  expectState(looked(), State::OK);
  ASSERT_TRUE(rpc::TlsIdentity::loadOrMake(state.path()).ok());
  expectState(looked(), State::OK);
  EXPECT_THAT(looked().message, HasSubstr("valid until"));
  std::string file = state / rpc::IDENTITY_FILE;
  KJ_SYSCALL(chmod(file.c_str(), 0640));
  expectState(looked(), State::PROBLEM);
  EXPECT_THAT(looked().advice, HasSubstr("chmod 600"));
  KJ_SYSCALL(chmod(file.c_str(), 0600));
  state.write(rpc::IDENTITY_FILE, "nothing");
  expectState(looked(), State::PROBLEM);
}

TEST(DoctorCertificate, FindsAKeyThatDoesNotFit) {
  TempFolder folder;
  auto one = rpc::TlsIdentity::make(), other = rpc::TlsIdentity::make();
  ASSERT_TRUE(one.ok() && other.ok());
  folder.write("cert.pem", one->certificate);
  folder.write("right.pem", one->key);
  folder.write("wrong.pem", other->key);
  for (auto& name : {"cert.pem", "right.pem", "wrong.pem"}) KJ_SYSCALL(chmod((folder / name).c_str(), 0600));
  expectState(lookAtCertificate("/none", folder / "cert.pem", folder / "right.pem"), State::OK);
  expectState(lookAtCertificate("/none", folder / "cert.pem", folder / "wrong.pem"), State::PROBLEM);
  expectState(lookAtCertificate("/none", folder / "none.pem", folder / "right.pem"), State::PROBLEM);
}

TEST(DoctorCertificate, LetsAGroupReadAKeyOfRoot) {
  if (geteuid() != 0) GTEST_SKIP() << "only root has files of root";
  TempFolder folder;
  auto made = rpc::TlsIdentity::make();
  ASSERT_TRUE(made.ok());
  folder.write("cert.pem", made->certificate);
  folder.write("key.pem", made->key);
  auto looked = [&](mode_t mode) {
    KJ_SYSCALL(chmod((folder / "key.pem").c_str(), mode));
    return lookAtCertificate("/none", folder / "cert.pem", folder / "key.pem");
  };
  expectState(looked(0640), State::OK);
  expectState(looked(0660), State::PROBLEM);
  expectState(looked(0644), State::PROBLEM);
}

TEST(DoctorFiles, WantsTheStateFolderToItsOwner) {
  TempFolder base;
  base.makeFolder("state");
  std::string folder = base / "state";
  for (auto [mode, state] : {std::pair{0700, State::OK}, {0750, State::WARNING}, {0777, State::PROBLEM}}) {
    KJ_SYSCALL(chmod(folder.c_str(), mode_t(mode)));
    expectState(lookAtState(folder), state);
  }
  expectState(lookAtState(base / "none"), State::OK);
  base.write("file", "");
  expectState(lookAtState(base / "file"), State::PROBLEM);
}

TEST(DoctorFiles, WantsTheTokenSecretAndWhole) {
  TempFolder state;
  expectState(lookAtOwnerToken(state.path()), State::OK);
  state.write("owner.token", std::string(64, 'a') + "\n");
  KJ_SYSCALL(chmod((state / "owner.token").c_str(), 0600));
  expectState(lookAtOwnerToken(state.path()), State::OK);
  KJ_SYSCALL(chmod((state / "owner.token").c_str(), 0604));
  expectState(lookAtOwnerToken(state.path()), State::PROBLEM);
  KJ_SYSCALL(chmod((state / "owner.token").c_str(), 0600));
  state.write("owner.token", std::string(63, 'b'));
  expectState(lookAtOwnerToken(state.path()), State::PROBLEM);
  EXPECT_EQ(lookAtOwnerToken(state.path()).message.find("bbb"), std::string::npos) << "no secrets in messages";
}

TEST(DoctorFiles, MissesASecretThatIsNeeded) {
  EXPECT_FALSE(lookAtSecret("token", "the token", "/no/such/file", geteuid(), false).has_value());
  auto missed = lookAtSecret("token", "the token", "/no/such/file", geteuid(), true);
  ASSERT_TRUE(missed.has_value());
  expectState(*missed, State::PROBLEM);
  TempFolder folder;
  folder.write("secret", "x");
  auto foreign = lookAtSecret("token", "the token", folder / "secret", geteuid() + 1, true);
  EXPECT_THAT(foreign->message, HasSubstr("another user"));
}

TEST(DoctorService, FindsTheUnitInTheGroupOfAProcess) {
  auto system = unitIn("0::/system.slice/capstan.service\n");
  ASSERT_TRUE(system.has_value());
  EXPECT_EQ(system->name, "capstan.service");
  EXPECT_FALSE(system->ofUser);
  auto user = unitIn("0::/user.slice/user-1000.slice/user@1000.service/app.slice/capstan.service\n");
  ASSERT_TRUE(user.has_value());
  EXPECT_TRUE(user->ofUser);
  auto old = unitIn("5:cpu:/x\n1:name=systemd:/system.slice/files.service\n0::/\n");
  ASSERT_TRUE(old.has_value());
  EXPECT_EQ(old->name, "files.service");
  auto within = unitIn("9:name=systemd:/\n0::/system.slice/files.service\n");
  ASSERT_TRUE(within.has_value());
  EXPECT_EQ(within->name, "files.service");
  for (auto& text : {"", "0::/", "0::/\n", "0::/user.slice/user-1000.slice/session-3.scope\n",
                     "0::/user.slice/user-1000.slice/user@1000.service/app.slice/term.scope\n", "5:cpu:/x\n"}) {
    EXPECT_FALSE(unitIn(text).has_value()) << text;
  }
}

TEST(DoctorService, WarnsOfAUsersServiceThatEndsWithTheSession) {
  expectState(judgeUnit({"capstan.service", true}, true, "me"), State::OK);
  expectState(judgeUnit({"capstan.service", false}, false, "me"), State::OK);
  Finding ends = judgeUnit({"capstan.service", true}, false, "me");
  expectState(ends, State::WARNING);
  EXPECT_THAT(ends.advice, HasSubstr("enable-linger me"));
}

TEST(DoctorFiles, FindsAFolderThatTheUserOfTheStateMayNotWriteInto) {
  if (geteuid() != 0) GTEST_SKIP() << "only root serves as somebody else";
  TempFolder state, served;
  constexpr uid_t SERVICE = 61'000, OTHER = 61'001;
  auto found = [&]() { return lookAtOwnerOf(served.path(), state.path()); };
  KJ_SYSCALL(chmod(served.path().c_str(), 0755));
  EXPECT_FALSE(found().has_value()) << "root serves it";
  KJ_SYSCALL(chown(state.path().c_str(), SERVICE, SERVICE));
  ASSERT_TRUE(found().has_value());
  expectState(*found(), State::WARNING);
  EXPECT_THAT(found()->message, HasSubstr("61000"));
  KJ_SYSCALL(chown(served.path().c_str(), OTHER, SERVICE));
  EXPECT_TRUE(found().has_value());
  KJ_SYSCALL(chmod(served.path().c_str(), 0775));
  EXPECT_FALSE(found().has_value()) << "by its group";
  KJ_SYSCALL(chown(served.path().c_str(), SERVICE, 0));
  KJ_SYSCALL(chmod(served.path().c_str(), 0700));
  EXPECT_FALSE(found().has_value());
  EXPECT_FALSE(lookAtOwnerOf("/no/such/folder", state.path()).has_value());
  EXPECT_EQ(geteuid(), 0u);
}

TEST(DoctorFiles, DoesNotMindWhatLeadsToTheServedFolder) {
  if (geteuid() != 0) GTEST_SKIP() << "only root serves as somebody else";
  TempFolder state;
  constexpr uid_t SERVICE = 61'000;
  // As systemd has it: /var/lib/private is root's alone.
  TempFolder hidden;
  std::string served = hidden.path() + "/files";
  KJ_SYSCALL(mkdir(served.c_str(), 0700));
  KJ_SYSCALL(chmod(hidden.path().c_str(), 0700));
  for (auto& each : {state.path(), served}) KJ_SYSCALL(chown(each.c_str(), SERVICE, SERVICE));
  EXPECT_FALSE(lookAtOwnerOf(served, state.path()).has_value());
}

client::Share shareWith(int64_t expires, uint64_t uses = 0, uint64_t used = 1) {
  client::Share share;
  share.id = "k3vq";
  share.label = "family";
  share.compute = true;
  share.expires = expires;
  share.uses = uses;
  share.used = used;
  share.state = client::ShareState::LIVE;
  return share;
}

TEST(DoctorShare, TellsWhatTheShareIs) {
  constexpr int64_t SECOND = 1'000'000'000;
  Finding endless = judgeShare(shareWith(0), NOW * SECOND);
  expectState(endless, State::OK);
  EXPECT_THAT(endless.message, HasSubstr("\"family\" is read-only, no end"));
  client::Share other = shareWith(0);
  other.label = "a\nb";
  other.write = true;
  other.compute = false;
  EXPECT_THAT(judgeShare(other, NOW * SECOND).message, HasSubstr("\"a\\nb\" is read-write, no compute"));
  other.label.clear();
  EXPECT_THAT(judgeShare(other, NOW * SECOND).message, HasSubstr("k3vq"));
}

TEST(DoctorShare, WarnsWhereItsEndIsNear) {
  constexpr int64_t SECOND = 1'000'000'000;
  struct {
    int64_t seconds;
    State state;
    const char* in;
  } cases[] = {{8 * DAY, State::OK, "in 8 days"},          {7 * DAY, State::OK, "in 7 days"},
               {7 * DAY - 1, State::WARNING, "in 7 days"}, {DAY, State::WARNING, "in 1 day"},
               {60, State::WARNING, "in less than a day"}, {-60, State::WARNING, "in less than a day"}};
  for (auto& each : cases) {
    Finding found = judgeShare(shareWith((NOW + each.seconds) * SECOND), NOW * SECOND);
    expectState(found, each.state);
    EXPECT_THAT(found.message, HasSubstr(each.in));
  }
}

TEST(DoctorShare, SaysThatTheLookWasALoginWhereTheyAreCounted) {
  Finding left = judgeShare(shareWith(0, 3, 1), NOW);
  expectState(left, State::OK);
  EXPECT_THAT(left.message, HasSubstr("this look took one of its 3 logins, 2 are left"));
  EXPECT_THAT(judgeShare(shareWith(0, 3, 2), NOW).message, HasSubstr("1 is left"));
  Finding last = judgeShare(shareWith(0, 1, 1), NOW);
  expectState(last, State::WARNING);
  EXPECT_THAT(last.message, HasSubstr("one of its 1 login, the last"));
  EXPECT_THAT(judgeShare(shareWith(0), NOW).message, testing::Not(HasSubstr("this look")));
}

TEST(DoctorShare, SaysWhatToDoWhenItHasEnded) {
  Finding ended = judgeEndedShare({ErrorCode::REVOKED, "the share \"family\" was revoked; ask for another", {}});
  expectState(ended, State::PROBLEM);
  EXPECT_EQ(ended.message, "the share \"family\" was revoked");
  EXPECT_THAT(ended.advice, HasSubstr("new one"));
}

}  // namespace
}  // namespace capstan::cli
