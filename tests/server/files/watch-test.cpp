#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "batching.h"

namespace capstan::server::files {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Not;
using ::testing::UnorderedElementsAre;
using Strings = std::vector<std::string>;

const char* word(schema::Notice::Kind kind) {
  switch (kind) {
    case schema::Notice::Kind::CREATED: return "created ";
    case schema::Notice::Kind::CHANGED: return "changed ";
    case schema::Notice::Kind::REMOVED: return "removed ";
    case schema::Notice::Kind::MOVED: return "moved ";
    case schema::Notice::Kind::SUBTREE: return "subtree ";
    default: return "unset ";
  }
}

// What a watcher was told; owned by the test.
struct Heard {
  Strings notices;  // "created PATH", "moved FROM -> PATH"
  std::vector<Entry> entries;
  std::string cursor;
  unsigned calls = 0;
  size_t largest = 0;
  bool overflow = false;
  bool fails = false;
  bool dropped = false;
  bool holds = false;  // calls do not return until release()
  kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>> held;

  void release() {
    holds = false;
    KJ_IF_MAYBE (fulfiller, held) {
      (*fulfiller)->fulfill();
    }
    held = nullptr;
  }
  Strings take() {
    Strings result;
    std::swap(result, notices);
    entries.clear();
    return result;
  }
};

class HearingWatcher final : public schema::Watcher::Server {
 public:
  explicit HearingWatcher(Heard& heard) : heard(heard) {}
  ~HearingWatcher() { heard.dropped = true; }

 protected:
  kj::Promise<void> notify(NotifyContext context) override {
    auto params = context.getParams();
    ++heard.calls;
    if (heard.fails) return KJ_EXCEPTION(FAILED, "the watcher is broken");
    heard.overflow = heard.overflow || params.getOverflow();
    heard.cursor = rpc::asView(params.getCursor());
    heard.largest = std::max<size_t>(heard.largest, params.getNotices().size());
    for (auto notice : params.getNotices()) {
      std::string text = word(notice.getKind());
      if (notice.getFrom().size() > 0) text += std::string(rpc::asView(notice.getFrom())) + " -> ";
      heard.notices.push_back(text + std::string(rpc::asView(notice.getPath())));
      heard.entries.push_back(rpc::read(notice.getEntry()));
    }
    if (!heard.holds) return kj::READY_NOW;
    auto paf = kj::newPromiseAndFulfiller<void>();
    heard.held = kj::mv(paf.fulfiller);
    return kj::mv(paf.promise);
  }

 private:
  Heard& heard;
};

struct Watched {
  schema::Subscription::Client subscription = nullptr;
  std::string cursor;
  ErrorCode code = ErrorCode::UNSET;
};

class Watching : public ::testing::Test, protected Batching {
 protected:
  Watched watch(Heard& heard, const std::string& since = {}, const std::string& path = {}) {
    auto request = store.watchRequest();
    request.setWatcher(kj::heap<HearingWatcher>(heard));
    request.setSince(rpc::asData(since));
    request.initOptions().setPath(rpc::asData(path));
    auto response = request.send().wait(waitScope);
    Watched result;
    KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
      result.code = error->code;
    }
    result.subscription = response.getSubscription();
    result.cursor = rpc::asView(response.getCursor());
    return result;
  }

  std::string flush(Watched& watched) {
    auto response = watched.subscription.flushRequest().send().wait(waitScope);
    KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
      return std::string(kebabCase(error->code));
    }
    return std::string(rpc::asView(response.getCursor()));
  }

  Strings flushed(Watched& watched, Heard& heard) {
    flush(watched);
    return heard.take();
  }

  template <typename Func>
  void turnUntil(Func&& done) {
    while (!done()) {
      waitScope.poll();
      sched_yield();
    }
  }
};

