#include <capstan/storage/replace.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include <capstan/storage/place-file.h>

#include "writing.h"

namespace capstan::server::files {
namespace {

// Another program that changes one file as editors do, without knowing of the server: by writing a new file and
// renaming it, or into the file that is there. Each edit holds a token of its own.
class Editor {
 public:
  explicit Editor(std::string path) : path(std::move(path)) {}

  static std::string token(int number) { return "edit " + std::to_string(number); }

  // What is in the file now is known to the editor: it is what the edit is made on.
  void replace(int number) {
    std::string temporary = path + ".editor";
    write(temporary, token(number), O_CREAT | O_TRUNC);
    KJ_SYSCALL(::rename(temporary.c_str(), path.c_str()));
  }
  bool rewrite(int number) {
    int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    kj::AutoCloseFd file(fd);
    std::string text = token(number);
    KJ_SYSCALL(ftruncate(fd, 0));
    KJ_ASSERT(writeAt(fd, text.data(), text.size(), 0));
    return true;
  }

 private:
  static void write(const std::string& to, const std::string& text, int flags) {
    kj::AutoCloseFd fd(::open(to.c_str(), O_WRONLY | O_CLOEXEC | flags, 0644));
    KJ_ASSERT(fd.get() >= 0 && writeAt(fd, text.data(), text.size(), 0));
  }
  std::string path;
};

// The editor makes one edit at some moment of the commit. Then either the commit saw it and was refused, and the edit
// is there; or the edit came after the commit, and is there as well. The one thing that may not be is a commit that
// succeeded and an edit that is gone.
class RaceTest : public ::testing::TestWithParam<bool> {
 public:
  ~RaceTest() noexcept override {}

 protected:
  // What is asked here has nothing to do with durability, and flushes would make it slow.
  class UnflushedDisk final : public Disk {
   public:
    int fsync(int) override { return 0; }
    int syncfs(int) override { return 0; }
  };

