// The local folder as a side: what it tells of changes, and how it is read.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <kj/io.h>

#include <capstan/base/digest.h>
#include <capstan/sync/ignore-file.h>
#include <capstan/sync/state.h>

#include "replica-fixture.h"

namespace capstan::sync {
namespace {

namespace fs = std::filesystem;

class LocalReplicaTest : public ReplicaTest {
 protected:
  Replica::Look look(bool whole = false) {
    Replica::LookOptions how;
    how.whole = whole;
    return expectOk(run(tree().look(*state, ignore, how)));
  }
  static std::string names(const Changes& changes) {
    std::string result;
    for (auto& [path, node] : changes) result += (result.empty() ? "" : " ") + path + (node ? "" : "-");
    return result;
  }
  void agree(const Changes& changes) {
    std::vector<StateChange> all;
    for (auto& [path, node] : changes) {
      if (!node) {
        all.push_back({StateChange::Kind::ERASE, path, {}, {}, {}});
        continue;
      }
      Node settled = *node;
      settled.settled = true;
      all.push_back({StateChange::Kind::SET, path, {}, {settled, settled}, {}});
    }
    ASSERT_TRUE(state->apply(all).ok());
  }

  std::unique_ptr<State> state = State::inMemory();
  IgnoreRules ignore{{}, [](std::string_view) -> std::optional<std::string> { return std::nullopt; }};
};

TEST_F(LocalReplicaTest, TellsWhatChangedAndWhichFolderItIs) {
  write("tree/a", "x");
  auto first = look();
  EXPECT_TRUE(first.whole);
  EXPECT_EQ(names(first.changes), "a");
  agree(first.changes);
  auto second = look();
  EXPECT_EQ(names(second.changes), "");
  EXPECT_EQ(second.root, first.root);
  fs::rename(path("tree"), path("elsewhere"));
  fs::create_directory(path("tree"));
  EXPECT_NE(look().root, first.root);
  fs::remove(path("tree"));
  expectError(run(tree().look(*state, ignore, {})), ErrorCode::NOT_FOUND);
  write("tree", "a file");
  expectError(run(tree().look(*state, ignore, {})), ErrorCode::NOT_DIRECTORY);
}

TEST_F(LocalReplicaTest, WithAWatcherOnlyWhatWasReportedIsLookedAt) {
  watch = true;
  write("tree/a", "x");
  write("tree/folder/b", "x");
  agree(look().changes);
  EXPECT_EQ(names(look().changes), "");
  if (tree().watching() == "polling") GTEST_SKIP() << "nothing tells of changes here";
  auto change = tree().onChange();
  write("tree/folder/b", "another");
  write("tree/new/c", "x");
  run(kj::mv(change));
  auto partial = look();
  EXPECT_FALSE(partial.whole);
  EXPECT_EQ(names(partial.changes), "folder/b new new/c");
  // What nobody did anything about is told again.
  EXPECT_EQ(names(look().changes), "folder/b new new/c");
  agree(partial.changes);
  EXPECT_EQ(names(look().changes), "");
  fs::rename(path("tree/new"), path("tree/moved"));
  EXPECT_EQ(names(look().changes), "moved moved/c new- new/c-");
  EXPECT_EQ(names(look(true).changes), "moved moved/c new- new/c-");
}

TEST_F(LocalReplicaTest, WithAWatcherAnotherFolderInItsPlaceIsNoticed) {
  watch = true;
  write("tree/a", "x");
  auto first = look();
  agree(first.changes);
  fs::rename(path("tree"), path("elsewhere"));
  write("tree/b", "x");
  auto second = look();
  EXPECT_TRUE(second.whole);
  EXPECT_NE(second.root, first.root);
  EXPECT_EQ(names(second.changes), "a- b");
  agree(second.changes);
  write("tree/c", "x");
  EXPECT_EQ(names(look().changes), "c");
}

TEST_F(LocalReplicaTest, ADroppedLookIsNotMissed) {
  watch = true;
  write("tree/a", "x");
  agree(look().changes);
  write("tree/b", "x");
  {
    auto dropped = tree().look(*state, ignore, {});
    dropped.poll(world.waitScope);
  }
  EXPECT_EQ(names(look().changes), "b");
}

TEST_F(LocalReplicaTest, ReadsASmallFileOnlyIfItIsWhatWasSeen) {
  write("tree/a", "content");
  Node seen = *nodeAt(tree(), "a");
  auto fetched = expectOk(run(tree().fetch("a", seen)));
  EXPECT_EQ(fetched.bytes, "content");
  EXPECT_EQ(fetched.node.digest, digestOf(DigestAlgorithm::XXH3, "content"));
  EXPECT_EQ(fetched.node.stamp, seen.stamp);
  write("tree/a", "changed");
  write("tree/a", "and another size");
  expectError(run(tree().fetch("a", seen)), ErrorCode::CHANGED);
  fs::remove(path("tree/a"));
  fs::create_symlink(path("from"), path("tree/a"));
  expectError(run(tree().fetch("a", seen)), ErrorCode::CHANGED);
  expectError(run(tree().open("a", seen)), ErrorCode::CHANGED);
}

TEST_F(LocalReplicaTest, ReadsALargeFileInPiecesAndTellsIfItChanged) {
  std::string content = randomContent(2'000'000);
  write("tree/a", content);
  Node seen = *nodeAt(tree(), "a");
  auto file = expectOk(run(tree().open("a", seen)));
  std::string bytes(500'000, '\0');
  EXPECT_TRUE(run(file->read(1'000'000, bytes.data(), bytes.size())).ok());
  EXPECT_TRUE(bytes == content.substr(1'000'000, 500'000));
  expectError(run(file->read(1'900'000, bytes.data(), bytes.size())), ErrorCode::CHANGED);
  auto extent = expectOk(run(file->extentAt(100)));
  EXPECT_FALSE(extent.hole);
  EXPECT_EQ(extent.length, content.size() - 100);
  auto cut = expectOk(run(file->cut({})));
  EXPECT_EQ(cut.digest, digestOf(DigestAlgorithm::XXH3, content));
  EXPECT_EQ(expectOk(run(file->cut(cut.chunks))).chunks, cut.chunks);
  EXPECT_TRUE(run(file->checkUnchanged()).ok());
  std::ofstream(path("tree/a"), std::ios::app) << "more";
  expectError(run(file->checkUnchanged()), ErrorCode::CHANGED);
}

TEST_F(LocalReplicaTest, TellsHoles) {
  kj::AutoCloseFd fd(open(path("tree/a").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  ASSERT_EQ(pwrite(fd, "data", 4, 4 << 20), 4);
  ASSERT_EQ(ftruncate(fd, 16 << 20), 0);
  auto file = expectOk(run(tree().open("a", *nodeAt(tree(), "a"))));
  auto first = expectOk(run(file->extentAt(0)));
  EXPECT_TRUE(first.hole);
  EXPECT_EQ(first.length, 4u << 20);
  EXPECT_FALSE(expectOk(run(file->extentAt(4 << 20))).hole);
  auto last = expectOk(run(file->extentAt(8 << 20)));
  EXPECT_TRUE(last.hole);
  EXPECT_EQ(last.length, 8u << 20);
}

TEST_F(LocalReplicaTest, AnswersDigestsInOrder) {
  std::vector<std::string> paths;
  for (int i = 0; i < 3000; ++i) {
    paths.push_back("f" + std::to_string(i));
    if (i != 1234) write("tree/" + paths.back(), paths.back());
  }
  auto digests = run(tree().digests(paths));
  ASSERT_EQ(digests.size(), paths.size());
  for (size_t i = 0; i < paths.size(); ++i) {
    if (i == 1234) {
      EXPECT_FALSE(digests[i].ok());
    } else {
      EXPECT_EQ(expectOk(digests[i]), digestOf(DigestAlgorithm::XXH3, paths[i]));
    }
  }
  EXPECT_TRUE(run(tree().digests({})).empty());
}

TEST_F(LocalReplicaTest, AnotherFolderSaysNothingAboutWhatWasInTheOneThatWasLookedAt) {
  write("tree/a", "x");
  look();
  EXPECT_FALSE(expectOk(run(tree().stat("b"))));
  fs::rename(path("tree"), path("elsewhere"));
  expectError(run(tree().stat("a")), ErrorCode::IO);
  fs::create_directory(path("tree"));
  expectError(run(tree().stat("a")), ErrorCode::IO);
}

TEST_F(LocalReplicaTest, AnIgnoreFileIsThereOrNotOrCannotBeRead) {
  std::filesystem::create_symlink("x", path("tree/.capstanignore"));
  std::filesystem::create_directories(path("tree/folder/.capstanignore"));
  for (const char* folder : {"", "folder", "missing"}) {
    EXPECT_FALSE(expectOk(readIgnoreFile(path("tree"), folder))) << folder;
  }
  EXPECT_FALSE(expectOk(readIgnoreFile(path("nowhere"), "")));
  write("tree/a/.capstanignore", "*.o\n");
  EXPECT_EQ(expectOk(readIgnoreFile(path("tree"), "a")), "*.o\n");
  write("tree/a/.capstanignore", std::string((1 << 20) + 1, 'x'));
  EXPECT_EQ(expectError(readIgnoreFile(path("tree"), "a"), ErrorCode::TOO_LARGE).path, "a/.capstanignore");
  write("tree/a/.capstanignore", "*.o\n");
  rlimit before;
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit none{0, before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &none);
  auto result = readIgnoreFile(path("tree"), "a");
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_FALSE(result.ok());
}

}  // namespace
}  // namespace capstan::sync
