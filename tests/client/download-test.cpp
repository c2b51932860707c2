#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client-fixture.h"

namespace capstan::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Download : public ClientTest {
 protected:
  struct stat statOf(const std::string& name) {
    struct stat stat {};
    EXPECT_EQ(lstat(path(name).c_str(), &stat), 0) << name;
    return stat;
  }
};

TEST_F(Download, KeepsContentModeAndTimeToTheNanosecond) {
  FakeNode& node = server.tree.put("a", "content");
  node.mode = 0604;
  TransferSummary summary = download("a", path("b"));
  EXPECT_EQ(readLocal("b"), "content");
  EXPECT_EQ(statOf("b").st_mode & 07777, 0604u);
  EXPECT_EQ(statOf("b").st_mtim.tv_sec, 1'700'000'000);
  EXPECT_EQ(statOf("b").st_mtim.tv_nsec, 123'456'789);
  EXPECT_EQ(summary.files, 1u);
  EXPECT_EQ(summary.bytes, 7u);
  EXPECT_THAT(localNames(), ElementsAre("b"));
}

TEST_F(Download, DoesNotHandOutSetuid) {
  server.tree.put("a", "content").mode = 06755;
  download("a", path("a"));
  EXPECT_EQ(statOf("a").st_mode & 07777, 0755u);
}

TEST_F(Download, TakesEmptyFilesAndMakesMissingFolders) {
  server.tree.put("empty", "");
  download("empty", path("x/y/z"));
  EXPECT_EQ(readLocal("x/y/z"), "");
}

TEST_F(Download, ReplacesWhatIsThereInOneStep) {
  server.tree.put("a", "new");
  writeLocal("a", "old");
  download("a", path("a"));
  EXPECT_EQ(readLocal("a"), "new");
  EXPECT_THAT(localNames(), ElementsAre("a"));
}

TEST_F(Download, LeavesWhatIsThereWhereThatIsWanted) {
  server.tree.put("a", "new");
  writeLocal("a", "old");
  DownloadSettings settings;
  settings.overwrite = false;
  expectError(run(client().download("a", path("a"), settings)), ErrorCode::EXISTS);
  EXPECT_EQ(readLocal("a"), "old");
}

TEST_F(Download, AFolderNeedsRecursive) {
  server.tree.folder("folder");
  Error error = expectError(run(client().download("folder", path("a"))), ErrorCode::IS_DIRECTORY);
  EXPECT_THAT(error.message, HasSubstr("-r"));
  EXPECT_THAT(localNames(), IsEmpty());
}

TEST_F(Download, ALocalFolderIsNotReplacedByAFile) {
  server.tree.put("a", "new");
  std::filesystem::create_directory(path("a"));
  expectError(run(client().download("a", path("a"))), ErrorCode::IS_DIRECTORY);
}

TEST_F(Download, WhatIsNotThereIsNotFoundAndLeavesNothingBehind) {
  expectError(run(client().download("nope", path("x/y"))), ErrorCode::NOT_FOUND);
  EXPECT_THAT(localNames(), IsEmpty());
}

TEST_F(Download, ALargeFileArrivesWhole) {
  std::string content = randomContent(3'000'001);
  server.tree.put("large", content);
  TransferSummary summary = download("large", path("large"));
  EXPECT_TRUE(readLocal("large") == content);
  EXPECT_EQ(summary.bytesMoved, content.size());
  EXPECT_THAT(localNames(), ElementsAre("large"));
}

TEST_F(Download, HolesStayHoles) {
  FakeNode& node = server.tree.put("sparse", std::string(8 << 20, '\0'));
  node.content.replace(0, 300 << 10, std::string(300 << 10, 'a'));
  node.holes.push_back({1 << 20, 7 << 20});
  download("sparse", path("sparse"));
  EXPECT_TRUE(readLocal("sparse") == node.content);
  EXPECT_LT(statOf("sparse").st_blocks * 512, 2 << 20);
}

TEST_F(Download, SurvivesCutsAtAnyPlace) {
  std::string content = randomContent(2'000'000, 5);
  FakeNode& node = server.tree.put("large", content);
  node.holes.push_back({700'000, 100'000});
  node.content.replace(700'000, 100'000, std::string(100'000, '\0'));
  for (unsigned seed = 0; seed < 40; ++seed) {
    std::mt19937_64 random(seed);
    server.cutAll();
    clientOwn = nullptr;
    // The first connection gets as far as the login, the others anywhere.
    server.cuts = {5'000 + random() % 900'000};
    for (int i = 0; i < 4; ++i) server.cuts.push_back(random() % 900'000);
    DownloadSettings settings;
    settings.resume = seed % 2 == 0;
    download("large", path("large"), settings);
    ASSERT_TRUE(readLocal("large") == node.content) << "seed " << seed;
    ASSERT_THAT(localNames(), ElementsAre("large")) << "seed " << seed;
  }
}

TEST_F(Download, DoesNotMoveTwiceWhatHasArrived) {
  server.tree.put("large", randomContent(2'000'000));
  server.cuts = {1'000'000};
  TransferSummary summary = download("large", path("large"));
  EXPECT_EQ(summary.bytesMoved, 2'000'000u);
  // But for what was in flight.
  EXPECT_LT(server.tree.bytesStreamed, 3'000'000u);
}

TEST_F(Download, GoesOnInALaterRunFromThePartFile) {
  std::string content = randomContent(2'000'000);
  server.tree.put("large", content);
  server.cuts = {1'000'000};
  options.retryFor = 0;
  expectError(run(client().download("large", path("large"))), ErrorCode::UNREACHABLE);
  ASSERT_EQ(localNames().size(), 1u);
  std::string part = localNames()[0];
  EXPECT_THAT(part, testing::MatchesRegex("\\.large\\.capstan-part-[0-9a-f]{16}"));
  uint64_t have = std::filesystem::file_size(path(part));
  EXPECT_GT(have, 500'000u);
  clientOwn = nullptr;
  TransferSummary summary = download("large", path("large"));
  EXPECT_TRUE(readLocal("large") == content);
  EXPECT_EQ(summary.bytesMoved, 2'000'000 - have);
  EXPECT_THAT(localNames(), ElementsAre("large"));
}

TEST_F(Download, APartFileOfAnotherVersionIsRemoved) {
  server.tree.put("large", randomContent(2'000'000));
  server.cuts = {1'000'000};
  options.retryFor = 0;
  expectError(run(client().download("large", path("large"))), ErrorCode::UNREACHABLE);
  clientOwn = nullptr;
  std::string content = randomContent(1'900'000, 2);
  server.tree.put("large", content);
  TransferSummary summary = download("large", path("large"));
  EXPECT_TRUE(readLocal("large") == content);
  EXPECT_EQ(summary.bytesMoved, content.size());
  EXPECT_THAT(localNames(), ElementsAre("large"));
}

TEST_F(Download, APartFileWithOtherContentIsNoticedAndStartedAnew) {
  std::string content = randomContent(2'000'000);
  server.tree.put("large", content);
  server.cuts = {1'000'000};
  options.retryFor = 0;
  expectError(run(client().download("large", path("large"))), ErrorCode::UNREACHABLE);
  clientOwn = nullptr;
  // As a crash of the machine may leave it.
  int fd = open(path(localNames()[0]).c_str(), O_WRONLY);
  ASSERT_EQ(pwrite(fd, "\0\0\0\0\0\0\0\0", 8, 70'000), 8);
  close(fd);
  download("large", path("large"));
  EXPECT_TRUE(readLocal("large") == content);
  EXPECT_THAT(localNames(), ElementsAre("large"));
}

TEST_F(Download, WithoutResumeNothingStaysBehind) {
  server.tree.put("large", randomContent(2'000'000));
  server.cuts = {1'000'000};
  options.retryFor = 0;
  DownloadSettings settings;
  settings.resume = false;
  expectError(run(client().download("large", path("large"), settings)), ErrorCode::UNREACHABLE);
  EXPECT_THAT(localNames(), IsEmpty());
}

TEST_F(Download, AnInterruptedOneKeepsItsPart) {
  server.tree.put("large", randomContent(2'000'000));
  server.delay = 10 * kj::MILLISECONDS;
  {
    auto promise = client().download("large", path("large"));
    while (server.tree.bytesStreamed < 1'000'000) {
      ASSERT_FALSE(promise.poll(waitScope));
      server.timer.advanceTo(server.timer.now() + 1 * kj::MILLISECONDS);
    }
  }
  EXPECT_EQ(localNames().size(), 1u);
}

TEST_F(Download, AServerThatSendsMoreThanWasAskedForIsCutShort) {
  server.tree.put("a", randomContent(1'000'000));
  server.tree.generousReads = true;
  StringConsumer sink;
  expectOk(run(client().read("a", sink, 5, 10)));
  EXPECT_EQ(sink.content.size(), 10u);
}

TEST_F(Download, WithoutMetadataItIsANewFile) {
  server.tree.put("a", "content").mode = 0;
  DownloadSettings settings;
  settings.keepMetadata = false;
  download("a", path("a"), settings);
  EXPECT_EQ(statOf("a").st_mode & 0600, 0600u);
  EXPECT_GT(statOf("a").st_mtim.tv_sec, 1'700'000'001);
}

TEST_F(Download, APartFileIsForItsOwnerOnly) {
  server.tree.put("large", randomContent(2'000'000)).mode = 0600;
  server.cuts = {1'000'000};
  options.retryFor = 0;
  expectError(run(client().download("large", path("large"))), ErrorCode::UNREACHABLE);
  EXPECT_EQ(statOf(localNames().at(0)).st_mode & 0777, 0600u);
}

TEST_F(Download, AFileThatChangesIsFetchedAnew) {
  server.tree.put("large", randomContent(2'000'000));
  std::string later = randomContent(2'100'000, 9);
  server.tree.before = [&](std::string_view method, std::string_view) -> kj::Maybe<Error> {
    if (method != "stream" || server.tree.calls["stream"] != 1) return nullptr;
    server.tree.put("large", later);
    return Error{ErrorCode::CHANGED, "it changed", "large"};
  };
  download("large", path("large"));
  EXPECT_TRUE(readLocal("large") == later);
  EXPECT_THAT(localNames(), ElementsAre("large"));
}

TEST_F(Download, AFileThatKeepsChangingIsAnErrorInTheEnd) {
  server.tree.put("large", randomContent(2'000'000));
  server.tree.before = [&](std::string_view method, std::string_view) -> kj::Maybe<Error> {
    if (method != "stream") return nullptr;
    return Error{ErrorCode::CHANGED, "it changed", "large"};
  };
  expectError(run(client().download("large", path("large"))), ErrorCode::CHANGED);
  EXPECT_EQ(server.tree.calls["stream"], 4u);
  EXPECT_THAT(localNames(), IsEmpty());
}

TEST_F(Download, NamesAtTheLengthLimitAndOfAnyBytesWork) {
  std::string longest(255, 'n');
  std::string content = randomContent(600'000);
  server.tree.put(longest, content);
  download(longest, path(longest));
  EXPECT_TRUE(readLocal(longest) == content);
  std::string odd = "new\nline \xff\xfe";
  server.tree.put(odd, "odd");
  download(odd, path(odd));
  EXPECT_EQ(readLocal(odd), "odd");
}

TEST_F(Download, AFullDiskNamesTheLocalPathAndTheWayOut) {
  if (access("/dev/full", W_OK) != 0) GTEST_SKIP();
  struct Full final : public ByteConsumer {
    kj::Promise<Status> write(std::string_view) override {
      return Status(errorFromErrno(ENOSPC, "cannot write", "/there/file"));
    }
    kj::Promise<Status> skip(uint64_t) override { return okStatus(); }
  } full;
  server.tree.put("large", randomContent(2'000'000));
  Error error = expectError(run(client().read("large", full)), ErrorCode::NO_SPACE);
  EXPECT_THAT(error.message, HasSubstr("/there/file"));
  EXPECT_EQ(error.path, "/there/file");
}

TEST_F(Download, AConsumerThatFailsInTheStreamEndsItWithItsError) {
  struct Picky final : public ByteConsumer {
    uint64_t taken = 0;
    kj::Promise<Status> write(std::string_view bytes) override {
      taken += bytes.size();
      if (taken > 1'000'000) return Status(Error{ErrorCode::NO_SPACE, "enough", {}});
      return okStatus();
    }
    kj::Promise<Status> skip(uint64_t) override { return okStatus(); }
  } picky;
  server.tree.put("large", randomContent(4'000'000));
  EXPECT_EQ(expectError(run(client().read("large", picky)), ErrorCode::NO_SPACE).message, "enough");
}

TEST_F(Download, PartsOfAFileAreReadByOffsetAndCount) {
  std::string content = randomContent(1'000'000);
  server.tree.put("a", content);
  struct Case {
    uint64_t offset, count;
  };
  for (Case c : {Case{0, 10}, {10, 0}, {5, 300'000}, {999'990, 100}, {2'000'000, 5}, {500'000, UINT64_MAX}}) {
    StringConsumer sink;
    expectOk(run(client().read("a", sink, c.offset, c.count)));
    std::string want = c.offset < content.size() ? content.substr(c.offset, c.count) : "";
    EXPECT_TRUE(sink.content == want) << c.offset << " " << c.count;
  }
}

}  // namespace
}  // namespace capstan::client
