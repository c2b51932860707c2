#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client-fixture.h"

namespace capstan::client {
namespace {

using testing::HasSubstr;

class Upload : public ClientTest {
 protected:
  FakeNode& remote(const std::string& path) {
    EXPECT_TRUE(server.tree.has(path)) << path;
    return server.tree.nodes[path];
  }
};

TEST_F(Upload, ASmallFileIsOnePutWithModeAndTime) {
  writeLocal("a", "content");
  chmod(path("a").c_str(), 0604);
  timespec times[2] = {{5, 0}, {1'600'000'000, 987'654'321}};
  utimensat(AT_FDCWD, path("a").c_str(), times, 0);
  TransferSummary summary = upload(path("a"), "b");
  EXPECT_EQ(remote("b").content, "content");
  EXPECT_EQ(remote("b").mode, 0604u);
  EXPECT_EQ(remote("b").mtime, 1'600'000'000'987'654'321);
  EXPECT_EQ(server.tree.calls["put"], 1u);
  EXPECT_EQ(summary.bytes, 7u);
  EXPECT_EQ(summary.bytesMoved, 7u);
}

TEST_F(Upload, MakesMissingFoldersAndTakesEmptyFiles) {
  upload(writeLocal("empty", ""), "x/y/z");
  EXPECT_EQ(remote("x/y/z").content, "");
}

TEST_F(Upload, ALargeFileIsStaged) {
  std::string content = randomContent(3'000'001);
  upload(writeLocal("large", content), "large");
  EXPECT_TRUE(remote("large").content == content);
  EXPECT_EQ(server.tree.calls["create"], 1u);
  EXPECT_EQ(server.tree.calls["put"], 0u);
  EXPECT_TRUE(server.tree.staged.empty());
}

TEST_F(Upload, HolesAreNotSent) {
  writeLocal("sparse", randomContent(300'000));
  ASSERT_EQ(truncate(path("sparse").c_str(), 64 << 20), 0);
  upload(path("sparse"), "sparse");
  EXPECT_TRUE(remote("sparse").content == readLocal("sparse"));
  EXPECT_LT(server.tree.bytesWritten, 1u << 20);
  EXPECT_GT(server.tree.bytesSkipped, 60u << 20);
}

TEST_F(Upload, SurvivesCutsAtAnyPlace) {
  std::string content = randomContent(2'000'000, 3);
  writeLocal("large", content);
  for (unsigned seed = 0; seed < 40; ++seed) {
    std::mt19937_64 random(seed);
    server.cutAll();
    clientOwn = nullptr;
    server.tree.nodes.clear();
    server.cuts = {5'000 + random() % 900'000};
    for (int i = 0; i < 4; ++i) server.cuts.push_back(random() % 900'000);
    UploadSettings settings;
    settings.resume = seed % 2 == 0;
    TransferSummary summary = upload(path("large"), "large", settings);
    ASSERT_TRUE(remote("large").content == content) << "seed " << seed;
    ASSERT_LE(summary.bytesMoved, content.size()) << "seed " << seed;
  }
}

TEST_F(Upload, GoesOnInALaterRun) {
  std::string content = randomContent(2'000'000);
  writeLocal("large", content);
  server.cuts = {1'000'000};
  options.retryFor = 0;
  expectError(run(client().upload(path("large"), "large")), ErrorCode::UNREACHABLE);
  ASSERT_EQ(server.tree.staged.size(), 1u);
  uint64_t have = server.tree.staged.begin()->second.size();
  EXPECT_GT(have, 100'000u);
  EXPECT_FALSE(server.tree.has("large"));
  clientOwn = nullptr;
  server.tree.bytesWritten = 0;
  TransferSummary summary = upload(path("large"), "large");
  EXPECT_TRUE(remote("large").content == content);
  EXPECT_EQ(server.tree.bytesWritten, content.size() - have);
  EXPECT_EQ(summary.bytes, content.size());
}

TEST_F(Upload, AnotherFileDoesNotGoOnWithWhatTheFirstLeft) {
  writeLocal("large", randomContent(2'000'000));
  server.cuts = {1'000'000};
  options.retryFor = 0;
  expectError(run(client().upload(path("large"), "large")), ErrorCode::UNREACHABLE);
  clientOwn = nullptr;
  std::string content = randomContent(2'000'000, 8);
  writeLocal("other", content);
  std::filesystem::rename(path("other"), path("large"));
  upload(path("large"), "large");
  EXPECT_TRUE(remote("large").content == content);
}

TEST_F(Upload, AStagedBeginningThatIsNotTheFilesIsNoticed) {
  std::string content = randomContent(2'000'000);
  writeLocal("large", content);
  server.cuts = {1'000'000};
  options.retryFor = 0;
  expectError(run(client().upload(path("large"), "large")), ErrorCode::UNREACHABLE);
  clientOwn = nullptr;
  server.tree.staged.begin()->second[1000] ^= 1;
  upload(path("large"), "large");
  EXPECT_TRUE(remote("large").content == content);
}

TEST_F(Upload, ACommitWhoseAnswerIsLostIsFoundAgainAndNotSentTwice) {
  std::string content = randomContent(2'000'000);
  bool once = false;
  server.tree.after = [&](std::string_view) {
    if (!once) server.cutAll();
    once = true;
  };
  upload(writeLocal("large", content), "large");
  EXPECT_TRUE(remote("large").content == content);
  EXPECT_EQ(server.tree.bytesWritten, content.size());
  EXPECT_EQ(server.tree.calls["commit"], 1u);
}

TEST_F(Upload, AnIfAbsentPutWhoseAnswerIsLostIsNotRefusedByItself) {
  bool once = false;
  server.tree.after = [&](std::string_view) {
    if (!once) server.cutAll();
    once = true;
  };
  UploadSettings settings;
  settings.expectation.kind = Expectation::Kind::ABSENT;
  expectOk(run(client().stat("")));
  upload(writeLocal("a", "content"), "a", settings);
  EXPECT_EQ(server.tree.calls["put"], 2u);
}

TEST_F(Upload, ExpectationsThatDoNotHoldAreToldAndChangeNothing) {
  server.tree.put("a", "old");
  UploadSettings settings;
  settings.expectation.kind = Expectation::Kind::ABSENT;
  expectError(run(client().upload(writeLocal("a", "new"), "a", settings)), ErrorCode::EXISTS);
  expectError(run(client().upload(writeLocal("b", randomContent(1'000'000)), "a", settings)), ErrorCode::EXISTS);
  settings.expectation = {Expectation::Kind::VERSION, "other"};
  expectError(run(client().upload(path("a"), "a", settings)), ErrorCode::CONFLICT);
  EXPECT_EQ(remote("a").content, "old");
  settings.expectation.version = remote("a").version;
  upload(path("a"), "a", settings);
  EXPECT_EQ(remote("a").content, "new");
}

TEST_F(Upload, AFileThatChangesMeanwhileIsSentAnew) {
  writeLocal("large", randomContent(2'000'000));
  bool once = false;
  server.tree.before = [&](std::string_view method, std::string_view) -> kj::Maybe<Error> {
    if (method == "create" && !once) {
      once = true;
      writeLocal("large", randomContent(1'900'000, 4));
    }
    return nullptr;
  };
  upload(path("large"), "large");
  EXPECT_TRUE(remote("large").content == randomContent(1'900'000, 4));
}

TEST_F(Upload, AFileThatKeepsChangingIsAnErrorInTheEnd) {
  writeLocal("large", randomContent(2'000'000));
  unsigned turn = 0;
  server.tree.before = [&](std::string_view method, std::string_view) -> kj::Maybe<Error> {
    if (method == "create") {
      EXPECT_EQ(truncate(path("large").c_str(), 1'000'000 + 10 * ++turn), 0);
    }
    return nullptr;
  };
  Error error = expectError(run(client().upload(path("large"), "large")), ErrorCode::CHANGED);
  EXPECT_THAT(error.message, HasSubstr("changes while it is being sent"));
  EXPECT_FALSE(server.tree.has("large"));
  EXPECT_EQ(server.tree.calls["create"], 4u);
}

TEST_F(Upload, AFullDiskAtTheServerIsToldByItsOwnWords) {
  server.tree.before = [&](std::string_view method, std::string_view) -> kj::Maybe<Error> {
    if (method != "write") return nullptr;
    return Error{ErrorCode::NO_SPACE, "the server's disk is full", "large"};
  };
  Error error =
      expectError(run(client().upload(writeLocal("large", randomContent(2'000'000)), "large")), ErrorCode::NO_SPACE);
  EXPECT_EQ(error.message, "the server's disk is full");
}

TEST_F(Upload, WhatIsNoFileIsRefusedBeforeAnythingIsSent) {
  Error error = expectError(run(client().upload(path("nope"), "a")), ErrorCode::NOT_FOUND);
  EXPECT_THAT(error.message, HasSubstr(path("nope")));
  std::filesystem::create_directory(path("folder"));
  EXPECT_THAT(expectError(run(client().upload(path("folder"), "a")), ErrorCode::IS_DIRECTORY).message, HasSubstr("-r"));
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  expectError(run(client().upload(path("pipe"), "a")), ErrorCode::UNSUPPORTED);
  EXPECT_EQ(server.connections, 0u);
}

TEST_F(Upload, ANamedSymlinkStandsForItsFile) {
  writeLocal("a", "content");
  std::filesystem::create_symlink("a", path("link"));
  upload(path("link"), "b");
  EXPECT_EQ(remote("b").content, "content");
}

TEST_F(Upload, ASourceIsWrittenInChunksAndChecked) {
  std::string content = randomContent(1'000'000);
  StringProducer source(content);
  UploadSettings settings;
  settings.attributes.mode = 0600;
  Entry entry = expectOk(run(client().write(source, "a/b", settings)));
  EXPECT_EQ(entry.size, content.size());
  EXPECT_TRUE(remote("a/b").content == content);
  EXPECT_EQ(remote("a/b").mode, 0600u);
}

TEST_F(Upload, AnEmptySourceIsAnEmptyFile) {
  StringProducer source("");
  expectOk(run(client().write(source, "a")));
  EXPECT_EQ(remote("a").content, "");
}

TEST_F(Upload, ASourceIsRefusedByTheExpectation) {
  server.tree.put("a", "old");
  StringProducer source(randomContent(3'000'000));
  UploadSettings settings;
  settings.expectation.kind = Expectation::Kind::ABSENT;
  expectError(run(client().write(source, "a", settings)), ErrorCode::EXISTS);
  EXPECT_EQ(remote("a").content, "old");
}

TEST_F(Upload, ASourceCannotBeReadTwiceSoABrokenConnectionIsAnError) {
  StringProducer source(randomContent(3'000'000));
  server.cuts = {1'000'000};
  expectError(run(client().write(source, "a")), ErrorCode::UNREACHABLE);
  EXPECT_FALSE(server.tree.has("a"));
  EXPECT_EQ(server.connections, 1u);
}

TEST_F(Upload, ASourceThatFailsLeavesNothing) {
  struct Failing final : public ByteProducer {
    unsigned left = 3;
    kj::Promise<Result<size_t>> read(char* buffer, size_t size) override {
      if (left-- == 0) return Result<size_t>(Error{ErrorCode::IO, "the pipe broke", {}});
      memset(buffer, 'x', size);
      return Result<size_t>(size);
    }
  } source;
  EXPECT_EQ(expectError(run(client().write(source, "a")), ErrorCode::IO).message, "the pipe broke");
  EXPECT_FALSE(server.tree.has("a"));
}

}  // namespace
}  // namespace capstan::client