TEST_F(Watching, EachKindOfMutationIsToldOnceAndAsWhatItIs) {
  Heard heard;
  auto watched = watch(heard);
  put("file", "content");
  EXPECT_THAT(flushed(watched, heard), ElementsAre("created file"));
  put("file", "other content");
  flush(watched);
  ASSERT_THAT(heard.notices, ElementsAre("changed file"));
  EXPECT_EQ(heard.entries[0].size, 13u);
  EXPECT_EQ(heard.entries[0].type, EntryType::FILE);
  heard.take();
  mkdir("a/b", true);
  EXPECT_THAT(flushed(watched, heard), ElementsAre("created a", "created a/b"));
  symlink("link", "nowhere");
  EXPECT_THAT(flushed(watched, heard), ElementsAre("created link"));
  setMetadata("file", {0600, {}});
  EXPECT_THAT(flushed(watched, heard), ElementsAre("changed file"));
  rename("file", "a/b/moved");
  EXPECT_THAT(flushed(watched, heard), ElementsAre("moved file -> a/b/moved"));
  rename("a", "z");
  EXPECT_THAT(flushed(watched, heard), ElementsAre("moved a -> z"));
  remove("z", true);
  flush(watched);
  ASSERT_THAT(heard.notices, ElementsAre("removed z"));
  EXPECT_EQ(heard.entries[0].type, EntryType::UNSET);
  heard.take();
  flush(watched);
  EXPECT_THAT(heard.take(), IsEmpty());
  EXPECT_FALSE(heard.overflow);
}

TEST_F(Watching, AMissingFolderMadeOnTheWayIsTold) {
  Heard heard;
  auto watched = watch(heard);
  put("new/deep/file", "content", {.makeParents = true});
  EXPECT_THAT(flushed(watched, heard), ElementsAre("created new", "created new/deep", "created new/deep/file"));
}

TEST_F(Watching, WhatFailsIsNotTold) {
  Heard heard;
  auto watched = watch(heard);
  EXPECT_FALSE(put("none/file", "content").ok());
  put("there", "content");
  EXPECT_FALSE(put("there", "content", {.expectation = absent()}).ok());
  EXPECT_THAT(flushed(watched, heard), ElementsAre("created there"));
}

TEST_F(Watching, ChangesByOtherProgramsAreTold) {
  temp.write("old/file", "before");
  Heard heard;
  auto watched = watch(heard);
  temp.write("new", "content");
  temp.overwrite("old/file", "BEFORE");
  EXPECT_THAT(flushed(watched, heard), UnorderedElementsAre("created new", "changed old/file"));
  temp.write("folder/with/file", "content");
  EXPECT_THAT(flushed(watched, heard),
              UnorderedElementsAre("created folder", "created folder/with", "created folder/with/file"));
  std::filesystem::remove_all(temp / "folder");
  EXPECT_THAT(flushed(watched, heard), Contains("removed folder"));
  std::filesystem::rename(temp / "old", temp / "renamed");
  auto told = flushed(watched, heard);
  EXPECT_THAT(told, Contains("removed old"));
  EXPECT_THAT(told, Contains("created renamed"));
  EXPECT_THAT(told, Contains("created renamed/file"));
}

TEST_F(Watching, AnotherProgramsChangeOfOurFileIsNoEcho) {
  Heard heard;
  auto watched = watch(heard);
  put("file", "content");
  flushed(watched, heard);
  temp.overwrite("file", "CONTENT");
  EXPECT_THAT(flushed(watched, heard), ElementsAre("changed file"));
  unlink((temp / "file").c_str());
  EXPECT_THAT(flushed(watched, heard), ElementsAre("removed file"));
}

TEST_F(Watching, WhatAnotherProgramMakesWhereWeRemovedIsToldToItsEnd) {
  put("file", "content");
  put("folder/file", "content", {.makeParents = true});
  Heard heard;
  auto watched = watch(heard);
  remove("file");
  remove("folder", true);
  flushed(watched, heard);
  temp.write("file", "content");
  temp.write("folder/file", "content");
  EXPECT_THAT(flushed(watched, heard), UnorderedElementsAre("created file", "created folder", "created folder/file"));
  std::filesystem::remove(temp / "file");
  std::filesystem::remove(temp / "folder/file");
  EXPECT_THAT(flushed(watched, heard), UnorderedElementsAre("removed file", "removed folder/file"));
}

// The watcher sees "file" appear, and cannot know that something was there before.
TEST_F(Watching, TheRemovalOfWhatTookThePlaceOfAnotherIsTold) {
  temp.write("file", "first");
  Heard others;
  auto other = watch(others);
  std::string before = flush(other);
  temp.write("new", "second");
  std::filesystem::rename(temp / "new", temp / "file");
  flush(other);
  std::filesystem::remove(temp / "file");
  Heard heard;
  auto watched = watch(heard, before);
  EXPECT_THAT(flushed(watched, heard), Contains("removed file"));
}

