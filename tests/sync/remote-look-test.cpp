#include <gmock/gmock.h>

#include <capstan/sync/remote-look.h>

#include "../storage/as-nobody.h"
#include "remote-fixture.h"

namespace capstan::sync {
namespace {

using RemoteLook = RemoteTest;

TEST_F(RemoteLook, AMissingFolderIsToldAsMissing) {
  auto looked = look();
  EXPECT_FALSE(looked.rootExists);
  EXPECT_TRUE(looked.changes.empty());
}

TEST_F(RemoteLook, EverythingIsNewAtFirst) {
  write("a/b", "1");
  write("c", "22");
  auto looked = look();
  EXPECT_TRUE(looked.rootExists);
  EXPECT_TRUE(looked.whole);
  EXPECT_NE(looked.root, "");
  EXPECT_EQ(pathsOf(looked), "a a/b c");
  EXPECT_EQ(looked.changes.at("c")->size, 2u);
}

TEST_F(RemoteLook, WhatIsAsAgreedIsNotTold) {
  write("a/b", "1");
  write("c", "22");
  agree(look());
  EXPECT_EQ(pathsOf(look()), "");
  write("c", "333");
  std::filesystem::remove(at("a/b"));
  EXPECT_EQ(pathsOf(look()), "-a/b c");
}

TEST_F(RemoteLook, AFolderThatIsGoneNamesAllThatWasInIt) {
  write("a/b/c", "1");
  write("a.x", "1");
  agree(look());
  std::filesystem::remove_all(at("a"));
  EXPECT_EQ(pathsOf(look()), "-a -a/b -a/b/c");
  std::filesystem::remove_all(serving.base / "root/sub");
  auto looked = look();
  EXPECT_FALSE(looked.rootExists);
  EXPECT_EQ(pathsOf(looked), "-a -a/b -a/b/c -a.x");
}

TEST_F(RemoteLook, WhatIsIgnoredIsNeitherThereNorGone) {
  write("a.tmp/b", "1");
  write("c", "1");
  agree(look());
  IgnoreRules rules({{"*.tmp", "--exclude", 0}},
                    [](std::string_view) -> std::optional<std::string> { return std::nullopt; });
  std::filesystem::remove_all(at("a.tmp"));
  write("d.tmp", "1");
  auto looked = serving.inTime(remote->look(*state, rules, {}));
  ASSERT_TRUE(looked.ok());
  EXPECT_EQ(pathsOf(*looked), "");
}

// As somebody who may not read everything.
class UnreadableLook : public RemoteTest {
 protected:
  // At everything, or at what was noticed.
  Replica::Look lookAsNobody(std::optional<NoticedPaths> paths = std::nullopt) {
    storage::AsNobody nobody;
    RemotePlace place{*client, "sub"};
    sync::RemoteLook job(place, *state, ignore);
    auto looked = serving.inTime(job.run(std::move(paths)));
    if (looked.ok()) return std::move(*looked);
    ADD_FAILURE() << looked.error().message;
    return {};
  }
  Entry entryAt(const std::string& path) {
    auto entry = serving.inTime(client->stat("sub/" + path));
    EXPECT_TRUE(entry.ok());
    return entry.ok() ? *entry : Entry();
  }
  void setMode(const std::string& path, mode_t mode) { ASSERT_EQ(chmod(at(path).c_str(), mode), 0); }
  static std::string unreadIn(const Replica::Look& looked) {
    std::string text;
    for (auto& [path, error] : looked.unread) {
      EXPECT_EQ(error.code, ErrorCode::DENIED) << error.message;
      text += (text.empty() ? "" : " ") + path;
    }
    return text;
  }
};

TEST_F(UnreadableLook, NothingIsClaimedAboutAFolderThatMayNotBeRead) {
  for (const char* name : {"a/b/c", "a/d", "names/x", "other/y", "z"}) write(name, "1");
  agree(look());
  setMode("a", 0);
  setMode("names", 0744);
  std::filesystem::remove(at("other/y"));
  auto looked = lookAsNobody();
  EXPECT_EQ(unreadIn(looked), "a names");
  EXPECT_EQ(pathsOf(looked), "a names -other/y");
  for (const char* name : {"a", "names"}) setMode(name, 0755);
}

TEST_F(UnreadableLook, OneOfWhichNothingWasAgreedIsToldToo) {
  write("closed/b", "1");
  setMode("closed", 0);
  auto looked = lookAsNobody();
  EXPECT_EQ(unreadIn(looked), "closed");
  EXPECT_EQ(pathsOf(looked), "closed");
  setMode("closed", 0755);
}

TEST_F(UnreadableLook, OneThatGotAnotherModeIsListedAgain) {
  write("a/b", "1");
  setMode("a", 0);
  agree(lookAsNobody());
  setMode("a", 0755);
  auto looked = lookAsNobody(NoticedPaths{{"a", {entryAt("a"), false}}});
  EXPECT_EQ(unreadIn(looked), "");
  EXPECT_EQ(pathsOf(looked), "a a/b");
}

TEST_F(UnreadableLook, OneOfTheLastTimeIsTriedAgainThoughNothingHasChangedOfIt) {
  write("a/b", "1");
  setMode("a", 0);
  agree(lookAsNobody());
  NoticedPaths again{{"a", {std::nullopt, true}}};
  auto looked = lookAsNobody(again);
  EXPECT_EQ(unreadIn(looked), "a");
  EXPECT_EQ(pathsOf(looked), "");
  if (geteuid() == 0) {
    // As somebody who may read it, like its owner to whom it was given meanwhile.
    RemotePlace place{*client, "sub"};
    sync::RemoteLook job(place, *state, ignore);
    auto second = serving.inTime(job.run(again));
    ASSERT_TRUE(second.ok());
    EXPECT_EQ(unreadIn(*second), "");
    EXPECT_EQ(pathsOf(*second), "a/b");
  }
  setMode("a", 0755);
}

TEST_F(UnreadableLook, WhatWasNoticedInOneThatIsClosedByNowIsNotGone) {
  write("a/b", "1");
  write("a/c", "1");
  agree(look());
  setMode("a", 0);
  Entry hidden;  // as the server tells of what it cannot look at
  hidden.type = EntryType::OTHER;
  auto looked = lookAsNobody(NoticedPaths{{"a/b", {hidden, false}}, {"a/c", {std::nullopt, true}}});
  EXPECT_EQ(unreadIn(looked), "a");
  EXPECT_EQ(pathsOf(looked), "");
  EXPECT_TRUE(looked.skipped.empty());
  setMode("a", 0755);
}

TEST_F(UnreadableLook, WhatIsIgnoredIsNobodysBusinessAlsoWhenItCannotBeRead) {
  write("a/b", "1");
  setMode("a", 0);
  IgnoreRules rules({{"a", "--exclude", 0}},
                    [](std::string_view) -> std::optional<std::string> { return std::nullopt; });
  storage::AsNobody nobody;
  auto looked = serving.inTime(remote->look(*state, rules, {}));
  ASSERT_TRUE(looked.ok());
  EXPECT_TRUE(looked->unread.empty());
}

TEST_F(RemoteLook, SpecialFilesAreSkippedAndWhatWasThereIsNotGone) {
  write("a", "1");
  agree(look());
  std::filesystem::remove(at("a"));
  ASSERT_EQ(mkfifo(at("a").c_str(), 0600), 0);
  auto looked = look();
  EXPECT_EQ(pathsOf(looked), "");
  EXPECT_THAT(looked.skipped, testing::ElementsAre("a"));
}

TEST_F(RemoteLook, ManyPagesAreOneListing) {
  std::string expected;
  for (int i = 10000; i < 13000; ++i) {
    write("f/" + std::to_string(i), "x");
    expected += " f/" + std::to_string(i);
  }
  connect("sub", true);  // what was written before may have taken longer than clients wait
  auto looked = look();
  EXPECT_EQ(pathsOf(looked), "f" + expected);
  agree(looked);
  EXPECT_EQ(pathsOf(look()), "");
}

TEST_F(RemoteLook, OnlyWhatWasNoticedIsLookedAtWithACursor) {
  write("a/b", "1");
  write("c", "1");
  auto first = look();
  agree(first);
  ASSERT_NE(first.cursor, "");
  auto second = look(first.cursor);
  EXPECT_FALSE(second.whole);
  EXPECT_EQ(pathsOf(second), "");
  write("a/d", "1");
  write("c", "2222");
  auto third = look(second.cursor);
  EXPECT_FALSE(third.whole);
  EXPECT_EQ(pathsOf(third), "a/d c");
}

TEST_F(RemoteLook, WhatWasToldIsToldAgainUntilItsCursorComesBack) {
  write("a", "1");
  auto first = look();
  agree(first);
  write("a", "22");
  auto second = look(first.cursor);
  EXPECT_EQ(pathsOf(second), "a");
  // The cycle came to nothing: the state still has the old cursor.
  auto third = look(first.cursor);
  EXPECT_EQ(pathsOf(third), "a");
  agree(third);
  EXPECT_EQ(pathsOf(look(third.cursor)), "");
}

TEST_F(RemoteLook, AFolderThatAppearsOrMovesIsListed) {
  write("a/b/c", "1");
  auto first = look();
  agree(first);
  std::filesystem::rename(at("a/b"), at("d"));
  auto second = look(first.cursor);
  EXPECT_EQ(pathsOf(second), "-a/b -a/b/c d d/c");
  EXPECT_FALSE(second.whole);
}

TEST_F(RemoteLook, ANewClientGoesOnFromTheCursor) {
  write("a", "1");
  auto first = look();
  agree(first);
  write("b", "1");
  connect("sub", false);
  auto second = look(first.cursor);
  EXPECT_FALSE(second.whole);
  EXPECT_EQ(pathsOf(second), "b");
}

TEST_F(RemoteLook, AnUnknownCursorMeansALookAtEverything) {
  write("a", "1");
  agree(look());
  connect("sub", true);
  auto looked = look("nobody has given this");
  EXPECT_TRUE(looked.whole);
  EXPECT_EQ(pathsOf(looked), "");
}

TEST_F(RemoteLook, AnotherFolderSaysNothingAboutWhatWasInTheOneThatWasLookedAt) {
  write("a", "1");
  look();
  EXPECT_FALSE(*serving.inTime(remote->stat("b")));
  auto folder = at("").substr(0, at("").size() - 1);
  std::filesystem::rename(folder, folder + "-elsewhere");
  EXPECT_EQ(serving.inTime(remote->stat("a")).error().code, ErrorCode::IO);
  std::filesystem::create_directory(folder);
  EXPECT_EQ(serving.inTime(remote->stat("a")).error().code, ErrorCode::IO);
}

TEST_F(RemoteLook, AChangeByAnotherProgramResolvesOnChange) {
  write("a", "1");
  auto first = look();
  agree(first);
  auto changed = remote->onChange();
  EXPECT_FALSE(changed.poll(serving.io.waitScope));
  write("b", "1");
  serving.inTime(kj::mv(changed));
  EXPECT_EQ(pathsOf(look(first.cursor)), "b");
}

}  // namespace
}  // namespace capstan::sync
