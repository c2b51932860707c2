// Changes to the local folder: each only if what is there is what was seen, and what is displaced is kept.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <kj/io.h>

#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/sync/cut.h>

#include "replica-fixture.h"

namespace capstan::sync {
namespace {

namespace fs = std::filesystem;
using Kind = Operation::Kind;

class LocalApplyTest : public ReplicaTest {
 protected:
  void setTime(const std::string& name, int64_t mtime) {
    timespec times[2] = {{0, UTIME_OMIT}, toTimespec(mtime)};
    ASSERT_EQ(utimensat(AT_FDCWD, path(name).c_str(), times, AT_SYMLINK_NOFOLLOW), 0);
  }
  struct stat statOf(const std::string& name) {
    struct stat status {};
    EXPECT_EQ(lstat(path(name).c_str(), &status), 0) << name;
    return status;
  }
  // Another process began with it, and was killed after the first half. Answers how much it had read.
  uint64_t breakOff(const Operation& large) {
    uint64_t moved = 0;
    auto never = kj::newPromiseAndFulfiller<void>();
    auto reached = kj::newPromiseAndFulfiller<void>();
    options.onMoved = [&](const Operation&, uint64_t bytes) { moved += bytes; };
    options.pace = [&](uint64_t) -> kj::Promise<void> {
      if (moved < large.node.size / 2) return kj::READY_NOW;
      reached.fulfiller->fulfill();
      return kj::mv(never.promise);
    };
    {
      auto broken = tree().apply({large}, from(), options).eagerlyEvaluate(nullptr);
      reached.promise.wait(world.waitScope);
    }
    EXPECT_FALSE(fs::exists(path("tree/a")));
    treeOwn = nullptr;
    options.onMoved = {};
    options.pace = {};
    return moved;
  }
  // The node that was answered is what a look finds.
  void expectTold(const Result<Replica::Done>& result, const std::string& name) {
    ASSERT_TRUE(result.ok()) << result.error().message;
    ASSERT_TRUE(result->node);
    auto found = nodeAt(tree(), name);
    ASSERT_TRUE(found);
    // Of a folder stamp and time are others whenever something is made in it.
    bool isFolder = found->type == EntryType::DIRECTORY;
    EXPECT_TRUE(isFolder || result->node->stamp == found->stamp);
    EXPECT_TRUE(isFolder || result->node->mtime == found->mtime);
    EXPECT_EQ(result->node->type, found->type);
    EXPECT_EQ(result->node->identity, found->identity);
    EXPECT_EQ(result->node->target, found->target);
    EXPECT_EQ(result->node->size, found->size);
    EXPECT_EQ(result->node->mode, found->mode);
  }
};

TEST_F(LocalApplyTest, MakesFoldersFilesAndSymlinksInOrder) {
  write("from/a/b", "content");
  chmod(path("from/a/b").c_str(), 04640);
  setTime("from/a/b", 1'600'000'000'123'456'789);
  Operation link = operation(Kind::MAKE_SYMLINK, "a/link");
  link.node.type = EntryType::SYMLINK;
  link.node.target = "b";
  link.node.mtime = 1'500'000'000'000'000'001;
  auto results = apply({makeFolder("a", 0750), put("a/b"), link});
  ASSERT_EQ(results.size(), 3u);
  expectTold(results[0], "a");
  expectTold(results[1], "a/b");
  expectTold(results[2], "a/link");
  EXPECT_EQ(read("tree/a/b"), "content");
  EXPECT_EQ(statOf("tree/a").st_mode & 07777, 0750u);
  EXPECT_EQ(statOf("tree/a/b").st_mode & 07777, 0640u);
  EXPECT_EQ(toNanoseconds(statOf("tree/a/b").st_mtim), 1'600'000'000'123'456'789);
  EXPECT_EQ(toNanoseconds(statOf("tree/a/link").st_mtim), 1'500'000'000'000'000'001);
  EXPECT_EQ(results[1]->node->digest, digestOf(DigestAlgorithm::XXH3, "content"));
  EXPECT_TRUE(results[1]->node->settled);
  EXPECT_EQ(results[1]->source->stamp, nodeAt(from(), "a/b")->stamp);
}

TEST_F(LocalApplyTest, WhatIsDisplacedIsInTheTrash) {
  write("tree/a", "old content of a");
  write("tree/b", "old content of b");
  write("from/a", "new");
  auto results = apply({put("a"), remove("b")});
  EXPECT_TRUE(results[0].ok());
  EXPECT_TRUE(results[1].ok() && !results[1]->node);
  EXPECT_EQ(read("tree/a"), "new");
  EXPECT_FALSE(fs::exists(path("tree/b")));
  EXPECT_EQ(inTrash("old content of a"), 1u);
  EXPECT_EQ(inTrash("old content of b"), 1u);
}

TEST_F(LocalApplyTest, AnEditInBetweenSurvives) {
  for (const char* name : {"a", "b", "c", "d"}) write(std::string("tree/") + name, "seen");
  write("from/a", "new");
  write("from/n", "new");
  fs::create_directory(path("tree/folder"));
  Operation move = operation(Kind::MOVE, "c2", "c");
  move.sourceNode = nodeAt(tree(), "c");
  Operation mode = operation(Kind::SET_METADATA, "d");
  mode.node = *mode.expected;
  mode.node.mode = 0600;
  std::vector<Operation> operations = {put("a"), remove("b"), move, mode, put("n"), remove("folder")};
  for (const char* name : {"a", "b", "c", "d", "n"}) write(std::string("tree/") + name, "edited meanwhile");
  write("tree/folder/x", "made meanwhile");
  auto results = apply(operations);
  for (size_t i = 0; i < 4; ++i) expectError(results[i], ErrorCode::CONFLICT);
  expectError(results[4], ErrorCode::EXISTS);
  expectError(results[5], ErrorCode::NOT_EMPTY);
  for (const char* name : {"a", "b", "c", "d", "n"}) EXPECT_EQ(read(std::string("tree/") + name), "edited meanwhile");
  EXPECT_EQ(read("tree/folder/x"), "made meanwhile");
}

TEST_F(LocalApplyTest, AFolderThatBecameAFileIsNotRemovedAsOne) {
  fs::create_directory(path("tree/folder"));
  Operation gone = remove("folder");
  fs::remove(path("tree/folder"));
  write("tree/folder", "a file");
  expectError(apply({gone})[0], ErrorCode::CONFLICT);
  EXPECT_EQ(read("tree/folder"), "a file");
}

TEST_F(LocalApplyTest, RemovesAFolderAfterWhatIsInIt) {
  write("tree/a/b/c", "x");
  auto results = apply({remove("a/b/c"), remove("a/b"), remove("a")});
  for (auto& result : results) EXPECT_TRUE(result.ok()) << result.error().message;
  EXPECT_FALSE(fs::exists(path("tree/a")));
}

TEST_F(LocalApplyTest, MovesAFolderThatWasChangedWithin) {
  write("tree/a/b", "x");
  Operation move = operation(Kind::MOVE, "c", "a");
  move.sourceNode = nodeAt(tree(), "a");
  write("tree/a/d", "made meanwhile");
  auto results = apply({move});
  expectTold(results[0], "c");
  EXPECT_EQ(read("tree/c/b"), "x");
  EXPECT_EQ(read("tree/c/d"), "made meanwhile");
}

TEST_F(LocalApplyTest, CopiesWhatIsHereAlready) {
  std::string content = randomContent(700'000);
  write("tree/a", content);
  Operation copy = operation(Kind::COPY, "b", "a");
  copy.sourceNode = nodeAt(tree(), "a");
  copy.node = *copy.sourceNode;
  copy.node.mtime = 1'600'000'000'000'000'001;
  copy.node.mode = 0600;
  auto results = apply({copy});
  expectTold(results[0], "b");
  EXPECT_EQ(read("tree/b"), content);
  EXPECT_EQ(statOf("tree/b").st_mode & 07777, 0600u);
  Operation late = operation(Kind::COPY, "c", "a");
  late.sourceNode = copy.sourceNode;
  late.node = copy.node;
  write("tree/a", "changed meanwhile");
  expectError(apply({late})[0], ErrorCode::CHANGED);
  EXPECT_FALSE(fs::exists(path("tree/c")));
}

TEST_F(LocalApplyTest, SetsMetadataOfAFolderWhateverHappensInIt) {
  write("tree/a/b", "x");
  Operation mode = operation(Kind::SET_METADATA, "a");
  mode.node = *mode.expected;
  mode.node.mode = 0700;
  write("tree/a/c", "x");
  expectTold(apply({mode})[0], "a");
  EXPECT_EQ(statOf("tree/a").st_mode & 07777, 0700u);
}

TEST_F(LocalApplyTest, OneThatFailsDoesNotStopTheOthers) {
  std::vector<Operation> operations;
  for (int i = 0; i < 1500; ++i) {
    std::string name = "f" + std::to_string(i);
    write("from/" + name, name);
    operations.push_back(put(name));
  }
  write("from/f700", "changed since it was looked at");
  auto results = apply(operations);
  for (int i = 0; i < 1500; ++i) {
    std::string name = "f" + std::to_string(i);
    if (i == 700) {
      expectError(results[i], ErrorCode::CHANGED);
    } else {
      EXPECT_TRUE(results[i].ok()) << results[i].error().message;
      EXPECT_EQ(read("tree/" + name), name);
    }
  }
}

TEST_F(LocalApplyTest, ALargeFileArrivesWhole) {
  std::string content = randomContent(20'000'123);
  write("from/a", content);
  uint64_t moved = 0;
  options.onMoved = [&](const Operation&, uint64_t bytes) { moved += bytes; };
  auto results = apply({put("a")});
  expectTold(results[0], "a");
  EXPECT_TRUE(read("tree/a") == content);
  EXPECT_EQ(moved, content.size());
}

TEST_F(LocalApplyTest, OfALargeFileOnlyWhatIsNewIsRead) {
  std::string content = randomContent(10'000'000);
  write("tree/a", content);
  content.insert(4'000'000, "inserted in the middle");
  write("from/a", content);
  uint64_t moved = 0, paced = 0;
  options.onMoved = [&](const Operation&, uint64_t bytes) { moved += bytes; };
  options.pace = [&](uint64_t bytes) -> kj::Promise<void> {
    paced += bytes;
    return kj::READY_NOW;
  };
  auto results = apply({put("a")});
  expectTold(results[0], "a");
  EXPECT_TRUE(read("tree/a") == content);
  EXPECT_EQ(results[0]->node->digest, digestOf(DigestAlgorithm::XXH3, content));
  EXPECT_GT(moved, 0u);
  EXPECT_LE(moved, 3u * MAX_CHUNK_BYTES);
  EXPECT_EQ(paced, moved);
  ASSERT_TRUE(results[0]->chunks);
  kj::AutoCloseFd fd(open(path("tree/a").c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(*results[0]->chunks, expectOk(cutFile(fd, content.size(), {}, "a")).chunks);
}

TEST_F(LocalApplyTest, HolesStayHoles) {
  kj::AutoCloseFd fd(open(path("from/a").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  std::string data = randomContent(300'000);
  ASSERT_EQ(pwrite(fd, data.data(), data.size(), 8 << 20), ssize_t(data.size()));
  ASSERT_EQ(ftruncate(fd, 64 << 20), 0);
  auto results = apply({put("a")});
  expectTold(results[0], "a");
  EXPECT_TRUE(read("tree/a") == read("from/a"));
  EXPECT_LT(statOf("tree/a").st_blocks * 512, 2 << 20);
}

TEST_F(LocalApplyTest, ABrokenOffDownloadGoesOnWhereItEnded) {
  std::string content = randomContent(40'000'000);
  write("from/a", content);
  Operation large = put("a");
  uint64_t before = breakOff(large);
  uint64_t moved = before;
  options.onMoved = [&](const Operation&, uint64_t bytes) { moved += bytes; };
  auto results = apply({large});
  expectTold(results[0], "a");
  EXPECT_TRUE(read("tree/a") == content);
  EXPECT_LT(moved, content.size() + 12'000'000);
  EXPECT_GE(before, 20'000'000u);
}

TEST_F(LocalApplyTest, WhatABrokenOffDownloadHasLeftIsNotTakenOnTrust) {
  std::string content = randomContent(40'000'000);
  write("from/a", content);
  Operation large = put("a");
  breakOff(large);
  unsigned damaged = 0;
  for (auto& entry : fs::recursive_directory_iterator(path("tree/.capstan"))) {
    if (!entry.is_regular_file() || entry.file_size() < 1'000'000) continue;
    std::fstream file(entry.path(), std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(100'000) << "something else";
    ++damaged;
  }
  ASSERT_EQ(damaged, 1u);
  expectError(apply({large})[0], ErrorCode::CHANGED);
  EXPECT_FALSE(fs::exists(path("tree/a")));
  expectTold(apply({large})[0], "a");
  EXPECT_TRUE(read("tree/a") == content);
}

TEST_F(LocalApplyTest, AFileThatChangesWhileItIsReadIsNotTaken) {
  write("from/a", randomContent(40'000'000));
  Operation large = put("a");
  options.onMoved = [&](const Operation&, uint64_t) { write("from/a", "short now"); };
  expectError(apply({large})[0], ErrorCode::CHANGED);
  EXPECT_FALSE(fs::exists(path("tree/a")));
}

TEST_F(LocalApplyTest, FoldersThatNobodyMayWriteInAreFilledAllTheSame) {
  // The superuser may write anywhere; then this only shows that modes stay.
  write("from/a/b", "x");
  auto results = apply({makeFolder("a", 0555), put("a/b")});
  EXPECT_TRUE(results[1].ok()) << results[1].error().message;
  EXPECT_EQ(read("tree/a/b"), "x");
  EXPECT_EQ(statOf("tree/a").st_mode & 07777, 0555u);
  chmod(path("tree/a").c_str(), 0755);
}

}  // namespace
}  // namespace capstan::sync
