#include <capstan/storage/version.h>

#include <gtest/gtest.h>
#include <time.h>

#include <set>

#include "temp-folder.h"

namespace capstan::storage {
namespace {

TEST(Version, ChangesWithContentModeAndTimeOnly) {
  TempFolder folder;
  folder.write("file", "one");
  folder.settle("file");
  struct stat before = folder.stat("file");
  EXPECT_EQ(versionOf(before), versionOf(folder.stat("file")));
  EXPECT_EQ(versionOf(before).size(), 16u);

  folder.overwrite("file", "two");
  EXPECT_NE(versionOf(folder.stat("file")), versionOf(before));
  EXPECT_EQ(folder.stat("file").st_size, before.st_size);

  struct stat other = before;
  ++other.st_ino;
  EXPECT_NE(versionOf(other), versionOf(before));
  other = before;
  other.st_mode ^= 0100;
  EXPECT_NE(versionOf(other), versionOf(before));
  other = before;
  ++other.st_size;
  EXPECT_NE(versionOf(other), versionOf(before));
  other = before;
  other.st_ctim.tv_nsec ^= 1;
  EXPECT_NE(versionOf(other), versionOf(before));
  EXPECT_EQ(identityOf(other), identityOf(before));
  other = before;
  other.st_mtim.tv_nsec ^= 1;
  EXPECT_NE(versionOf(other), versionOf(before));
  EXPECT_NE(identityOf(other), identityOf(before));
  other = before;
  ++other.st_nlink;
  ++other.st_atim.tv_sec;
  EXPECT_EQ(versionOf(other), versionOf(before));
}

TEST(Version, IdentitySurvivesARename) {
  TempFolder folder;
  folder.write("from", "content");
  folder.settle("from");
  struct stat before = folder.stat("from");
  std::filesystem::rename(folder / "from", folder / "to");
  EXPECT_EQ(identityOf(folder.stat("to")), identityOf(before));
}

TEST(Version, IsSettledOnlyOnceTheClockHasMovedOn) {
  struct stat status {};
  clock_gettime(CLOCK_REALTIME, &status.st_ctim);
  status.st_ctim.tv_nsec |= 1;
  EXPECT_FALSE(isSettled(status));
  status.st_ctim.tv_sec -= 1;
  EXPECT_TRUE(isSettled(status));
  // A time without a fraction comes from a file system that counts in seconds.
  status.st_ctim.tv_nsec = 0;
  EXPECT_FALSE(isSettled(status));
  status.st_ctim.tv_sec -= 3;
  EXPECT_TRUE(isSettled(status));
  // A clock that was set back, or another host's.
  status.st_ctim.tv_sec += 3600;
  EXPECT_FALSE(isSettled(status));
}

TEST(Version, EntriesSayWhatStatSays) {
  TempFolder folder;
  folder.write("file", "12345");
  folder.link("link", "file");
  folder.makeFolder("folder");
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0640), 0);
  ASSERT_EQ(chmod((folder / "file").c_str(), 04751), 0);
  Entry file = entryFrom(folder.stat("file"));
  EXPECT_EQ(file.type, EntryType::FILE);
  EXPECT_EQ(file.size, 5u);
  EXPECT_EQ(file.mode, 04751u);
  EXPECT_EQ(file.mtime, toNanoseconds(folder.stat("file").st_mtim));
  EXPECT_EQ(file.version, versionOf(folder.stat("file")));
  EXPECT_EQ(entryFrom(folder.stat("link")).type, EntryType::SYMLINK);
  EXPECT_EQ(entryFrom(folder.stat("link")).size, 4u);
  EXPECT_EQ(entryFrom(folder.stat("folder")).type, EntryType::DIRECTORY);
  EXPECT_EQ(entryFrom(folder.stat("folder")).size, 0u);
  EXPECT_EQ(entryFrom(folder.stat("pipe")).type, EntryType::OTHER);
}

TEST(Version, ExpectationsAnswerWhyTheyDoNotHold) {
  using Kind = Expectation::Kind;
  TempFolder folder;
  folder.write("file", "content");
  folder.write("folder/inside", "");
  std::optional<struct stat> nothing, found = folder.stat("file"), place = folder.stat("folder");
  Version version = versionOf(*found);
  EXPECT_TRUE(checkExpectation({Kind::ANY, {}}, nothing, "p").ok());
  EXPECT_TRUE(checkExpectation({Kind::ANY, {}}, found, "p").ok());
  EXPECT_TRUE(checkExpectation({Kind::ABSENT, {}}, nothing, "p").ok());
  EXPECT_TRUE(checkExpectation({Kind::VERSION, version}, found, "p").ok());
  EXPECT_TRUE(checkExpectation({Kind::IDENTITY, {}, inodeIdentity(*place)}, place, "p").ok());
  EXPECT_EQ(checkExpectation({Kind::ABSENT, {}}, found, "p").error().code, ErrorCode::EXISTS);
  EXPECT_EQ(checkExpectation({Kind::VERSION, "v2"}, found, "p").error().code, ErrorCode::CONFLICT);
  EXPECT_EQ(checkExpectation({Kind::VERSION, version}, nothing, "p").error().code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(checkExpectation({Kind::VERSION, "v2"}, found, "a/p").error().path, "a/p");
  EXPECT_EQ(checkExpectation({Kind::IDENTITY, {}, inodeIdentity(*place)}, found, "p").error().code,
            ErrorCode::CONFLICT);
  EXPECT_EQ(checkExpectation({Kind::IDENTITY, {}, inodeIdentity(*place)}, nothing, "p").error().code,
            ErrorCode::NOT_FOUND);
}

}  // namespace
}  // namespace capstan::storage
