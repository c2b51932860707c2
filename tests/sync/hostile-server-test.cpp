// What a server says becomes paths on this machine: a listing and notices of one that means harm.
#include <capstan/sync/remote-replica.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include <capstan/rpc/entry-wire.h>
#include <capstan/schema/gateway.capnp.h>
#include <capstan/sync/local-folder.h>

#include "../storage/temp-folder.h"

namespace capstan::sync {
namespace {

using testing::HasSubstr;

// What the server says.
struct Said {
  std::vector<std::string> listing;
  std::vector<std::string> notices;
};

class Store final : public schema::FileStore::Server {
 public:
  explicit Store(const Said& said) : said(said) {}

 protected:
  kj::Promise<void> stat(StatContext call) override {
    call.getResults().initEntry().setType(schema::Entry::Type::DIRECTORY);
    return kj::READY_NOW;
  }
  kj::Promise<void> list(ListContext call) override {
    auto results = call.getResults();
    auto entries = results.initEntries(said.listing.size());
    for (size_t i = 0; i < said.listing.size(); ++i) {
      entries[i].setPath(rpc::asData(said.listing[i]));
      entries[i].setType(schema::Entry::Type::FILE);
    }
    results.setAtEnd(true);
    return kj::READY_NOW;
  }
  kj::Promise<void> watch(WatchContext call) override {
    auto notify = call.getParams().getWatcher().notifyRequest();
    auto notices = notify.initNotices(said.notices.size());
    for (size_t i = 0; i < said.notices.size(); ++i) notices[i].setPath(rpc::asData(said.notices[i]));
    class Subscribed final : public schema::Subscription::Server {
      kj::Promise<void> flush(FlushContext call) override {
        call.getResults().setCursor(rpc::asData("now"));
        return kj::READY_NOW;
      }
    };
    call.getResults().setSubscription(kj::heap<Subscribed>());
    return notify.send().ignoreResult();
  }

 private:
  const Said& said;
};

class Session final : public schema::Session::Server {
 public:
  explicit Session(const Said& said) : said(said) {}

 protected:
  kj::Promise<void> fileStore(FileStoreContext call) override {
    call.getResults().setFileStore(kj::heap<Store>(said));
    return kj::READY_NOW;
  }

 private:
  const Said& said;
};

class Gateway final : public schema::Gateway::Server {
 public:
  explicit Gateway(const Said& said) : said(said) {}

 protected:
  kj::Promise<void> login(LoginContext call) override {
    call.getResults().setSession(kj::heap<Session>(said));
    return kj::READY_NOW;
  }

 private:
  const Said& said;
};

class HostileServer : public testing::Test {
 protected:
  ~HostileServer() noexcept override {
    remote = nullptr;
    client = nullptr;
  }

  storage::TempFolder temp;
  std::string address() { return std::string("unix:") + (temp / "socket").c_str(); }
  kj::AsyncIoContext io = kj::setupAsyncIo();
  Said said;
  capnp::TwoPartyServer server{kj::heap<Gateway>(said)};
  kj::Own<kj::ConnectionReceiver> receiver =
      io.provider->getNetwork().parseAddress(address()).wait(io.waitScope)->listen();
  kj::Promise<void> serving = server.listen(*receiver).eagerlyEvaluate(nullptr);
  kj::Own<client::Client> client;
  kj::Own<Replica> remote;
  std::unique_ptr<State> state = State::inMemory();
  IgnoreRules ignore{{}, [](std::string_view) -> std::optional<std::string> { return std::nullopt; }};

  Result<Replica::Look> look(const std::string& folder, const std::string& cursor = {}) {
    client::Options options;
    options.address = *rpc::parseAddress(address());
    options.retryFor = 0;
    client = kj::heap<client::Client>(io.provider->getNetwork(), io.provider->getTimer(), options);
    remote = newRemoteReplica(*client, io.provider->getTimer(), {folder, !cursor.empty(), true});
    return remote->look(*state, ignore, {false, false, cursor}).wait(io.waitScope);
  }
  ErrorCode refusalOf(std::vector<std::string> listing, const std::string& folder = "sub") {
    said.listing = std::move(listing);
    auto looked = look(folder);
    return looked.ok() ? ErrorCode::UNSET : looked.error().code;
  }
};

TEST_F(HostileServer, ListsNothingThatIsNoPathOfTheFolder) {
  EXPECT_EQ(refusalOf({"sub/a", "sub/b"}), ErrorCode::UNSET);
  std::string far = "sub";
  for (int i = 0; i < 2060; ++i) far += "/.";
  for (const std::string& path : {far + "/../../secret", std::string("sub/../../secret"), std::string("sub/./private"),
                                  std::string("/etc/passwd"), std::string("sub//a"), std::string("other/a"),
                                  std::string("a"), std::string("subway/a"), std::string("sub"), std::string(),
                                  std::string("sub/a\0b", 7), "sub/" + std::string(300, 'x')}) {
    EXPECT_EQ(refusalOf({path}), ErrorCode::CORRUPT) << path.substr(0, 100);
  }
  EXPECT_EQ(refusalOf({"../a"}, ""), ErrorCode::CORRUPT);
  EXPECT_EQ(refusalOf({"a", "./b"}, ""), ErrorCode::CORRUPT);
}

TEST_F(HostileServer, ListsInOrderOrNotAtAll) {
  EXPECT_EQ(refusalOf({"sub/b", "sub/a"}), ErrorCode::CORRUPT);
  EXPECT_EQ(refusalOf({"sub/a", "sub/a"}), ErrorCode::CORRUPT);
}

TEST_F(HostileServer, HasWhatItNoticedLookedAtWhereItIsAPathAndListsTheRest) {
  said.listing = {"sub/a", "sub/b"};
  said.notices = {"sub/a"};
  auto looked = look("sub", "before");
  ASSERT_TRUE(looked.ok());
  EXPECT_FALSE(looked->whole);
  for (const char* path : {"sub/../../secret", "sub/./private", "sub//a"}) {
    said.notices = {path};
    looked = look("sub", "before");
    ASSERT_TRUE(looked.ok()) << looked.error().message;
    EXPECT_EQ(looked->changes.count("a"), 1u);
    EXPECT_EQ(looked->changes.size(), 2u) << path << ": only what the listing has";
  }
}

TEST(LocalFolder, IsNotLeftByAPathWithDotsThatIsTooLongForOneCall) {
  storage::TempFolder temp;
  temp.write("secret", "x");
  temp.write("folder/inner", "x");
  kj::AutoCloseFd folder(open((temp / "folder").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  std::string far;
  for (int i = 0; i < 2060; ++i) far += "./";
  for (const std::string& path : {far + "../secret", far + "inner", std::string("../secret"), far + "/inner"}) {
    EXPECT_LT(openBelow(folder, path, O_RDONLY).get(), 0) << path.size();
    struct stat status;
    EXPECT_NE(statBelow(folder, path, status), 0);
  }
  EXPECT_GE(openBelow(folder, "inner", O_RDONLY).get(), 0);
}

}  // namespace
}  // namespace capstan::sync
