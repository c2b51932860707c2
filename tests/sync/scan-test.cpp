// Looks at a folder: whatever is edited is found, nothing else is, and a look at what was reported finds what a look at
// everything does.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include <capstan/base/digest.h>
#include <capstan/sync/local-folder.h>
#include <capstan/sync/scan.h>

#include "../storage/as-nobody.h"
#include "local-fixture.h"

namespace capstan::sync {
namespace {

namespace fs = std::filesystem;

class ScanTest : public LocalTest {
 protected:
  ScanTest() { fs::create_directory(path("tree")); }

  ScanOptions optionsFor(int root) {
    ScanOptions options;
    options.walk.root = root;
    options.walk.ignore = &ignore;
    options.walk.failing = failing;
    options.state = state.get();
    options.checkContent = checkContent;
    return options;
  }
  Scanned look() {
    auto root = expectOk(openLocalFolder(path("tree")));
    return expectOk(scanAll(optionsFor(root)));
  }
  // As a watcher would tell; `subtrees` are told with all that is in them.
  Scanned lookAt(std::vector<std::string> paths, std::vector<std::string> subtrees = {}) {
    auto root = expectOk(openLocalFolder(path("tree")));
    ByPath<bool> all;
    for (auto& path : paths) all.emplace(path, false);
    for (auto& path : subtrees) all[path] = true;
    std::vector<Report> reports;
    for (auto& [path, subtree] : all) reports.push_back({{path, subtree}, state->find(path)});
    return expectOk(scanReported(optionsFor(root), reports));
  }
  // Both sides have what is there now.
  void agree() {
    std::vector<StateChange> changes;
    for (auto& [path, node] : look().look.changes) {
      if (!node) {
        changes.push_back({StateChange::Kind::ERASE, path, {}, {}, {}});
        continue;
      }
      Node settled = *node;
      settled.settled = true;
      changes.push_back({StateChange::Kind::SET, path, {}, {settled, settled}, {}});
    }
    ASSERT_TRUE(state->apply(changes).ok());
    ASSERT_EQ(names(look().look.changes), "");
  }
  // "path path- path": with '-' where it is gone.
  static std::string names(const Changes& changes) {
    std::string result;
    for (auto& [path, node] : changes) result += (result.empty() ? "" : " ") + path + (node ? "" : "-");
    return result;
  }
  static std::string unread(const Replica::Look& look) {
    std::string result;
    for (auto& [path, error] : look.unread) result += (result.empty() ? "" : " ") + path;
    return result;
  }
  std::string changes() { return names(look().look.changes); }
  void put(const std::string& name, const std::string& content = "content") { write("tree/" + name, content); }
  void remove(const std::string& name) { fs::remove_all(path("tree/" + name)); }
  void move(const std::string& from, const std::string& to) { fs::rename(path("tree/" + from), path("tree/" + to)); }
  void link(const std::string& name, const std::string& target) { fs::create_symlink(target, path("tree/" + name)); }