TEST_F(Watching, AFolderWhereOursWasIsTold) {
  mkdir("from");
  temp.write("other/file", "content");
  Heard heard;
  auto watched = watch(heard);
  mkdir("made");
  rename("from", "moved");
  flushed(watched, heard);
  std::filesystem::remove(temp / "made");
  std::filesystem::remove(temp / "moved");
  EXPECT_THAT(flushed(watched, heard), UnorderedElementsAre("removed made", "removed moved"));
  std::filesystem::create_directory(temp / "made");
  std::filesystem::rename(temp / "other", temp / "moved");
  EXPECT_THAT(flushed(watched, heard), IsSupersetOf({"created made", "created moved", "created moved/file"}));
}

TEST_F(Watching, AFolderInThePlaceOfOursIsToldWithoutAMomentBetween) {
  mkdir("from");
  temp.write("other/file", "content");
  Heard heard;
  auto watched = watch(heard);
  rename("from", "moved");
  flushed(watched, heard);
  std::filesystem::rename(temp / "moved", temp / "aside");
  std::filesystem::rename(temp / "other", temp / "moved");
  EXPECT_THAT(flushed(watched, heard), Contains("subtree moved"));
}

TEST_F(Watching, AChangeThroughALinkIsToldByItsPathAndByTheRealOne) {
  temp.makeFolder("real");
  temp.link("link", "real");
  Heard heard;
  auto watched = watch(heard);
  put("link/file", "content");
  EXPECT_THAT(flushed(watched, heard), UnorderedElementsAre("created link/file", "created real/file"));
}

TEST_F(Watching, WhatALinkOnTheWayLeadsToIsNotWhatIsThere) {
  // The same names in both folders, and files that only one of them has.
  for (int i = 0; i < 100; ++i) {
    temp.write("elsewhere/d/" + std::to_string(i) + "/theirs", "");
    temp.write("new/" + std::to_string(i) + "/ours", "");
  }
  temp.makeFolder("in");
  Heard heard;
  auto watched = watch(heard);
  std::filesystem::rename(temp / "new", temp / "in/d");
  auto flushed = watched.subscription.flushRequest().send().ignoreResult();
  while (!flushed.poll(waitScope)) {
    std::filesystem::rename(temp / "in", temp / "aside");
    temp.link("in", "elsewhere");
    sched_yield();
    std::filesystem::remove(temp / "in");
    std::filesystem::rename(temp / "aside", temp / "in");
  }
  flushed.wait(waitScope);
  flush(watched);
  EXPECT_THAT(heard.notices, Each(Not(HasSubstr("theirs"))));
}

TEST_F(Watching, ManyMayAskAtTheSameTime) {
  temp.write("file", "content");
  std::vector<Heard> heard(20);
  std::vector<capnp::RemotePromise<schema::FileStore::WatchResults>> calls;
  for (auto& each : heard) {
    auto request = store.watchRequest();
    request.setWatcher(kj::heap<HearingWatcher>(each));
    calls.push_back(request.send());
  }
  calls.erase(calls.begin());  // whoever does it for all may go away
  std::vector<schema::Subscription::Client> subscriptions;
  for (auto& call : calls) subscriptions.push_back(call.wait(waitScope).getSubscription());
  temp.write("new", "content");
  std::vector<capnp::RemotePromise<schema::Subscription::FlushResults>> flushes;
  for (auto& each : subscriptions) flushes.push_back(each.flushRequest().send());
  for (auto& each : flushes) EXPECT_FALSE(each.wait(waitScope).getOutcome().isError());
  for (size_t i = 1; i < heard.size(); ++i) EXPECT_THAT(heard[i].notices, ElementsAre("created new"));
}

TEST_F(Watching, ManyMutationsHaveNoEchoes) {
  Heard heard;
  auto watched = watch(heard);
  mkdir("many");
  std::vector<capnp::RemotePromise<schema::FileStore::PutResults>> calls;
  for (int i = 0; i < 500; ++i) calls.push_back(sendPut("many/" + std::to_string(i), "content"));
  for (auto& call : calls) call.wait(waitScope);
  auto told = flushed(watched, heard);
  EXPECT_EQ(told.size(), 501u);
  for (auto& each : told) EXPECT_TRUE(each.starts_with("created ")) << each;
}

