#include <capstan/storage/committer.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <mutex>

#include <capstan/storage/mutations.h>
#include <capstan/storage/place-file.h>

#include "writing.h"

namespace capstan::server::files {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Records what is flushed and renamed, by name, and fails when told to. Used by the committer's thread; looked at when
// it has answered.
class RecordingDisk final : public Disk {
 public:
  int fsync(int fd) override {
    note("fsync " + nameOf(fd));
    if (failing != 0) return errno = failing, -1;
    return Disk::fsync(fd);
  }
  int syncfs(int fd) override {
    note("syncfs");
    if (failing != 0) return errno = failing, -1;
    return Disk::syncfs(fd);
  }
  int renameat2(int fromFolder, const char* from, int toFolder, const char* to, unsigned flags) override {
    note(std::string("rename to ") + to);
    return Disk::renameat2(fromFolder, from, toFolder, to, flags);
  }

  std::vector<std::string> trace() {
    std::lock_guard lock(mutex);
    return std::exchange(calls, {});
  }
  std::atomic<int> failing{0};
  kj::Maybe<std::shared_future<void>> gate;  // the first call waits for it...
  std::promise<void> reached;                // ...and says here that it does

 private:
  static std::string nameOf(int fd) {
    char name[4096];
    ssize_t length = readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), name, sizeof(name));
    std::string path(name, size_t(std::max<ssize_t>(length, 0)));
    if (path.find("/.capstan/staging/") != std::string::npos) return "content";
    return path.substr(path.rfind('/') + 1);
  }
  void note(std::string call) {
    KJ_IF_MAYBE (wait, gate) {
      if (!reachedBefore.exchange(true)) reached.set_value();
      wait->wait();
    }
    std::lock_guard lock(mutex);
    calls.push_back(std::move(call));
  }

  std::atomic<bool> reachedBefore{false};
  std::mutex mutex;
  std::vector<std::string> calls;
};

class CommitterTest : public ::testing::Test {
 public:
  ~CommitterTest() noexcept override {}