  std::unique_ptr<State> state = State::inMemory();
  IgnoreRules ignore{{{"*.tmp", "--exclude", 0}, {"build/", "--exclude", 0}},
                     [](std::string_view) -> std::optional<std::string> { return std::nullopt; }};
  std::function<int(std::string_view)> failing;
  bool checkContent = false;
};

TEST_F(ScanTest, FindsWhatIsNew) {
  put("a", "12345");
  put("folder/b");
  fs::create_directory(path("tree/empty"));
  link("link", "somewhere/else");
  auto found = look();
  EXPECT_TRUE(found.look.whole);
  EXPECT_EQ(found.look.entries, 5u);
  EXPECT_EQ(names(found.look.changes), "a empty folder folder/b link");
  const Node& file = *found.look.changes.at("a");
  EXPECT_EQ(file.type, EntryType::FILE);
  EXPECT_EQ(file.size, 5u);
  EXPECT_EQ(file.stamp.size(), 16u);
  EXPECT_FALSE(file.settled);  // it was made a moment ago
  EXPECT_EQ(found.look.changes.at("link")->target, "somewhere/else");
  EXPECT_EQ(found.look.changes.at("empty")->type, EntryType::DIRECTORY);
}

TEST_F(ScanTest, FindsEachKindOfEdit) {
  for (const char* name : {"a", "b", "c/d", "c/e", "f/g", "h/i", "j"}) put(name);
  link("l", "a");
  agree();
  put("a", "another content");
  EXPECT_EQ(changes(), "a");
  remove("b");
  EXPECT_EQ(changes(), "a b-");
  chmod(path("tree/c").c_str(), 0700);
  EXPECT_EQ(changes(), "a b- c");
  move("f", "k");
  EXPECT_EQ(changes(), "a b- c f- f/g- k k/g");
  remove("h");
  put("h", "a file in place of a folder");
  EXPECT_EQ(changes(), "a b- c f- f/g- h h/i- k k/g");
  remove("j");
  put("j/x");
  EXPECT_EQ(changes(), "a b- c f- f/g- h h/i- j j/x k k/g");
  remove("l");
  link("l", "b");
  EXPECT_EQ(changes(), "a b- c f- f/g- h h/i- j j/x k k/g l");
  EXPECT_EQ(look().look.changes.at("l")->target, "b");
}

TEST_F(ScanTest, NeverFollowsSymlinks) {
  write("outside/secret", "x");
  link("link", path("outside"));
  put("folder/a");
  agree();
  remove("folder");
  link("folder", path("outside"));
  EXPECT_EQ(changes(), "folder folder/a-");
  EXPECT_EQ(names(lookAt({"folder/a", "folder/secret", "link/secret"}).look.changes), "folder/a-");
  EXPECT_EQ(names(lookAt({}, {"folder", "link"}).look.changes), "folder folder/a-");
}

TEST_F(ScanTest, LeavesOutWhatIsIgnoredAndItsOwnFolder) {
  put(".capstan/trash/x");
  put("a.tmp");
  put("build/x");
  put("folder/build/y");
  put("folder/.capstan/z");
  EXPECT_EQ(changes(), "folder folder/.capstan folder/.capstan/z");
  EXPECT_EQ(names(lookAt({"a.tmp", "build", "build/x", "folder/build/y"}).look.changes), "");
}

TEST_F(ScanTest, WhatBecameIgnoredIsNotTakenForGone) {
  put("a.tmpx");
  put("buildx/x");
  agree();
  std::vector<StateChange> renamed = {{StateChange::Kind::MOVE, "a.tmp", "a.tmpx", {}, {}},
                                      {StateChange::Kind::MOVE, "build", "buildx", {}, {}}};
  ASSERT_TRUE(state->apply(renamed).ok());
  remove("a.tmpx");
  remove("buildx");
  EXPECT_EQ(changes(), "");
}

TEST_F(ScanTest, NothingIsClaimedAboutWhatCannotBeRead) {
  put("a/b");
  put("a/c/d");
  put("e");
  agree();
  remove("a/c/d");
  remove("e");
  failing = [](std::string_view folder) { return folder == "a/c" ? EIO : 0; };
  auto found = look();
  EXPECT_EQ(names(found.look.changes), "e-");
  ASSERT_EQ(unread(found.look), "a/c");
  EXPECT_EQ(found.look.unread.at("a/c").code, ErrorCode::IO);
  ASSERT_EQ(found.again.size(), 1u);
  EXPECT_EQ(found.again[0].path, "a/c");
  EXPECT_TRUE(found.again[0].subtree);
  found = lookAt({"e"}, {"a"});
  EXPECT_EQ(names(found.look.changes), "e-");
  EXPECT_EQ(unread(found.look), "a/c");
  failing = [](std::string_view folder) { return folder.empty() ? EACCES : 0; };
  found = look();
  EXPECT_EQ(names(found.look.changes), "");
  EXPECT_EQ(found.look.unread.at("").code, ErrorCode::DENIED);
}

TEST_F(ScanTest, NothingIsClaimedAboutAFolderThatTellsItsNamesOnly) {
  put("a/b");
  put("a/c");
  put("e");
  agree();
  remove("a/b");
  fs::permissions(path("tree/a"), fs::perms(0744));
  auto root = expectOk(openLocalFolder(path("tree")));
  auto options = optionsFor(root);
  storage::AsNobody nobody;
  auto found = expectOk(scanAll(options));
  EXPECT_EQ(names(found.look.changes), "a");
  EXPECT_EQ(unread(found.look), "a");
  found = expectOk(scanReported(options, {{{"a/b", false}, state->find("a/b")}}));
  EXPECT_EQ(names(found.look.changes), "");
  EXPECT_EQ(unread(found.look), "a");
  ASSERT_EQ(found.again.size(), 1u);
  EXPECT_EQ(found.again[0].path, "a");
}

TEST_F(ScanTest, AFolderThatVanishesMeanwhileIsNoEvidence) {
  put("a/b");
  put("c");
  agree();
  failing = [](std::string_view folder) { return folder == "a" ? ENOENT : 0; };
  auto found = look();
  EXPECT_EQ(names(found.look.changes), "");
  EXPECT_TRUE(found.look.unread.empty());
  ASSERT_EQ(found.again.size(), 1u);
  EXPECT_EQ(found.again[0].path, "a");
}

TEST_F(ScanTest, SpecialFilesAreToldAndNotTouched) {
  put("a/b");
  put("p");
  agree();
  remove("a");
  remove("p");
  ASSERT_EQ(mkfifo(path("tree/a").c_str(), 0600), 0);
  ASSERT_EQ(mkfifo(path("tree/p").c_str(), 0600), 0);
  ASSERT_EQ(mkfifo(path("tree/q.tmp").c_str(), 0600), 0);
  auto found = look();
  EXPECT_EQ(names(found.look.changes), "");
  EXPECT_EQ(found.look.skipped, (std::vector<std::string>{"a", "p"}));
}

TEST_F(ScanTest, AnUnsettledStampIsNotTrusted) {
  put("a");
  put("b");
  agree();
  Agreed agreed = *state->find("a");
  agreed.local.settled = false;
  ASSERT_TRUE(state->apply({{StateChange::Kind::SET, "a", {}, agreed, {}}}).ok());
  EXPECT_EQ(changes(), "a");
  EXPECT_EQ(names(lookAt({"a", "b"}).look.changes), "a");
}

TEST_F(ScanTest, ContentIsReadWhereStampsAreNotToBeTrusted) {
  put("a", "content");
  put("b", "content");
  agree();
  Agreed agreed = *state->find("a");
  agreed.local.digest = agreed.remote.digest = digestOf(DigestAlgorithm::XXH3, "content");
  ASSERT_TRUE(state->apply({{StateChange::Kind::SET, "a", {}, agreed, {}}}).ok());
  agreed = *state->find("b");
  agreed.local.digest = agreed.remote.digest = digestOf(DigestAlgorithm::XXH3, "CONTENT");
  ASSERT_TRUE(state->apply({{StateChange::Kind::SET, "b", {}, agreed, {}}}).ok());
  EXPECT_EQ(changes(), "");
  checkContent = true;
  auto found = look();
  EXPECT_EQ(names(found.look.changes), "b");
  EXPECT_EQ(found.look.changes.at("b")->digest, digestOf(DigestAlgorithm::XXH3, "content"));
}

TEST_F(ScanTest, ADeepTreeNeedsNoMoreDescriptorsThanAShallowOne) {
  std::string folder = "tree";
  kj::AutoCloseFd at(open(path("tree").c_str(), O_PATH | O_CLOEXEC));
  size_t count = 0;
  for (; count < 1500; ++count) {
    ASSERT_EQ(mkdirat(at, "d", 0755), 0);
    kj::AutoCloseFd file(openat(at, "z", O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    at = kj::AutoCloseFd(openat(at, "d", O_PATH | O_CLOEXEC));
  }
  auto found = look();
  EXPECT_TRUE(found.look.unread.empty());
  EXPECT_EQ(found.look.changes.size(), 2 * count);
}

TEST_F(ScanTest, ALookAtWhatWasReportedFindsWhatALookAtEverythingDoes) {
  unsigned seed = 20;
  std::mt19937_64 random(seed);
  auto name = [&]() {
    std::string result(1, char('a' + random() % 4));
    for (size_t depth = random() % 4; depth > 0; --depth) result += std::string("/") + char('a' + random() % 4);
    return result;
  };
  for (int round = 0; round < 60; ++round) {
    SCOPED_TRACE(testing::Message() << "seed " << seed << ", round " << round);
    std::vector<std::string> reported, subtrees;
    for (int edit = 0; edit < 12; ++edit) {
      std::string at = name();
      std::error_code error;
      fs::path place = path("tree/" + at);
      switch (random() % 6) {
        case 0:
        case 1:
          if (!fs::is_directory(fs::symlink_status(place.parent_path()))) continue;
          if (fs::is_directory(fs::symlink_status(place))) continue;
          fs::remove(place, error);
          std::ofstream(place) << std::string(random() % 50, 'x');
          break;
        case 2:
          if (!fs::is_directory(fs::symlink_status(place.parent_path()))) continue;
          fs::create_directory(place, error);
          break;
        case 3: fs::remove_all(place, error); break;
        case 4: {
          std::string to = name();
          fs::rename(place, path("tree/" + to), error);
          if (!error) reported.push_back(to);
          break;
        }
        case 5:
          if (!fs::is_directory(fs::symlink_status(place.parent_path()))) continue;
          fs::create_symlink("target" + std::to_string(random() % 3), place, error);
          break;
      }
      (random() % 4 == 0 ? subtrees : reported).push_back(at);
    }
    auto whole = look().look.changes;
    auto partial = lookAt(reported, subtrees).look.changes;
    ASSERT_EQ(names(partial), names(whole));
    for (auto& [path, node] : whole) {
      if (node) {
        ASSERT_EQ(node->stamp, partial.at(path)->stamp);
      }
    }
    agree();
  }
}

}  // namespace
}  // namespace capstan::sync
