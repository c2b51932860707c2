#include <capstan/server/files/listing.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <set>
#include <thread>

#include <capstan/base/path.h>
#include <capstan/server/files/cache.h>
#include <capstan/server/files/served-folder.h>

#include "../../storage/temp-folder.h"

namespace capstan::server::files {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class ListingTest : public ::testing::Test {
 protected:
  TempFolder folder;
  std::unique_ptr<Root> root = std::move(Root::open(folder.path()).value());
  Cache cache{1 << 20, CachePolicy::FIFO};
  Listings listings{*root, cache};

  ListPage page(const ListRequest& request) {
    auto result = listings.page(request);
    KJ_REQUIRE(result.ok(), result.error().message.c_str());
    return std::move(*result);
  }
  ErrorCode codeOf(const ListRequest& request) {
    auto result = listings.page(request);
    return result.ok() ? ErrorCode::UNSET : result.error().code;
  }
  std::set<std::string> unread;  // by the listings up to now
  // All of it, in pages of this size; `between` is called after each page.
  std::vector<std::string> all(
      ListRequest request, std::function<void()> between = [] {}) {
    std::vector<std::string> paths;
    while (true) {
      ListPage one = page(request);
      for (auto& entry : one.entries) paths.push_back(entry.path);
      for (auto& error : one.unread) {
        EXPECT_EQ(error.code, ErrorCode::DENIED) << error.message;
        EXPECT_NE(std::find(paths.begin(), paths.end(), error.path), paths.end()) << "it comes behind its folder";
        bool isTooLate = std::any_of(paths.begin(), paths.end(),
                                     [&](auto& path) { return comparePaths(error.path + "/\xff", path) < 0; });
        EXPECT_FALSE(isTooLate && one.entries.empty()) << "and before what follows";
        unread.insert(error.path);
      }
      if (one.atEnd) return paths;
      EXPECT_FALSE(one.entries.empty());
      EXPECT_FALSE(one.cursor.empty());
      request.cursor = one.cursor;
      between();
    }
  }
};

TEST_F(ListingTest, ListsAFolderInTheOrderOfItsBytes) {
  for (std::string name : {"b", "a b", "a", "a-b", "with\nnewline", "\xff\xfe", "B"}) folder.write(name, "x");
  folder.write("sub/inner", "x");
  EXPECT_THAT(all({"", false, "", 0}), ElementsAre("B", "a", "a b", "a-b", "b", "sub", "with\nnewline", "\xff\xfe"));
  EXPECT_THAT(all({"sub", false, "", 0}), ElementsAre("sub/inner"));
  folder.makeFolder("empty");
  ListPage empty = page({"empty", false, "", 0});
  EXPECT_TRUE(empty.atEnd);
  EXPECT_THAT(empty.entries, IsEmpty());
}

TEST_F(ListingTest, RecursiveListingsGoFolderByFolderInPagesOfAnySize) {
  for (std::string name : {"a/x", "a/b/c/deep", "a/b/d", "a-b", "a.txt", "z/1", "z/2", "m"}) folder.write(name, "x");
  folder.makeFolder("a/empty");
  std::vector<std::string> expected = {"a",   "a/b",   "a/b/c", "a/b/c/deep", "a/b/d", "a/empty", "a/x",
                                       "a-b", "a.txt", "m",     "z",          "z/1",   "z/2"};
  EXPECT_TRUE(
      std::is_sorted(expected.begin(), expected.end(), [](auto& a, auto& b) { return comparePaths(a, b) < 0; }));
  for (uint32_t size = 1; size <= 14; ++size) EXPECT_EQ(all({"", true, "", size}), expected) << size;
  EXPECT_THAT(all({"a/b", true, "", 1}), ElementsAre("a/b/c", "a/b/c/deep", "a/b/d"));
}

TEST_F(ListingTest, GoesOnFromTheCursorWithoutRememberingAnything) {
  for (std::string name : {"a/1", "a/2", "b/c/1", "b/c/2", "d"}) folder.write(name, "x");
  ListRequest request{"", true, "", 1};
  std::vector<std::string> paths;
  while (true) {
    Listings another(*root, cache);
    auto one = another.page(request);
    ASSERT_TRUE(one.ok());
    for (auto& entry : one->entries) paths.push_back(entry.path);
    if (one->atEnd) break;
    request.cursor = one->cursor;
  }
  EXPECT_THAT(paths, ElementsAre("a", "a/1", "a/2", "b", "b/c", "b/c/1", "b/c/2", "d"));
}

TEST_F(ListingTest, GoesOnWhereTheLastPathIsGone) {
  for (std::string name : {"a/1", "a/2", "a/3", "b"}) folder.write(name, "x");
  ListPage first = page({"", true, "", 3});
  EXPECT_EQ(first.entries.back().path, "a/2");
  std::filesystem::remove_all(folder / "a");
  ListPage second = page({"", true, first.cursor, 0});
  ASSERT_EQ(second.entries.size(), 1u);
  EXPECT_EQ(second.entries[0].path, "b");
  EXPECT_TRUE(second.atEnd);
}

TEST_F(ListingTest, ShowsWhatEachEntryIs) {
  folder.write("file", "12345");
  folder.settle("file");
  folder.link("link", "no where");
  folder.makeFolder("folder");
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  struct stat status = folder.stat("file");
  cache.insert(cache.makeRoom(status), status);
  ListPage one = page({"", false, "", 0});
  ASSERT_EQ(one.entries.size(), 4u);
  EXPECT_EQ(one.entries[0].size, 5u);
  EXPECT_TRUE(one.entries[0].cached);
  EXPECT_EQ(one.entries[0].version, versionOf(status));
  EXPECT_EQ(one.entries[1].type, EntryType::DIRECTORY);
  EXPECT_FALSE(one.entries[1].cached);
  EXPECT_EQ(one.entries[2].type, EntryType::SYMLINK);
  EXPECT_EQ(one.entries[2].target, "no where");
  EXPECT_EQ(one.entries[3].type, EntryType::OTHER);
}

TEST_F(ListingTest, SymlinksAreListedAndNotEntered) {
  folder.write("real/file", "x");
  folder.link("link", "real");
  folder.link("loop", ".");
  folder.link("out", "/etc");
  EXPECT_THAT(all({"", true, "", 0}), ElementsAre("link", "loop", "out", "real", "real/file"));
  EXPECT_EQ(codeOf({"link", false, "", 0}), ErrorCode::NOT_DIRECTORY);
  EXPECT_THAT(all({"loop/real", false, "", 0}), ElementsAre("loop/real/file"));
}

TEST_F(ListingTest, TheServersOwnFolderIsNotListed) {
  folder.write(".capstan/secret", "x");
  folder.write("a/.capstan", "an ordinary file");
  EXPECT_THAT(all({"", true, "", 0}), ElementsAre("a", "a/.capstan"));
  EXPECT_THAT(all({"", false, "", 1}), ElementsAre("a"));
  EXPECT_EQ(codeOf({".capstan", false, "", 0}), ErrorCode::NOT_FOUND);
  // Not by a made-up cursor either.
  EXPECT_THAT(all({"", true, ListCursor{"12345678", ".capstan"}.encode(), 0}), ElementsAre("a", "a/.capstan"));
}

TEST_F(ListingTest, SaysWhatIsWrong) {
  folder.write("file", "x");
  EXPECT_EQ(codeOf({"missing", false, "", 0}), ErrorCode::NOT_FOUND);
  EXPECT_EQ(codeOf({"file", false, "", 0}), ErrorCode::NOT_DIRECTORY);
  EXPECT_EQ(codeOf({"../x", false, "", 0}), ErrorCode::INVALID_PATH);
  std::string valid = ListCursor{"12345678", "file"}.encode();
  EXPECT_EQ(codeOf({"", false, valid, 0}), ErrorCode::UNSET);
  for (std::string cursor :
       {std::string("x"), std::string("\0", 1), valid.substr(0, 9), "x" + valid, valid + "/", valid + "/../..",
        valid.substr(0, 9) + "/etc", valid.substr(0, 9) + std::string(5000, 'x'), valid + std::string("\0", 1)}) {
    EXPECT_EQ(codeOf({"", false, cursor, 0}), ErrorCode::INVALID_ARGUMENT);
    EXPECT_EQ(codeOf({"", true, cursor, 0}), ErrorCode::INVALID_ARGUMENT);
  }
}

TEST_F(ListingTest, FoldersThatMayNotBeReadAreDeniedAndBelowThatListedThemselvesAndTold) {
  folder.write("closed/inner", "x");
  folder.write("names-only/inner", "x");
  folder.write("open/inner", "x");
  ASSERT_EQ(chmod((folder / "closed").c_str(), 0), 0);
  ASSERT_EQ(chmod((folder / "names-only").c_str(), 0404), 0);
  ASSERT_EQ(chmod(folder.path().c_str(), 0755), 0);
  // The superuser may read everything: become somebody else in a thread (credentials belong to threads here).
  std::vector<std::string> listed, listedOneByOne;
  std::set<std::string> unreadAtOnce;
  ErrorCode closed = ErrorCode::UNSET, namesOnly = ErrorCode::UNSET;
  std::thread other([&] {
    if (geteuid() == 0 && syscall(SYS_setresuid, -1, 65534, -1) != 0) return;
    listed = all({"", true, "", 0});
    unreadAtOnce = std::exchange(unread, {});
    listedOneByOne = all({"", true, "", 1});
    closed = codeOf({"closed", false, "", 0});
    namesOnly = codeOf({"names-only", false, "", 0});
  });
  other.join();
  if (listed.empty()) GTEST_SKIP() << "cannot become another user";
  EXPECT_EQ(closed, ErrorCode::DENIED);
  EXPECT_EQ(namesOnly, ErrorCode::DENIED);
  EXPECT_THAT(listed, ElementsAre("closed", "names-only", "open", "open/inner"));
  EXPECT_THAT(unreadAtOnce, ElementsAre("closed", "names-only"));
  EXPECT_EQ(listedOneByOne, listed);
  EXPECT_THAT(unread, ElementsAre("closed", "names-only"));
  ASSERT_EQ(chmod((folder / "closed").c_str(), 0700), 0);
  ASSERT_EQ(chmod((folder / "names-only").c_str(), 0700), 0);
}

TEST_F(ListingTest, WhatStaysAppearsOnceWhateverComesAndGoes) {
  std::set<std::string> staying;
  for (int i = 0; i < 300; ++i) {
    std::string name = (i % 3 == 0 ? "sub/stay" : "stay") + std::to_string(i);
    folder.write(name, "x");
    staying.insert(name);
  }
  for (bool recursive : {false, true}) {
    for (bool remembers : {true, false}) {
      Listings forgetful(*root, cache, 0);
      int round = 0;
      ListRequest request{"", recursive, "", 7};
      std::map<std::string, int> seen;
      while (true) {
        auto one = (remembers ? listings : forgetful).page(request);
        ASSERT_TRUE(one.ok());
        for (auto& entry : one->entries) ++seen[entry.path];
        if (one->atEnd) break;
        request.cursor = one->cursor;
        ++round;
        for (std::string where : {"a", "stay5", "z", "sub/a", "sub/z"}) {
          folder.write(where + "-come-" + std::to_string(round), "x");
          std::filesystem::remove(folder / (where + "-come-" + std::to_string(round - 1)));
        }
      }
      for (auto& [path, count] : seen) EXPECT_EQ(count, 1) << path;
      for (auto& path : staying) {
        bool listed = recursive || path.find('/') == std::string::npos;
        EXPECT_EQ(seen[path], listed ? 1 : 0) << path;
      }
    }
  }
}

TEST_F(ListingTest, ANewListingSeesWhatAnOlderOneRemembersDifferently) {
  folder.write("a", "x");
  folder.write("b", "x");
  ListPage first = page({"", false, "", 1});
  folder.write("c", "x");
  EXPECT_THAT(all({"", false, "", 1}), ElementsAre("a", "b", "c"));
}

TEST_F(ListingTest, RemembersNoMoreThanItsMemoryAllows) {
  for (int i = 0; i < 100; ++i) folder.write(std::string(100, 'n') + std::to_string(i), "x");
  Listings small(*root, cache, 30'000);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(small.page({"", false, "", 1}).ok());
    EXPECT_GT(small.memory(), 10'000u);
    EXPECT_LE(small.memory(), 30'000u);
  }
  auto one = small.page({"", false, "", 1});
  ASSERT_TRUE(one.ok());
  auto rest = small.page({"", false, one->cursor, 0});
  EXPECT_EQ(rest->entries.size(), 99u);
  EXPECT_LE(small.memory(), 30'000u);
}

TEST_F(ListingTest, PagesAreBoundedInEntriesAndBytes) {
  for (int i = 0; i < 2500; ++i) folder.write(std::to_string(i), "");
  EXPECT_EQ(page({"", false, "", 0}).entries.size(), MAX_LIST_ENTRIES);
  EXPECT_EQ(page({"", false, "", 4'000'000'000}).entries.size(), MAX_LIST_ENTRIES);
  EXPECT_EQ(all({"", false, "", 0}).size(), 2500u);
  folder.makeFolder("long");
  for (int i = 0; i < 200; ++i) folder.link("long/" + std::to_string(i), std::string(4000, 't'));
  ListPage one = page({"long", false, "", 0});
  EXPECT_LT(one.entries.size(), 160u);
  EXPECT_GT(one.entries.size(), 100u);
  EXPECT_EQ(all({"long", false, "", 0}).size(), 200u);
}

TEST_F(ListingTest, AFolderOf100000EntriesIsPagedWhole) {
  // Hard links to few files: quick to make.
  constexpr int COUNT = 100'000;
  folder.makeFolder("big");
  for (int i = 0; i < COUNT; ++i) {
    std::string name = folder / ("big/" + std::to_string(i));
    if (i % 10'000 == 0)
      folder.write("big/" + std::to_string(i), "");
    else
      ASSERT_EQ(::link((folder / ("big/" + std::to_string(i / 10'000 * 10'000))).c_str(), name.c_str()), 0);
  }
  auto begin = std::chrono::steady_clock::now();
  auto paths = all({"big", false, "", 0});
  auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(paths.size(), size_t(COUNT));
  EXPECT_TRUE(std::is_sorted(paths.begin(), paths.end()));
  EXPECT_EQ(std::unique(paths.begin(), paths.end()), paths.end());
  RecordProperty("milliseconds", int(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()));
}

TEST_F(ListingTest, GoesDeeperThanItHoldsFoldersOpen) {
  std::string deep;
  for (int i = 0; i < 60; ++i) {
    deep += i == 0 ? "d" : "/d";
    folder.write(deep + "/file", "x");
    folder.write(deep + "/zzz", "x");
  }
  EXPECT_EQ(all({"", true, "", 0}).size(), 180u);
  EXPECT_EQ(all({"", true, "", 7}).size(), 180u);
}

}  // namespace
}  // namespace capstan::server::files
