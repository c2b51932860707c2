// Limits that nothing is counted for: they shape answers, end connections, or are what shares get.
#include <capstan/server/access/limits.h>

#include "../sharing.h"

namespace capstan::server {
namespace {

constexpr uint64_t MIB = 1 << 20;

template <typename Request>
void fill(Request& put, const std::string& path, size_t bytes) {
  put.setPath(rpc::asData(path));
  put.initContent(bytes);
}

Error put(Sharing& serving, schema::FileStore::Client store, const std::string& path, size_t bytes) {
  auto request = store.putRequest();
  fill(request, path, bytes);
  return errorOf(serving.wait(request.send()));
}

TEST(LimitEffects, AreToldByHelloAsTheyAreInForce) {
  Sharing serving;
  serving.limit(Limit::CONNECTION_UPLOADS, 7);
  serving.limit(Limit::CONNECTION_MESSAGE, 5 * MIB);
  serving.limit(Limit::CONNECTION_LIST_ENTRIES, 100);
  serving.limit(Limit::CONNECTION_VALUES, 12);
  serving.limit(Limit::GRANT_JOBS_RUNNING, 3);
  serving.start();
  auto client = serving.connect();
  auto answer = client.hello();
  auto limits = answer.getInfo().getLimits();
  EXPECT_EQ(limits.getUploads(), 7u);
  EXPECT_EQ(limits.getMessage(), 5 * MIB);
  EXPECT_EQ(limits.getListEntries(), 100u);
  EXPECT_EQ(limits.getValues(), 12u);
  EXPECT_EQ(limits.getJobsRunning(), 3u);
  EXPECT_EQ(limits.getConnections(), Limits()[Limit::SERVER_CONNECTIONS]);
}

TEST(LimitEffects, AreAllInStatusAndAGuestSeesOnlyItsOwnUse) {
  Sharing serving;
  serving.limit(Limit::GRANT_UPLOADS, 9);
  serving.start();
  auto owner = serving.connect();
  auto create = owner.fileStore(serving.token()).createRequest();
  create.setPath(rpc::asData("new"));
  auto upload = serving.wait(create.send()).getUpload();
  auto status = serving.wait(owner.session(serving.token()).statusRequest().send());
  auto limits = status.getStatus().getLimits();
  ASSERT_EQ(limits.size(), LIMITS);
  for (auto& row : limitTable()) {
    auto limit = limits[unsigned(row.limit)];
    EXPECT_EQ(limit.getName(), row.name);
    EXPECT_EQ(limit.getScope(), schema::LimitStatus::Scope(row.scope)) << row.name;
    EXPECT_EQ(limit.getUnit(), schema::LimitStatus::Unit(row.unit)) << row.name;
    EXPECT_EQ(limit.getValue(), row.limit == Limit::GRANT_UPLOADS ? 9 : row.preset) << row.name;
  }
  EXPECT_EQ(limits[unsigned(Limit::CONNECTION_UPLOADS)].getUsed(), 1u);
  EXPECT_EQ(limits[unsigned(Limit::SERVER_UPLOADS)].getUsed(), 1u);
  EXPECT_EQ(limits[unsigned(Limit::SERVER_CONNECTIONS)].getUsed(), 1u);

  auto made = serving.share(owner, {});
  auto guest = serving.connect();
  auto seen = serving.wait(guest.session(made.token).statusRequest().send());
  for (auto limit : seen.getStatus().getLimits()) {
    if (limit.getScope() == schema::LimitStatus::Scope::SERVER || limit.getName() == "uploads") {
      EXPECT_EQ(limit.getUsed(), 0u) << limit.getName().cStr();
    }
  }
}

TEST(LimitEffects, EndOnlyTheConnectionThatSendsAMessageThatIsTooLong) {
  Sharing serving;
  serving.limit(Limit::CONNECTION_MESSAGE, 2 * MIB);
  serving.start();
  auto greedy = serving.connect(), modest = serving.connect();
  auto store = modest.fileStore(serving.token());
  auto request = greedy.fileStore(serving.token()).putRequest();
  fill(request, "long", 3 * MIB);
  auto sent = request.send().ignoreResult().catch_([](kj::Exception&&) {});
  serving.inTime(greedy.connection->onDisconnect());
  EXPECT_TRUE(serving.eventually([&]() { return serving.log.contains("2097152 are the limit"); }));
  EXPECT_EQ(put(serving, store, "short", MIB).code, ErrorCode::UNSET);
}

TEST(LimitEffects, CutListsIntoMoreAnswers) {
  Sharing serving;
  serving.limit(Limit::CONNECTION_LIST_ENTRIES, 16);
  for (int i = 0; i < 40; ++i) serving.base.write("root/" + std::to_string(i), "x");
  serving.start();
  auto client = serving.connect();
  auto store = client.fileStore(serving.token());
  size_t entries = 0, answers = 0;
  std::string cursor;
  for (bool atEnd = false; !atEnd; ++answers) {
    auto request = store.listRequest();
    request.setCursor(rpc::asData(cursor));
    auto answer = serving.wait(request.send());
    ASSERT_EQ(errorOf(answer).code, ErrorCode::UNSET);
    EXPECT_LE(answer.getEntries().size(), 16u);
    entries += answer.getEntries().size();
    cursor = std::string(rpc::asView(answer.getCursor()));
    atEnd = answer.getAtEnd();
  }
  EXPECT_EQ(entries, 40u);
  EXPECT_GE(answers, 3u);
}

TEST(LimitEffects, GiveAQuotaToSharesThatWereMadeWithoutOne) {
  Sharing serving;
  serving.limit(Limit::GRANT_QUOTA, 100'000);
  serving.base.makeFolder("root/given");
  serving.start();
  auto owner = serving.connect(), guest = serving.connect();
  auto made = serving.share(owner, {.path = "given", .write = true, .label = "small"});
  auto store = guest.fileStore(made.token);
  EXPECT_EQ(put(serving, store, "a", 60'000).code, ErrorCode::UNSET);
  EXPECT_EQ(put(serving, store, "b", 60'000).code, ErrorCode::QUOTA);
  EXPECT_EQ(put(serving, owner.fileStore(serving.token()), "given/b", 60'000).code, ErrorCode::UNSET)
      << "it is not the owner's";
}

TEST(LimitEffects, BoundTheSharesThatOneMayMake) {
  Sharing serving;
  serving.limit(Limit::GRANT_SHARES, 2);
  serving.start();
  auto owner = serving.connect();
  EXPECT_EQ(serving.share(owner, {}).error.code, ErrorCode::UNSET);
  EXPECT_EQ(serving.share(owner, {}).error.code, ErrorCode::UNSET);
  EXPECT_EQ(serving.share(owner, {}).error.code, ErrorCode::LIMIT);
}

// Notices and their overflow.
class CountingWatcher final : public schema::Watcher::Server {
 public:
  struct Heard {
    unsigned calls = 0;
    size_t most = 0, notices = 0;
    bool overflow = false;
    bool held = true;
    kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>> waiting;
  };
  explicit CountingWatcher(Heard& heard) : heard(heard) {}

 protected:
  kj::Promise<void> notify(NotifyContext context) override {
    auto params = context.getParams();
    ++heard.calls;
    heard.notices += params.getNotices().size();
    heard.most = std::max<size_t>(heard.most, params.getNotices().size());
    heard.overflow = heard.overflow || params.getOverflow();
    if (!heard.held) return kj::READY_NOW;
    auto paf = kj::newPromiseAndFulfiller<void>();
    heard.waiting = kj::mv(paf.fulfiller);
    return kj::mv(paf.promise);
  }

 private:
  Heard& heard;
};

void changeWhileTheWatcherIsSlow(Sharing& serving, CountingWatcher::Heard& heard, int changes) {
  serving.start();
  auto client = serving.connect();
  auto store = client.fileStore(serving.token());
  auto request = store.watchRequest();
  request.setWatcher(kj::heap<CountingWatcher>(heard));
  auto watching = serving.wait(request.send());
  ASSERT_EQ(errorOf(watching).code, ErrorCode::UNSET);
  ASSERT_EQ(put(serving, store, "first", 1).code, ErrorCode::UNSET);
  ASSERT_TRUE(serving.eventually([&]() { return heard.calls == 1; }));
  for (int i = 0; i < changes; ++i) {
    auto make = store.makeDirectoryRequest();
    make.setPath(rpc::asData("folder" + std::to_string(i)));
    ASSERT_EQ(errorOf(serving.wait(make.send())).code, ErrorCode::UNSET);
  }
  heard.held = false;
  KJ_IF_MAYBE (each, heard.waiting) (*each)->fulfill();
  auto flushed = watching.getSubscription().flushRequest().send();
  ASSERT_EQ(errorOf(serving.wait(kj::mv(flushed))).code, ErrorCode::UNSET);
}

TEST(LimitEffects, CutNoticesIntoMoreCalls) {
  Sharing serving;
  serving.limit(Limit::CONNECTION_WATCH_QUEUE, 5);
  CountingWatcher::Heard heard;
  changeWhileTheWatcherIsSlow(serving, heard, 30);
  EXPECT_LE(heard.most, 5u);
  EXPECT_GE(heard.notices, 31u);
  EXPECT_FALSE(heard.overflow);
}

TEST(LimitEffects, TellAWatcherThatIsTooSlowThatMoreHasChangedThanIsRemembered) {
  Sharing serving;
  serving.limit(Limit::SERVER_WATCH_QUEUE, 100);
  CountingWatcher::Heard heard;
  changeWhileTheWatcherIsSlow(serving, heard, 150);
  EXPECT_TRUE(heard.overflow);
}

}  // namespace
}  // namespace capstan::server