TEST_F(Watching, TheServersOwnFolderIsNotTold) {
  Heard heard;
  auto watched = watch(heard);
  temp.write(".capstan/something", "content");
  std::filesystem::remove(temp / ".capstan/something");
  EXPECT_THAT(flushed(watched, heard), IsEmpty());
}

TEST_F(Watching, ASlowWatcherIsToldTheLastStateOnce) {
  Heard heard;
  heard.holds = true;
  auto watched = watch(heard);
  put("first", "content");
  turnUntil([&]() { return heard.calls == 1; });
  for (int i = 0; i < 50; ++i) put("busy", std::string(size_t(i), 'x'));
  put("gone", "content");
  remove("gone");
  put("moved", "content");
  rename("moved", "there");
  Heard other;
  auto quick = watch(other);
  put("last", "content");
  EXPECT_THAT(flushed(quick, other), ElementsAre("created last")) << "it delays nobody";
  EXPECT_EQ(heard.calls, 1u);
  heard.take();
  heard.release();
  flush(watched);
  EXPECT_EQ(heard.calls, 2u);
  EXPECT_THAT(heard.notices,
              ElementsAre("created busy", "removed gone", "removed moved", "changed there", "created last"));
}

TEST_F(Watching, OnlyWhatIsBelowAPathIsTold) {
  mkdir("in/side", true);
  mkdir("out");
  Heard heard;
  auto watched = watch(heard, {}, "in");
  put("in/file", "content");
  put("out/file", "content");
  put("inner", "content");
  EXPECT_THAT(flushed(watched, heard), ElementsAre("created in/file"));
  rename("in/file", "out/moved");
  EXPECT_THAT(flushed(watched, heard), ElementsAre("removed in/file"));
  rename("out/moved", "in/back");
  EXPECT_THAT(flushed(watched, heard), ElementsAre("changed in/back"));
  rename("in", "elsewhere");
  EXPECT_THAT(flushed(watched, heard), ElementsAre("removed in"));
  rename("elsewhere", "in");
  EXPECT_THAT(flushed(watched, heard), ElementsAre("subtree in"));
}

TEST_F(Watching, ACursorGoesOnOnAnotherConnection) {
  Heard heard;
  auto watched = watch(heard);
  put("before", "content");
  std::string cursor = flush(watched);
  EXPECT_EQ(cursor, heard.cursor);
  watched.subscription = nullptr;
  connect();
  put("meanwhile", "content");
  temp.write("beside", "content");
  Heard later;
  auto again = watch(later, cursor);
  EXPECT_EQ(again.cursor, cursor);
  EXPECT_THAT(flushed(again, later), UnorderedElementsAre("created meanwhile", "created beside"));
  EXPECT_FALSE(later.overflow);
}

TEST_F(Watching, TheWatchingEndsWhenNobodyHasListenedForLong) {
  stop();
  options.watchTime = 0;
  start();
  Heard heard;
  auto watched = watch(heard);
  temp.write("beside", "content");
  EXPECT_THAT(flushed(watched, heard), ElementsAre("created beside")) << "not before the last has gone";
  std::string cursor = flush(watched);
  watched.subscription = nullptr;
  turnUntil([&]() { return folder->figures().watch.method == WatchMethod::UNSET; });
  temp.write("missed", "content");
  Heard later;
  auto again = watch(later, cursor);
  flush(again);
  EXPECT_TRUE(later.overflow);
  later.overflow = false;
  later.take();
  cursor = flush(again);
  temp.write("heard", "content");
  EXPECT_THAT(flushed(again, later), ElementsAre("created heard"));
  EXPECT_FALSE(later.overflow);
  Heard other;
  auto third = watch(other, cursor);
  EXPECT_THAT(flushed(third, other), ElementsAre("created heard")) << "cursors from after it hold";
  EXPECT_FALSE(other.overflow);
}

