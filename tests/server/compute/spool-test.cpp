#include <capstan/server/compute/spool.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include <gmock/gmock.h>

#include <capstan/base/file.h>

#include "spool-folder.h"

namespace capstan::server::compute {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

using SpoolFiles = SpoolFolder;

std::string contentOf(const SpoolFile& file) {
  std::string content(file.size(), '\0');
  EXPECT_EQ(file.readAt(0, content.data(), content.size()).value(), content.size());
  return content;
}

TEST_F(SpoolFiles, GiveBackWhatWasWritten) {
  auto file = spool->newFile(nullptr).value();
  ASSERT_TRUE(file->append("abc").ok());
  ASSERT_TRUE(file->append("").ok());
  ASSERT_TRUE(file->append("defg").ok());
  EXPECT_EQ(file->size(), 7u);
  EXPECT_EQ(contentOf(*file), "abcdefg");
  char buffer[16];
  EXPECT_EQ(*file->readAt(5, buffer, sizeof(buffer)), 2u);
  EXPECT_EQ(std::string_view(buffer, 2), "fg");
  EXPECT_EQ(*file->readAt(2, buffer, 3), 3u);
  EXPECT_EQ(std::string_view(buffer, 3), "cde");
  EXPECT_EQ(*file->readAt(7, buffer, 1), 0u);
  EXPECT_EQ(*file->readAt(UINT64_MAX, buffer, 1), 0u);
}

TEST_F(SpoolFiles, HaveNoNameUnlessTheyAreGivenOne) {
  auto file = spool->newFile(nullptr).value();
  ASSERT_TRUE(file->append("secret").ok());
  EXPECT_EQ(filesInFolder(), 0);
  EXPECT_TRUE(spool->names().value().empty());
}

TEST_F(SpoolFiles, WorkWithoutTmpfileToo) {
  auto old = Spool::open(folder, false).value();
  auto file = old->newFile(nullptr).value();
  ASSERT_TRUE(file->append("secret").ok());
  EXPECT_EQ(contentOf(*file), "secret");
  EXPECT_EQ(filesInFolder(), 0) << "unlinked at once";
}

TEST_F(SpoolFiles, LiveOnWithoutTheirSpool) {
  auto file = spool->newFile(nullptr).value();
  spool = nullptr;
  ASSERT_TRUE(file->append("still here").ok());
  EXPECT_EQ(contentOf(*file), "still here");
}

TEST_F(SpoolFiles, WithANameAreForTheirOwnerOnlyAndAreFoundAgain) {
  auto file = spool->newFile("job-1", nullptr).value();
  ASSERT_TRUE(file->append("result").ok());
  ASSERT_TRUE(file->flush().ok());
  ASSERT_TRUE(spool->flushFolder().ok());
  struct stat status;
  ASSERT_EQ(stat((folder + "/job-1").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);

  EXPECT_EQ(spool->newFile("job-1", nullptr).error().code, ErrorCode::EXISTS);
  ASSERT_TRUE(spool->newFile("job-2", nullptr).ok());
  EXPECT_THAT(spool->names().value(), UnorderedElementsAre("job-1", "job-2"));

  auto again = spool->openFile("job-1").value();
  EXPECT_EQ(again->size(), 6u);
  EXPECT_EQ(contentOf(*again), "result");

  EXPECT_TRUE(spool->removeFile("job-1").ok());
  EXPECT_TRUE(spool->removeFile("job-1").ok()) << "that it is not there is no error";
  EXPECT_THAT(spool->names().value(), UnorderedElementsAre("job-2"));
  EXPECT_EQ(spool->openFile("job-1").error().code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(contentOf(*again), "result") << "who has it open keeps it";
}

TEST_F(SpoolFiles, AreNeverReachedThroughLinksPipesOrPaths) {
  ASSERT_TRUE(writeFileAtomically(folder + "/target", "x", 0600).ok());
  ASSERT_EQ(symlink("target", (folder + "/link").c_str()), 0);
  ASSERT_EQ(symlink("nowhere", (folder + "/dangling").c_str()), 0);
  ASSERT_EQ(mkfifo((folder + "/pipe").c_str(), 0600), 0);
  EXPECT_FALSE(spool->openFile("link").ok());
  EXPECT_EQ(spool->newFile("dangling", nullptr).error().code, ErrorCode::EXISTS);
  EXPECT_FALSE(std::filesystem::exists(folder + "/nowhere"));
  EXPECT_EQ(spool->openFile("pipe").error().code, ErrorCode::CORRUPT);
  for (const char* name : {"", ".", "..", "a/b", "/etc/passwd"}) {
    EXPECT_ANY_THROW(spool->openFile(name).ok()) << name;
    EXPECT_ANY_THROW(spool->newFile(name, nullptr).ok()) << name;
    EXPECT_ANY_THROW(spool->removeFile(name).ok()) << name;
  }
}

TEST_F(SpoolFiles, NeedAFolder) {
  EXPECT_EQ(Spool::open(folder + "/none").error().code, ErrorCode::NOT_FOUND);
  ASSERT_TRUE(writeFileAtomically(folder + "/file", "x", 0600).ok());
  EXPECT_EQ(Spool::open(folder + "/file").error().code, ErrorCode::NOT_DIRECTORY);
}

TEST_F(SpoolFiles, AreChargedAheadSettledAndReleased) {
  auto account = std::make_shared<SpoolAccount>(10 << 20);
  {
    auto file = spool->newFile(account).value();
    EXPECT_EQ(account->used, 0u);
    ASSERT_TRUE(file->append("x").ok());
    EXPECT_EQ(account->used, 1u << 20) << "in steps, not for each append";
    ASSERT_TRUE(file->append(std::string((1 << 20) - 1, 'x')).ok());
    EXPECT_EQ(account->used, 1u << 20);
    ASSERT_TRUE(file->append(std::string(3 << 20, 'x')).ok());
    EXPECT_EQ(account->used, 4u << 20);
    ASSERT_TRUE(file->append("x").ok());
    EXPECT_EQ(account->used, 5u << 20);
    file->settle();
    EXPECT_EQ(account->used, (4u << 20) + 1);
    ASSERT_TRUE(file->append("xy").ok());
    file->settle();
    EXPECT_EQ(account->used, (4u << 20) + 3);
  }
  EXPECT_EQ(account->used, 0u);
}

TEST_F(SpoolFiles, EndAtTheirAccountsLimitToTheByte) {
  auto account = std::make_shared<SpoolAccount>(1536 << 10);
  auto file = spool->newFile(account).value();
  auto other = spool->newFile(account).value();
  ASSERT_TRUE(file->append(std::string(1 << 20, 'a')).ok());
  ASSERT_TRUE(other->append(std::string((512 << 10) - 2, 'b')).ok()) << "less than a step is left";
  ASSERT_TRUE(file->append("cd").ok());
  Status full = file->append("e");
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().code, ErrorCode::QUOTA);
  EXPECT_THAT(full.error().message, HasSubstr("1.5 MiB"));
  EXPECT_EQ(file->size(), (1u << 20) + 2) << "nothing was added";
  EXPECT_EQ(account->used, account->limit);
  other = nullptr;
  EXPECT_TRUE(file->append("e").ok()) << "there is room again";
  EXPECT_EQ(contentOf(*file).substr(1 << 20), "cde");
}

TEST_F(SpoolFiles, SayWhenTheDiskIsFull) {
  kj::AutoCloseFd full(open("/dev/full", O_RDWR | O_CLOEXEC));
  SpoolFile file(kj::mv(full), nullptr);
  Status status = file.append("x");
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::NO_SPACE);
  EXPECT_EQ(file.size(), 0u);
}

TEST_F(SpoolFiles, AppendAllOrNothing) {
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  auto handler = signal(SIGXFSZ, SIG_IGN);
  rlimit tight{100, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  auto file = spool->newFile(nullptr).value();
  EXPECT_TRUE(file->append(std::string(90, 'a')).ok());
  Status status = file->append(std::string(20, 'b'));
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::TOO_LARGE);
  EXPECT_EQ(file->size(), 90u);
  char buffer[200];
  EXPECT_EQ(file->readAt(0, buffer, sizeof(buffer)).value(), 90u) << "not the half that was written";
  ASSERT_TRUE(file->append("c").ok());
  EXPECT_EQ(contentOf(*file), std::string(90, 'a') + "c");
}

TEST(SpoolAccounts, NeverGiveMoreThanTheirLimitToManyThreads) {
  SpoolAccount account(1000);
  std::atomic<uint64_t> got{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&account, &got]() {
      for (int i = 0; i < 1000; ++i) {
        if (account.charge(7)) got += 7;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(got, 994u);
  EXPECT_EQ(account.used, 994u);
  EXPECT_FALSE(account.charge(UINT64_MAX)) << "without overflow";
  EXPECT_TRUE(account.charge(6));
  EXPECT_FALSE(account.charge(1));
  EXPECT_TRUE(account.charge(0));
}

}  // namespace
}  // namespace capstan::server::compute
