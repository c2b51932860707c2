#include <capstan/base/tree-watcher.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <utility>

#include <gtest/gtest.h>
#include <kj/io.h>

#include <capstan/base/path.h>

namespace capstan {
namespace {

namespace fs = std::filesystem;

// What was told, and questions about it.
class Told {
 public:
  void take(TreeChanges changes) {
    std::lock_guard lock(mutex);
    overflow = overflow || changes.overflow;
    for (auto& change : changes.changes) {
      paths.insert(change.path);
      if (change.subtree) subtrees.insert(change.path);
    }
  }
  bool has(const std::string& path) {
    std::lock_guard lock(mutex);
    return paths.contains(path);
  }
  // Whether somebody who looks at what was told sees this path.
  bool covers(const std::string& path) {
    std::lock_guard lock(mutex);
    if (overflow || paths.contains(path)) return true;
    for (std::string_view at = path; !at.empty(); at = parentOf(at)) {
      if (subtrees.contains(std::string(at))) return true;
    }
    return subtrees.contains("");
  }
  bool overflowed() {
    std::lock_guard lock(mutex);
    return overflow;
  }
  size_t size() {
    std::lock_guard lock(mutex);
    return paths.size();
  }
  void forget() {
    std::lock_guard lock(mutex);
    paths.clear();
    subtrees.clear();
    overflow = false;
  }

 private:
  std::mutex mutex;
  std::set<std::string> paths, subtrees;
  bool overflow = false;
};

class Watching : public ::testing::TestWithParam<WatchMethod> {
 protected:
  Watching() {
    char name[] = "/tmp/capstan-watch-test-XXXXXX";
    outside = mkdtemp(name);
    folder = outside + "/folder";
    fs::create_directory(folder);
    options.folder = folder;
    options.pollInterval = 3600'000'000'000;  // flush(true) polls
    options.best = GetParam();
  }
  ~Watching() override {
    watcher = nullptr;
    fs::remove_all(outside);
  }

  // False: this method is refused here.
  bool begin() {
    auto started = TreeWatcher::start(options, [this](TreeChanges changes) { told.take(std::move(changes)); });
    if (!started.ok()) throw std::runtime_error(started.error().message);
    watcher = std::move(started).value();
    return watcher->method() == GetParam();
  }
  void flush() { watcher->flush(true); }

  void write(const std::string& path, const std::string& content = "content") {
    std::ofstream(folder + "/" + path, std::ios::binary) << content;
  }
  void makeFolder(const std::string& path) { fs::create_directories(folder + "/" + path); }
  void rename(const std::string& from, const std::string& to) { fs::rename(folder + "/" + from, folder + "/" + to); }

  bool isPolling() const { return GetParam() == WatchMethod::POLLING; }