TEST_F(Watching, AnUndoIsToldAsWhatItDoes) {
  put("replaced", "old");
  put("folder/removed", "old", {.makeParents = true});
  put("from", "content");
  Heard heard;
  auto watched = watch(heard);
  for (auto& answer : runBatch({putting("replaced", "new"), removing("folder", true), renaming("from", "to"),
                                putting("made", "new"), copying("made", "copy")})) {
    EXPECT_TRUE(answer.ok()) << answer;
  }
  EXPECT_THAT(flushed(watched, heard), UnorderedElementsAre("changed replaced", "removed folder", "moved from -> to",
                                                            "created made", "created copy"));
  auto undone = undo(lastRun);
  EXPECT_EQ(undone.count, 5u);
  EXPECT_THAT(flushed(watched, heard),
              IsSupersetOf({"changed replaced", "subtree folder", "moved to -> from", "removed made", "removed copy"}));
  undo(undone.run);
  EXPECT_THAT(flushed(watched, heard), UnorderedElementsAre("changed replaced", "removed folder", "moved from -> to",
                                                            "created made", "created copy"));
}

TEST_F(Watching, WhatIsRestoredIsTold) {
  put("folder/removed", "old", {.makeParents = true});
  runBatch({removing("folder", true)});
  Heard heard;
  auto watched = watch(heard);
  ASSERT_TRUE(restore(lastRun, "folder", "new/place").ok());
  EXPECT_THAT(flushed(watched, heard), IsSupersetOf({"created new", "subtree new/place"}));
}

TEST_F(Watching, ACursorOfAnotherServerIsAnOverflow) {
  Heard heard;
  auto watched = watch(heard);
  put("file", "content");
  std::string cursor = flush(watched);
  watched.subscription = nullptr;
  stop();
  start();
  for (const std::string& since : {cursor, std::string("nonsense")}) {
    Heard later;
    auto again = watch(later, since);
    turnUntil([&]() { return later.calls > 0; });
    EXPECT_TRUE(later.overflow);
    later.overflow = false;
    put("file", "more");
    EXPECT_THAT(flushed(again, later), ElementsAre("changed file"));
    EXPECT_FALSE(later.overflow) << "once";
  }
}

TEST_F(Watching, WhatTheWatcherHearsIsInTheFoldersEntries) {
  Heard heard;
  auto watched = watch(heard);
  auto answer = put("file", "content");
  flush(watched);
  ASSERT_EQ(heard.entries.size(), 1u);
  EXPECT_EQ(heard.entries[0].version, answer.entry.version);
  EXPECT_EQ(heard.entries[0].path, "file");
}

TEST_F(Watching, ABrokenWatcherEndsTheSubscription) {
  Heard heard;
  heard.fails = true;
  auto watched = watch(heard);
  put("file", "content");
  EXPECT_EQ(flush(watched), "cancelled");
  EXPECT_EQ(heard.calls, 1u);
  EXPECT_EQ(scope->meter->used(Resource::SUBSCRIPTIONS), 0u);
  EXPECT_TRUE(heard.dropped);
}

TEST_F(Watching, ADroppedSubscriptionEndsAndGivesItsPlaceBack) {
  Heard heard;
  auto watched = watch(heard);
  EXPECT_EQ(scope->meter->used(Resource::SUBSCRIPTIONS), 1u);
  watched.subscription = nullptr;
  turnUntil([&]() { return heard.dropped; });
  EXPECT_EQ(scope->meter->used(Resource::SUBSCRIPTIONS), 0u);
  std::vector<Watched> many;
  std::vector<Heard> each(65);
  for (size_t i = 0; i < 64; ++i) many.push_back(watch(each[i]));
  EXPECT_EQ(many.back().code, ErrorCode::UNSET);
  EXPECT_EQ(watch(each[64]).code, ErrorCode::LIMIT);
  many.pop_back();
  EXPECT_EQ(watch(each[64]).code, ErrorCode::UNSET);
  many.clear();
}

TEST_F(Watching, BadPathsAreRefused) {
  Heard heard;
  EXPECT_EQ(watch(heard, {}, "a//b").code, ErrorCode::INVALID_PATH);
  EXPECT_EQ(watch(heard, {}, ".capstan").code, ErrorCode::NOT_FOUND);
}

TEST_F(Watching, TheMeansAreKnownOnceSomebodyWatches) {
  EXPECT_EQ(folder->figures().watch.method, WatchMethod::UNSET);
  Heard heard;
  auto watched = watch(heard);
  EXPECT_NE(folder->figures().watch.method, WatchMethod::UNSET);
}

}  // namespace
}  // namespace capstan::server::files
