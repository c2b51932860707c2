// What is left at the server of a grant that has ended, while another login lives on the same connection and the client
// keeps every capability: nothing. Descriptors, staged content, batches, subscriptions, values, and what counts them.
#include <map>

#include <capstan/server/access/limits.h>
#include <capstan/storage/staging.h>

#include "../sharing.h"

namespace capstan::server {
namespace {

constexpr size_t CONTENT_BYTES = 1000;

class CountingWatcher final : public schema::Watcher::Server {
 public:
  explicit CountingWatcher(unsigned& notices) : notices(notices) {}

 protected:
  kj::Promise<void> notify(NotifyContext context) override {
    notices += context.getParams().getNotices().size();
    return kj::READY_NOW;
  }

 private:
  unsigned& notices;
};

// One login, and one of everything that it may hold.
struct Holding {
  Sharing& serving;
  const std::string name;
  unsigned notices = 0;
  schema::Session::Client session;
  schema::FileStore::Client store;
  schema::File::Client file = nullptr;
  schema::Upload::Client upload = nullptr, resumable = nullptr;
  schema::Batch::Client batch = nullptr;
  schema::Subscription::Client subscription = nullptr;
  schema::ByteSink::Client sink = nullptr;
  schema::Value::Client value = nullptr;

  Holding(Sharing& serving, TestClient& client, const std::string& token, const std::string& nameParam)
      : serving(serving),
        name(nameParam),
        session(client.session(token)),
        store(session.fileStoreRequest().send().getFileStore()) {
    auto open = store.openRequest();
    open.setPath(rpc::asData("held-" + name));
    file = serving.wait(open.send()).getFile();
    upload = begin("new-" + name, {});
    resumable = begin("resumable-" + name, "key");
    batch = serving.wait(store.beginRequest().send()).getBatch();
    auto add = batch.addRequest();
    auto put = add.initOperations(1)[0].initPut();
    put.setPath(rpc::asData("batched-" + name));
    put.initContent(CONTENT_BYTES);
    serving.wait(add.send());
    auto watch = store.watchRequest();
    watch.setWatcher(kj::heap<CountingWatcher>(notices));
    subscription = serving.wait(watch.send()).getSubscription();
    auto collect = session.computeRequest().send().getCompute().collectRequest();
    collect.setType(schema::ElementType::INT);
    auto collecting = serving.wait(collect.send());
    sink = collecting.getSink();
    value = collecting.getValue();
    auto write = sink.writeRequest();
    write.setData(rpc::asData("1\n2\n"));
    serving.wait(write.send());
    serving.wait(sink.endRequest().send());
  }

  schema::Upload::Client begin(const std::string& path, const std::string& key) {
    auto create = store.createRequest();
    create.setPath(rpc::asData(path));
    if (!key.empty()) create.initOptions().setResumeKey(rpc::asData(key));
    auto begun = serving.wait(create.send()).getUpload();
    auto write = begun.writeRequest();
    write.initData(CONTENT_BYTES);
    serving.wait(write.send());
    EXPECT_EQ(errorOf(serving.wait(begun.endRequest().send())).code, ErrorCode::UNSET);
    return begun;
  }

  // Of each capability, to a call on it.
  std::vector<ErrorCode> answers() {
    std::vector<ErrorCode> codes;
    codes.push_back(errorOf(serving.wait(session.statusRequest().send())).code);
    codes.push_back(serving.statError(store, "held-" + name).code);
    codes.push_back(errorOf(serving.wait(file.readRequest().send())).code);
    codes.push_back(errorOf(serving.wait(upload.commitRequest().send())).code);
    codes.push_back(errorOf(serving.wait(resumable.commitRequest().send())).code);
    codes.push_back(errorOf(serving.wait(batch.commitRequest().send())).code);
    codes.push_back(errorOf(serving.wait(subscription.flushRequest().send())).code);
    codes.push_back(errorOf(serving.wait(value.describeRequest().send())).code);
    return codes;
  }
};

class LettingGoTest : public testing::Test {
 protected:
  ~LettingGoTest() noexcept {}

  Sharing serving;
  std::unique_ptr<TestClient> owner, guest;
  schema::Grants::Client ownersGrants = nullptr;

  void start() {
    for (auto name : {"one", "two"}) serving.base.write(std::string("root/held-") + name, "held");
    serving.start();
    owner = std::make_unique<TestClient>(serving.connect());
    guest = std::make_unique<TestClient>(serving.connect());
    ownersGrants = serving.grantsOf(*owner, serving.token());
  }
  Sharing::Made share(const std::string& label, uint64_t lifetime = 0) {
    return serving.share(*owner, {.write = true, .compute = true, .label = label, .lifetime = lifetime});
  }