 protected:
  TempFolder temp;
  kj::EventLoop loop;
  kj::WaitScope waitScope{loop};
  RecordingDisk disk;
  std::unique_ptr<Root> root = std::move(Root::open(temp.path()).value());
  std::unique_ptr<Staging> staging = std::move(Staging::open(*root, 3600'000'000'000).value());
  std::unique_ptr<Committer> committer = std::make_unique<Committer>(*root, *staging, disk);
  int connection = 0, other = 0;

  std::unique_ptr<Mutation> file(const std::string& path, const std::string& content = "x") {
    auto staged = staging->create().value();
    KJ_ASSERT(writeAt(staged->fd(), content.data(), content.size(), 0));
    KJ_ASSERT(setStagedAttributes(*staged, {}).ok());
    staged->closeFd();
    return makePlaceFile(std::move(staged), {path, {}, {}, true, false});
  }
  kj::Promise<Result<Entry>> submit(const std::string& path, const void* from) {
    return committer->submit(committer->takeTicket(from), file(path));
  }
  static ErrorCode codeOf(const Result<Entry>& result) { return result.ok() ? ErrorCode::UNSET : result.error().code; }
};

TEST_F(CommitterTest, FlushesContentBeforeTheRenameAndTheFolderAfterIt) {
  temp.makeFolder("folder");
  auto entry = submit("folder/file", &connection).wait(waitScope);
  ASSERT_TRUE(entry.ok()) << entry.error().message;
  EXPECT_EQ(entry->version, versionOf(temp.stat("folder/file")));
  EXPECT_THAT(disk.trace(), ElementsAre("fsync content", "rename to file", "fsync folder"));
  EXPECT_EQ(committer->figures().commits, 1u);
  EXPECT_EQ(committer->figures().flushes, 2u);
}

TEST_F(CommitterTest, FlushesEveryFolderThatItMadeOnTheWay) {
  temp.makeFolder("a");
  ASSERT_TRUE(submit("a/b/c/file", &connection).wait(waitScope).ok());
  auto trace = disk.trace();
  auto at = [&](const std::string& call) { return std::find(trace.begin(), trace.end(), call) - trace.begin(); };
  EXPECT_LT(at("fsync content"), at("rename to file"));
  for (auto folder : {"fsync a", "fsync b", "fsync c"}) {
    EXPECT_LT(at("rename to file"), at(folder));
    EXPECT_LT(at(folder), ptrdiff_t(trace.size())) << folder;
  }
}

TEST_F(CommitterTest, FlushesBothFoldersOfARename) {
  temp.write("from/a", "1");
  temp.makeFolder("to");
  auto renamed = committer->submit(committer->takeTicket(&connection), makeRename({"from/a", "to/b", {}, {}, false}));
  ASSERT_TRUE(renamed.wait(waitScope).ok());
  EXPECT_THAT(disk.trace(), ElementsAre("rename to b", "fsync to", "fsync from"));
}

TEST_F(CommitterTest, FlushesThePlaceOfARemovalAndWhatMetadataChanged) {
  temp.write("folder/a", "1");
  auto set = committer->submit(committer->takeTicket(&connection), makeSetMetadata("folder/a", {0600, {}}, {}));
  ASSERT_TRUE(set.wait(waitScope).ok());
  EXPECT_THAT(disk.trace(), ElementsAre("fsync a"));
  auto removed = committer->submit(committer->takeTicket(&connection), makeRemove("folder/a", false, {}));
  ASSERT_TRUE(removed.wait(waitScope).ok());
  EXPECT_THAT(disk.trace(), ElementsAre("fsync folder"));
}

TEST_F(CommitterTest, MakesAThousandCommitsInFlightDurableWithAHandfulOfFlushes) {
  if (!syncfsIsTrusted(root->fd())) GTEST_SKIP() << "syncfs is not trusted on the file system of the test";
  std::promise<void> open;
  disk.gate = std::shared_future<void>(open.get_future());
  auto first = submit("first", &other);
  disk.reached.get_future().wait();  // the first round has begun; all others go into the next
  kj::Vector<kj::Promise<Result<Entry>>> commits;
  for (int i = 0; i < 1000; ++i)
    commits.add(submit("d" + std::to_string(i % 20) + "/f" + std::to_string(i), &connection));
  open.set_value();
  EXPECT_TRUE(first.wait(waitScope).ok());
  for (auto& commit : commits) ASSERT_TRUE(commit.wait(waitScope).ok());
  auto figures = committer->figures();
  EXPECT_EQ(figures.commits, 1001u);
  EXPECT_LE(figures.flushes, 12u);
  EXPECT_EQ(disk.trace().back(), "syncfs");
}

TEST_F(CommitterTest, GivesAFileTheModeOfANewOneWhenWhatItReplacesGoesInTheSameRound) {
  temp.write("file", "old");
  ASSERT_EQ(chmod((temp / "file").c_str(), 0400), 0);
  mode_t newMode = staging->newFileMode();
  std::promise<void> open;
  disk.gate = std::shared_future<void>(open.get_future());
  auto first = submit("first", &other);
  disk.reached.get_future().wait();
  auto removed = committer->submit(committer->takeTicket(&connection), makeRemove("file", false, {}));
  auto stored = submit("file", &connection);
  open.set_value();
  EXPECT_TRUE(first.wait(waitScope).ok());
  EXPECT_TRUE(removed.wait(waitScope).ok());
  auto entry = stored.wait(waitScope);
  ASSERT_TRUE(entry.ok());
  EXPECT_EQ(entry->mode, newMode);
}

TEST_F(CommitterTest, AppliesInTheOrderOfTicketsOfAConnectionAndMakesNobodyElseWait) {
  auto early = committer->takeTicket(&connection);
  auto late = submit("file", &connection);
  EXPECT_TRUE(committer->hasPending(&connection));
  EXPECT_TRUE(submit("others", &other).wait(waitScope).ok());
  EXPECT_FALSE(late.poll(waitScope));
  EXPECT_FALSE(std::filesystem::exists(temp / "file"));
  auto before = committer->submit(kj::mv(early), file("file", "early"));
  ASSERT_TRUE(before.wait(waitScope).ok());
  ASSERT_TRUE(late.wait(waitScope).ok());
  EXPECT_EQ(temp.read("file"), "x");
  EXPECT_FALSE(committer->hasPending(&connection));
}

TEST_F(CommitterTest, GoesOnWhenATicketIsGivenUp) {
  auto given = std::make_unique<Committer::Ticket>(committer->takeTicket(&connection));
  auto next = committer->takeTicket(&connection);
  auto turn = committer->turnOf(next);
  EXPECT_FALSE(turn.poll(waitScope));
  given = nullptr;
  turn.wait(waitScope);
  EXPECT_TRUE(committer->submit(kj::mv(next), file("file")).wait(waitScope).ok());
}

TEST_F(CommitterTest, AnswersAFlushThatFailedAndChangesNothing) {
  disk.failing = EIO;
  EXPECT_EQ(codeOf(submit("a", &connection).wait(waitScope)), ErrorCode::IO);
  disk.failing = ENOSPC;
  EXPECT_EQ(codeOf(submit("b", &connection).wait(waitScope)), ErrorCode::NO_SPACE);
  EXPECT_FALSE(std::filesystem::exists(temp / "a"));
  EXPECT_FALSE(std::filesystem::exists(temp / "b"));
  EXPECT_EQ(committer->figures().commits, 0u);
  disk.failing = 0;
  EXPECT_TRUE(submit("a", &connection).wait(waitScope).ok());
}

TEST_F(CommitterTest, NeverCallsAChangeDurableWhenItsFolderCouldNotBeFlushed) {
  disk.failing = EIO;
  auto made = committer->submit(committer->takeTicket(&connection), makeMakeDirectory("a", {}, false)).wait(waitScope);
  ASSERT_EQ(codeOf(made), ErrorCode::IO);
  EXPECT_THAT(made.error().message, HasSubstr("could not be made durable"));
}

TEST_F(CommitterTest, FinishesWhatHasBegunAndRefusesTheRest) {
  std::promise<void> open;
  disk.gate = std::shared_future<void>(open.get_future());
  auto begun = submit("begun", &connection);
  auto never = committer->takeTicket(&connection);
  auto blocked = submit("blocked", &connection);
  std::thread ending([this]() { committer.reset(); });
  open.set_value();
  ending.join();
  auto result = begun.wait(waitScope);
  EXPECT_TRUE(result.ok() || codeOf(result) == ErrorCode::SHUTTING_DOWN);
  EXPECT_EQ(result.ok(), std::filesystem::exists(temp / "begun"));
  EXPECT_EQ(codeOf(blocked.wait(waitScope)), ErrorCode::SHUTTING_DOWN);
  EXPECT_FALSE(std::filesystem::exists(temp / "blocked"));
}

}  // namespace
}  // namespace capstan::server::files