  // Of an editor that rewrites in place fewer: one whose open() has found the file but does not count as its writer
  // yet, at the very moment of the exchange, is not noticed (about one of 100,000 tries here; see ARCHITECTURE.md).
  const int TRIES = GetParam() ? 200 : 2000;
  TempFolder temp;
  kj::EventLoop loop;
  kj::WaitScope waitScope{loop};
  UnflushedDisk disk;
  std::unique_ptr<Root> root = std::move(Root::open(temp.path()).value());
  std::unique_ptr<Staging> staging = std::move(Staging::open(*root, 3600'000'000'000).value());
  std::unique_ptr<Committer> committer = std::make_unique<Committer>(*root, *staging, disk);

  std::unique_ptr<Mutation> file(const std::string& content, Version version) {
    auto staged = staging->create().value();
    KJ_ASSERT(writeAt(staged->fd(), content.data(), content.size(), 0));
    KJ_ASSERT(setStagedAttributes(*staged, {}).ok());
    return makePlaceFile(std::move(staged), {"file", is(std::move(version)), {}, false, false});
  }
};

INSTANTIATE_TEST_SUITE_P(Editor, RaceTest, ::testing::Values(false, true),
                         [](auto& info) { return info.param ? "ThatRewrites" : "ThatReplaces"; });

TEST_P(RaceTest, KeepsEveryEdit) {
  Editor editor(temp / "file");
  int conflicts = 0, commits = 0;
  std::atomic<int> go{-1}, done{-1};
  std::thread other([&]() {
    for (int i = 0; i < TRIES; ++i) {
      while (go.load() < i) sched_yield();
      for (int spin = 0; spin < (i * 37) % 400; ++spin) done.load();
      if (!GetParam() || !editor.rewrite(i)) editor.replace(i);
      done = i;
    }
  });
  for (int i = 0; i < TRIES; ++i) {
    temp.write("file", "base");
    auto mutation = file("ours", versionOf(temp.stat("file")));
    // Each sets out first as often as the other: how long a thread takes to wake is another on each machine.
    if (i % 2 == 0) {
      go = i;
      for (int spin = 0; spin < (i * 53) % 4000; ++spin) done.load();
    }
    auto commit = committer->submit(committer->takeTicket(this), std::move(mutation));
    go = i;
    auto answer = commit.wait(waitScope);
    while (done.load() < i) sched_yield();
    answer.ok() ? ++commits : ++conflicts;
    if (!answer.ok()) {
      EXPECT_EQ(answer.error().code, ErrorCode::CONFLICT) << answer.error().message;
    }
    EXPECT_EQ(temp.read("file"), Editor::token(i)) << "try " << i << (answer.ok() ? ", committed" : ", refused");
    if (HasFailure()) break;
  }
  go = TRIES;
  other.join();
  EXPECT_GT(conflicts, 0) << "the editor was always last: nothing was tried";
  EXPECT_GT(commits, 0) << "the editor was always first: nothing was tried";
}

TEST(Replace, PutsBackWhatCameOutIfItIsNotWhatWasExpected) {
  TempFolder temp;
  temp.write("staged", "ours");
  temp.write("file", "expected");
  struct stat expected = temp.stat("file");
  temp.write("newer", "theirs");
  ASSERT_EQ(::rename((temp / "newer").c_str(), (temp / "file").c_str()), 0);
  kj::AutoCloseFd folder(::open(temp.path().c_str(), O_RDONLY | O_DIRECTORY));
  Disk disk;
  std::string from = "staged", to = "file";
  auto moved = moveOverExpected({disk, folder, from, folder, to, to}, expected);
  ASSERT_FALSE(moved.ok());
  EXPECT_EQ(moved.error().code, ErrorCode::CONFLICT);
  EXPECT_EQ(temp.read("file"), "theirs");
  EXPECT_EQ(temp.read("staged"), "ours");
}

// A third program acts between each exchange and the next.
class MeddlingDisk final : public Disk {
 public:
  explicit MeddlingDisk(const TempFolder& temp) : temp(temp) {}
  int renameat2(int fromFolder, const char* from, int toFolder, const char* to, unsigned flags) override {
    int result = Disk::renameat2(fromFolder, from, toFolder, to, flags);
    if (result == 0 && edits > 0) {
      --edits;
      temp.write("newer", "edit " + std::to_string(edits));
      KJ_SYSCALL(::rename((temp / "newer").c_str(), (temp / "file").c_str()));
    }
    return result;
  }
  int edits = 0;

 private:
  const TempFolder& temp;
};

TEST(Replace, LeavesTheNewestThatOthersWroteHoweverOftenTheyDo) {
  for (int edits = 1; edits < 6; ++edits) {
    TempFolder temp;
    temp.write("staged", "ours");
    temp.write("file", "expected");
    struct stat expected = temp.stat("file");
    temp.write("newer", "changed before");
    ASSERT_EQ(::rename((temp / "newer").c_str(), (temp / "file").c_str()), 0);
    kj::AutoCloseFd folder(::open(temp.path().c_str(), O_RDONLY | O_DIRECTORY));
    MeddlingDisk disk(temp);
    disk.edits = edits;
    std::string from = "staged", to = "file";
    EXPECT_FALSE(moveOverExpected({disk, folder, from, folder, to, to}, expected).ok());
    EXPECT_EQ(temp.read("file"), "edit 0") << edits;
  }
}

TEST(Replace, DoesNotReplaceAFileThatAnotherProgramHasOpenForWriting) {
  TempFolder temp;
  temp.write("staged", "ours");
  temp.write("file", "expected");
  kj::AutoCloseFd folder(::open(temp.path().c_str(), O_RDONLY | O_DIRECTORY));
  Disk disk;
  std::string from = "staged", to = "file";
  {
    kj::AutoCloseFd writer(::open((temp / "file").c_str(), O_WRONLY));
    EXPECT_FALSE(moveOverExpected({disk, folder, from, folder, to, to}, temp.stat("file")).ok());
    ASSERT_TRUE(writeAt(writer, "late", 4, 0));
  }
  EXPECT_EQ(temp.read("file"), "latected");
  EXPECT_EQ(temp.read("staged"), "ours");
  kj::AutoCloseFd reader(::open((temp / "file").c_str(), O_RDONLY));
  EXPECT_TRUE(moveOverExpected({disk, folder, from, folder, to, to}, temp.stat("file")).ok());
  EXPECT_EQ(temp.read("file"), "ours");
}

// A file system without the flags of renameat2.
class PlainDisk final : public Disk {
 public:
  int renameat2(int fromFolder, const char* from, int toFolder, const char* to, unsigned flags) override {
    if (flags != 0) return errno = EINVAL, -1;
    return Disk::renameat2(fromFolder, from, toFolder, to, 0);
  }
};

TEST(Replace, WorksOnFileSystemsWithoutExchangeAndNoReplace) {
  TempFolder temp;
  temp.write("a", "1");
  temp.write("b", "2");
  temp.makeFolder("folder");
  kj::AutoCloseFd folder(::open(temp.path().c_str(), O_RDONLY | O_DIRECTORY));
  PlainDisk disk;
  std::string a = "a", b = "b", c = "c", d = "d", dir = "folder";
  EXPECT_EQ(moveToAbsent({disk, folder, a, folder, b, b}).error().code, ErrorCode::EXISTS);
  EXPECT_TRUE(moveToAbsent({disk, folder, a, folder, c, c}).ok());
  EXPECT_TRUE(moveToAbsent({disk, folder, dir, folder, d, d}).ok());
  struct stat seen = temp.stat("b");
  auto moved = moveOverExpected({disk, folder, c, folder, b, b}, seen);
  ASSERT_TRUE(moved.ok());
  EXPECT_EQ(*moved, Left::NOTHING);
  EXPECT_EQ(temp.read("b"), "1");
  temp.write("e", "3");
  std::string e = "e";
  EXPECT_EQ(moveOverExpected({disk, folder, e, folder, b, b}, seen).error().code, ErrorCode::CONFLICT);
}

}  // namespace
}  // namespace capstan::server::files