  // By the connection that uses most, which is the guest's.
  std::map<Resource, uint64_t> used() {
    auto answer = serving.wait(owner->session(serving.token()).statusRequest().send());
    std::map<Resource, uint64_t> used;
    for (const LimitRow& row : limitTable()) {
      if (row.scope != LimitScope::CONNECTION || !row.resource) continue;
      used[*row.resource] = answer.getStatus().getLimits()[unsigned(row.limit)].getUsed();
    }
    // Of calls in flight, and of the owner's own.
    for (auto resource : {Resource::CALLS, Resource::STREAMS, Resource::LOGINS}) used.erase(resource);
    return used;
  }
  unsigned descriptorsOf(const std::string& path) {
    unsigned count = 0;
    for (auto& each : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      count += std::filesystem::read_symlink(each, gone).string() == serving.base / path;
    }
    return count;
  }
  unsigned filesIn(const std::string& folder) {
    unsigned count = 0;
    std::error_code gone;
    for (auto& each :
         std::filesystem::recursive_directory_iterator(serving.base / ("root/.capstan/staging/" + folder), gone)) {
      count += each.is_regular_file(gone) && each.path().filename() != "lock";
    }
    return count;
  }
};

TEST_F(LettingGoTest, LeavesNothingOfOneLoginAndAllOfTheOtherOnOneConnection) {
  start();
  auto one = share("one"), other = share("two");
  Holding ending(serving, *guest, one.token, "one"), living(serving, *guest, other.token, "two");
  auto before = used();
  for (auto& [resource, amount] : before) EXPECT_GE(amount, 2u) << int(resource);
  EXPECT_EQ(descriptorsOf("root/held-one"), 1u);
  EXPECT_EQ(filesIn(""), 6u);

  serving.revoke(ownersGrants, one.id);
  for (auto& [resource, amount] : used()) EXPECT_EQ(amount * 2, before[resource]) << int(resource);
  EXPECT_EQ(descriptorsOf("root/held-one"), 0u);
  EXPECT_EQ(descriptorsOf("root/held-two"), 1u);
  EXPECT_TRUE(serving.eventually([&]() { return filesIn("") == 3; })) << filesIn("");
  for (auto code : ending.answers()) EXPECT_EQ(code, ErrorCode::REVOKED);
  for (auto code : living.answers()) EXPECT_EQ(code, ErrorCode::UNSET);
  EXPECT_TRUE(serving.eventually([&]() { return living.notices >= 3; }));
  EXPECT_EQ(ending.notices, 0u);
  EXPECT_TRUE(std::filesystem::exists(serving.base / "root/batched-two"));
  EXPECT_FALSE(std::filesystem::exists(serving.base / "root/batched-one"));
}

TEST_F(LettingGoTest, ComesByItselfWhenAGrantsTimeIsOver) {
  start();
  auto one = share("one", 3'000'000'000), other = share("two");
  Holding living(serving, *guest, other.token, "two");
  auto before = used();
  Holding ending(serving, *guest, one.token, "one");
  EXPECT_TRUE(serving.eventually([&]() { return used() == before; }));
  EXPECT_EQ(descriptorsOf("root/held-one"), 0u);
  EXPECT_TRUE(serving.eventually([&]() { return filesIn("") == 3; }));
  for (auto code : living.answers()) EXPECT_EQ(code, ErrorCode::UNSET);
}

class LeftoversOfEndedGrants : public LettingGoTest {
 protected:
  ~LeftoversOfEndedGrants() noexcept {}

  // A dropped upload that can be resumed, on a connection that has ended.
  void leave(const std::string& token) {
    auto create = guest->fileStore(token).createRequest();
    create.setPath(rpc::asData("left"));
    create.initOptions().setResumeKey(rpc::asData("key"));
    auto upload = serving.wait(create.send()).getUpload();
    auto write = upload.writeRequest();
    write.initData(CONTENT_BYTES);
    serving.wait(write.send());
    EXPECT_EQ(errorOf(serving.wait(upload.endRequest().send())).code, ErrorCode::UNSET);
  }
  // The server's own for what has ended: the next one comes later than a test waits.
  void endFirstLook() {
    auto old = share("old");
    serving.revoke(ownersGrants, old.id);
    serving.base.write("root/.capstan/staging/resume/" + storage::Staging::resumeNameOf(old.id, "left", "key"), "left");
    EXPECT_TRUE(serving.eventually([&]() { return filesIn("resume") == 0; }));
  }
  uint64_t staged() {
    auto answer = serving.wait(owner->session(serving.token()).statusRequest().send());
    return answer.getStatus().getLimits()[unsigned(Limit::SERVER_STAGED_BYTES)].getUsed();
  }
};

TEST_F(LeftoversOfEndedGrants, AreDeletedWithTheRevocationAndThoseOfOthersAreNot) {
  start();
  endFirstLook();
  auto one = share("one"), other = share("two");
  leave(one.token);
  leave(other.token);
  guest = nullptr;
  EXPECT_TRUE(serving.eventually([&]() { return serving.server->activity().uploads == 0; }));
  EXPECT_EQ(filesIn("resume"), 2u);
  EXPECT_EQ(staged(), 2 * CONTENT_BYTES);
  serving.revoke(ownersGrants, one.id);
  EXPECT_TRUE(serving.eventually([&]() { return staged() == CONTENT_BYTES; }));
  EXPECT_EQ(filesIn("resume"), 1u);
}

TEST_F(LeftoversOfEndedGrants, AreDeletedByTheNextServerIfTheyEndedMeanwhile) {
  start();
  endFirstLook();
  auto brief = share("brief", 3'000'000'000), other = share("two");
  leave(brief.token);
  leave(other.token);
  EXPECT_TRUE(serving.eventually([&]() { return serving.loginError(*guest, brief.token).code == ErrorCode::EXPIRED; }));
  guest = nullptr;
  owner = nullptr;
  ownersGrants = nullptr;
  serving.server = nullptr;
  EXPECT_EQ(filesIn("resume"), 2u);
  serving.start();
  EXPECT_TRUE(serving.eventually([&]() { return filesIn("resume") == 1; }));
}

}  // namespace
}  // namespace capstan::server