  std::string outside, folder;
  TreeWatcher::Options options;
  Told told;
  std::unique_ptr<TreeWatcher> watcher;
};

#define BEGIN_OR_SKIP() \
  if (!begin()) GTEST_SKIP() << nameOf(GetParam()) << " is refused here"

TEST_P(Watching, EachKindOfChangeIsTold) {
  makeFolder("old/deep");
  write("old/deep/file");
  write("old/gone");
  BEGIN_OR_SKIP();

  write("new");
  write("old/deep/file", "more than before");
  fs::remove(folder + "/old/gone");
  makeFolder("old/made");
  fs::create_symlink("nowhere", folder + "/link");
  flush();
  for (const char* path : {"new", "old/deep/file", "old/gone", "old/made", "link"}) EXPECT_TRUE(told.has(path)) << path;
  EXPECT_FALSE(told.has("old/deep"));
  EXPECT_FALSE(told.overflowed());

  told.forget();
  chmod((folder + "/new").c_str(), 0600);
  flush();
  EXPECT_TRUE(told.has("new")) << "its mode";
  told.forget();
  flush();
  EXPECT_EQ(told.size(), 0u) << "nothing was changed";
}

TEST_P(Watching, NothingIsLostWhenDescriptorsRunOut) {
  makeFolder("old");
  BEGIN_OR_SKIP();
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none{0, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  makeFolder("new/inner");
  fs::create_symlink("nowhere", folder + "/new/inner/link");
  fs::create_symlink("nowhere", folder + "/old/link");
  flush();
  setrlimit(RLIMIT_NOFILE, &before);
  flush();
  for (const char* path : {"new/inner/link", "old/link"}) EXPECT_TRUE(told.covers(path)) << path;
  told.forget();
  write("new/inner/later");
  flush();
  EXPECT_TRUE(told.covers("new/inner/later"));
}

TEST_P(Watching, WhatASinkDidNotTakeIsToldAsAnOverflow) {
  bool fails = true;
  auto sink = [&](TreeChanges changes) {
    if (std::exchange(fails, false)) throw std::runtime_error("no memory");
    told.take(std::move(changes));
  };
  auto started = TreeWatcher::start(options, sink);
  ASSERT_TRUE(started.ok());
  watcher = std::move(started).value();
  write("lost");
  flush();
  flush();
  EXPECT_TRUE(told.covers("lost"));
}

TEST_P(Watching, AFileThatStaysOpenIsToldAgainAndAgain) {
  write("file", "");
  BEGIN_OR_SKIP();
  kj::AutoCloseFd fd(open((folder + "/file").c_str(), O_WRONLY | O_APPEND));
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(::write(fd, "x", 1), 1);
    flush();
    EXPECT_TRUE(told.has("file")) << i;
    told.forget();
  }
}

TEST_P(Watching, AFolderMadeWithAllThatIsInItIsCovered) {
  BEGIN_OR_SKIP();
  std::vector<std::string> made;
  for (int i = 0; i < 50; ++i) {
    std::string top = "top" + std::to_string(i);
    makeFolder(top + "/a/b/c");
    for (const char* name : {"/one", "/a/two", "/a/b/three", "/a/b/c/four"}) {
      write(top + name);
      made.push_back(top + name);
    }
  }
  flush();
  for (auto& path : made) EXPECT_TRUE(told.covers(path)) << path;

  told.forget();
  write("top7/a/b/c/later");
  flush();
  EXPECT_TRUE(told.has("top7/a/b/c/later")) << "the new folders are watched themselves";
}

TEST_P(Watching, ARenamedFolderIsToldByItsNewName) {
  makeFolder("first/inner");
  write("first/inner/file");
  BEGIN_OR_SKIP();
  write("first/inner/before");
  rename("first", "second");
  flush();
  EXPECT_TRUE(told.covers("first"));
  EXPECT_TRUE(told.covers("second/inner/before"));
  told.forget();

  write("second/inner/file", "changed");
  flush();
  EXPECT_TRUE(told.has("second/inner/file"));
  EXPECT_FALSE(told.has("first/inner/file"));
  told.forget();

  // The old name is another folder now.
  makeFolder("first/inner");
  flush();
  told.forget();
  write("first/inner/file");
  write("second/inner/file", "again");
  flush();
  EXPECT_TRUE(told.has("first/inner/file"));
  EXPECT_TRUE(told.has("second/inner/file"));
}

TEST_P(Watching, FoldersThatChangePlacesKeepTheirPaths) {
  for (const char* name : {"a", "b", "c"}) makeFolder(std::string(name) + "/in");
  BEGIN_OR_SKIP();
  for (int i = 0; i < 30; ++i) {
    rename("a", "x");
    rename("b", "a");
    rename("c", "b");
    rename("x", "c");
    if (i % 7 == 0) flush();
  }
  flush();
  told.forget();
  write("a/in/1");
  write("b/in/2");
  write("c/in/3");
  flush();
  for (const char* path : {"a/in/1", "b/in/2", "c/in/3"}) EXPECT_TRUE(told.has(path)) << path;
  for (const char* path : {"a/in/2", "a/in/3", "b/in/1", "c/in/1"}) EXPECT_FALSE(told.has(path)) << path;
}

TEST_P(Watching, WhatComesFromOutsideAndGoesThereIsTold) {
  fs::create_directories(outside + "/elsewhere/deep");
  makeFolder("leaves/deep");
  BEGIN_OR_SKIP();
  fs::rename(outside + "/elsewhere", folder + "/arrived");
  fs::rename(folder + "/leaves", outside + "/left");
  flush();
  EXPECT_TRUE(told.covers("arrived/deep"));
  EXPECT_TRUE(told.has("leaves"));
  told.forget();
  flush();
  std::ofstream(outside + "/left/deep/file") << "not ours any more";
  std::ofstream(outside + "/beside") << "never ours";
  write("arrived/deep/file");
  flush();
  EXPECT_TRUE(told.has("arrived/deep/file"));
  EXPECT_EQ(told.size(), 1u);
}

TEST_P(Watching, WhatIsLeftOutIsNotTold) {
  makeFolder("state/staging");
  std::set<std::string> asked;
  options.leaveOut = [&](std::string_view path) {
    asked.insert(std::string(path));
    return path == "state";
  };
  BEGIN_OR_SKIP();
  write("state/staging/file");
  write("state/other");
  flush();
  EXPECT_EQ(told.size(), 0u);
  rename("state/other", "moved-out");
  flush();
  EXPECT_TRUE(told.has("moved-out"));
  watcher = nullptr;
  EXPECT_FALSE(asked.contains("state/staging"));
}

TEST_P(Watching, ManyFilesAtOnceAreAllCovered) {
  makeFolder("many");
  BEGIN_OR_SKIP();
  for (int i = 0; i < 3000; ++i) write("many/" + std::to_string(i), "");
  flush();
  for (int i = 0; i < 3000; ++i) ASSERT_TRUE(told.covers("many/" + std::to_string(i))) << i;
}

TEST_P(Watching, AStormOfTreesMadeMovedAndRemovedLosesNothing) {
  BEGIN_OR_SKIP();
  std::mt19937 random(42);
  std::vector<std::string> folders{""};
  auto any = [&]() { return folders[random() % folders.size()]; };
  for (int i = 0; i < 3000; ++i) {
    std::error_code ignored;
    std::string at = folder + "/" + any();
    switch (random() % 5) {
      case 0:
        folders.push_back(joinPath(any(), "d" + std::to_string(i % 97)));
        fs::create_directories(folder + "/" + folders.back(), ignored);
        break;
      case 1: fs::rename(at, folder + "/" + joinPath(any(), "m" + std::to_string(i % 13)), ignored); break;
      case 2:
        if (i % 5 == 0 && at != folder + "/") fs::remove_all(at, ignored);
        break;
      default: std::ofstream(at + "/f" + std::to_string(i % 7)) << i;
    }
    if (folders.size() > 60) folders.resize(30);
  }
  flush();
  told.forget();
  std::vector<std::string> written;
  for (auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_directory()) written.push_back(entry.path().string().substr(folder.size() + 1) + "/last");
  }
  for (auto& path : written) write(path, "last");
  flush();
  ASSERT_GT(written.size(), 5u);
  for (auto& path : written) EXPECT_TRUE(told.has(path)) << path;
}

TEST_P(Watching, TheFolderItselfGoneIsAnOverflow) {
  BEGIN_OR_SKIP();
  fs::rename(folder, outside + "/away");
  flush();
  EXPECT_TRUE(told.overflowed());
}

INSTANTIATE_TEST_SUITE_P(By, Watching,
                         ::testing::Values(WatchMethod::FANOTIFY, WatchMethod::INOTIFY, WatchMethod::POLLING),
                         [](const auto& info) { return std::string(nameOf(info.param)); });

class WatchingWithInotify : public Watching {};

TEST_P(WatchingWithInotify, WhatTheKernelHadNoRoomForIsAnOverflow) {
  makeFolder("before");
  std::mutex holding;
  std::unique_lock held(holding);
  auto started = TreeWatcher::start(options, [&](TreeChanges changes) {
    std::lock_guard wait(holding);
    told.take(std::move(changes));
  });
  ASSERT_TRUE(started.ok());
  watcher = std::move(started).value();
  if (watcher->method() != GetParam()) GTEST_SKIP();
  size_t limit = 16'384;
  std::ifstream("/proc/sys/fs/inotify/max_queued_events") >> limit;
  if (limit > 100'000) GTEST_SKIP() << "the queue is too long for this test";
  // The watcher's thread stands in the sink after the first of these; two names by turns, which are not merged.
  for (size_t i = 0; i < 2 * limit; ++i) write(i % 2 == 0 ? "before/a" : "before/b", "");
  makeFolder("lost/deep");
  held.unlock();
  flush();
  EXPECT_TRUE(told.overflowed());
  told.forget();
  write("lost/deep/file");
  write("before/a");
  flush();
  EXPECT_TRUE(told.has("lost/deep/file")) << "folders whose events were lost are watched";
  EXPECT_TRUE(told.has("before/a"));
  EXPECT_FALSE(told.overflowed());
}

TEST_P(WatchingWithInotify, FoldersBeyondTheLimitOfWatchesArePolled) {
  for (int i = 0; i < 20; ++i) makeFolder("f" + std::to_string(i) + "/in");
  options.maxWatches = 10;
  BEGIN_OR_SKIP();
  EXPECT_TRUE(watcher->isPartial());
  for (int i = 0; i < 20; ++i) write("f" + std::to_string(i) + "/in/file");
  makeFolder("f3/new/deep");
  rename("f4", "renamed");
  flush();
  for (int i = 0; i < 20; ++i) {
    std::string path = (i == 4 ? "renamed" : "f" + std::to_string(i)) + "/in/file";
    EXPECT_TRUE(told.covers(path)) << path;
  }
  EXPECT_TRUE(told.covers("f3/new/deep"));
  told.forget();
  write("renamed/in/file", "again, and longer");
  write("f3/new/deep/file");
  flush();
  EXPECT_TRUE(told.has("renamed/in/file"));
  EXPECT_TRUE(told.has("f3/new/deep/file"));
}

INSTANTIATE_TEST_SUITE_P(By, WatchingWithInotify, ::testing::Values(WatchMethod::INOTIFY));

TEST(TreeWatchers, AFolderThatIsMissingIsAnError) {
  TreeWatcher::Options options;
  options.folder = "/tmp/capstan-no-such-folder";
  auto started = TreeWatcher::start(options, [](TreeChanges) {});
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.error().code, ErrorCode::NOT_FOUND);
}

}  // namespace
}  // namespace capstan
