// Shares over RPC: making them, logging in with them, looking at them, and ending them.
#include <capstan/server/access/grants-server.h>

#include <chrono>
#include <cstdio>

#include "../sharing.h"

namespace capstan::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class SharesTest : public testing::Test {
 protected:
  Sharing serving;
  std::unique_ptr<TestClient> owner;

  ~SharesTest() noexcept {}
  SharesTest() {
    serving.base.write("root/photos/a.jpg", "a");
    serving.base.write("root/file", "b");
  }
  void start() {
    serving.start();
    owner = std::make_unique<TestClient>(serving.connect());
  }
  schema::Grants::Client ownersGrants() { return serving.grantsOf(*owner, serving.token()); }
};

struct Listed {
  std::vector<std::string> labels, ids;
  bool atEnd;
};
Listed list(Sharing& serving, schema::Grants::Client grants, uint32_t most = 0, const std::string& cursor = {}) {
  auto request = grants.listRequest();
  request.setMaxEntries(most);
  request.setCursor(rpc::asData(cursor));
  auto answer = serving.wait(request.send());
  EXPECT_EQ(errorOf(answer).code, ErrorCode::UNSET);
  Listed listed{{}, {}, answer.getAtEnd()};
  for (auto share : answer.getShares()) {
    listed.labels.push_back(share.getLabel().cStr());
    listed.ids.push_back(share.getId().cStr());
  }
  return listed;
}

TEST_F(SharesTest, ATokenOpensWhatWasSharedWithTheRightsThatWereGiven) {
  start();
  auto made = serving.share(*owner, {.path = "photos"});
  ASSERT_EQ(made.error.code, ErrorCode::UNSET) << made.error.message;
  EXPECT_EQ(made.token.size(), 32u);
  auto guest = serving.connect();
  ASSERT_EQ(serving.loginError(guest, made.token).code, ErrorCode::UNSET);
  auto store = guest.fileStore(made.token);
  EXPECT_EQ(serving.statError(store).code, ErrorCode::UNSET);
  auto folder = store.makeDirectoryRequest();
  folder.setPath(rpc::asData("new"));
  EXPECT_EQ(errorOf(serving.wait(folder.send())).code, ErrorCode::DENIED);
  EXPECT_EQ(errorOf(serving.wait(guest.session(made.token).computeRequest().send())).code, ErrorCode::DENIED);
}

TEST_F(SharesTest, OnlyFoldersAreSharedAndOnlyWithRightsThatOneHas) {
  start();
  EXPECT_EQ(serving.share(*owner, {.path = "file"}).error.code, ErrorCode::NOT_DIRECTORY);
  EXPECT_EQ(serving.share(*owner, {.path = "missing"}).error.code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(serving.share(*owner, {.path = "a/../b"}).error.code, ErrorCode::INVALID_PATH);
  EXPECT_EQ(serving.share(*owner, {.path = ".capstan"}).error.code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(serving.share(*owner, {.label = std::string(101, 'x')}).error.code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_EQ(serving.share(*owner, {.label = "\xff"}).error.code, ErrorCode::INVALID_ARGUMENT);
  std::string hundred;
  for (int i = 0; i < 100; ++i) hundred += "\xc3\xa4";
  EXPECT_EQ(serving.share(*owner, {.label = hundred}).error.code, ErrorCode::UNSET);
  auto made = serving.share(*owner, {.write = true});
  auto guest = serving.connect();
  auto store = guest.fileStore(made.token);
  EXPECT_EQ(serving.share(store, {.compute = true}).error.code, ErrorCode::DENIED);
  EXPECT_EQ(serving.share(store, {.write = true}).error.code, ErrorCode::UNSET);
}

TEST_F(SharesTest, AShareTellsOnlyWhatIsItsBusiness) {
  start();
  auto photos = serving.share(*owner, {.path = "photos", .label = "photos"});
  serving.share(*owner, {.label = "another"});
  auto guest = serving.connect();
  serving.share(guest.fileStore(photos.token), {.label = "of a guest"});
  auto status = serving.wait(guest.session(photos.token).statusRequest().send());
  ASSERT_EQ(errorOf(status).code, ErrorCode::UNSET);
  EXPECT_EQ(status.getStatus().getRoot().size(), 0u);
  EXPECT_EQ(status.getStatus().getListeners().size(), 0u);
  EXPECT_EQ(status.getStatus().getConnectionsAccepted(), 0u);
  EXPECT_EQ(status.getStatus().getConnections(), 1u);
  auto grants = serving.grantsOf(guest, photos.token);
  EXPECT_THAT(list(serving, grants).labels, ElementsAre("of a guest"));
  auto current = serving.wait(grants.currentRequest().send());
  EXPECT_EQ(current.getShare().getId(), photos.id.c_str());
  EXPECT_EQ(rpc::asView(current.getShare().getPath()), "") << "its tree begins there";
  auto revoked = serving.revoke(grants, list(serving, ownersGrants()).ids.back());
  EXPECT_EQ(revoked.error.code, ErrorCode::NOT_FOUND);
}

TEST_F(SharesTest, ListsInPages) {
  start();
  for (auto label : {"a", "b", "c"}) serving.share(*owner, {.path = "photos", .label = label});
  auto grants = ownersGrants();
  auto first = list(serving, grants, 2);
  EXPECT_THAT(first.labels, ElementsAre("a", "b"));
  EXPECT_FALSE(first.atEnd);
  auto second = list(serving, grants, 2, first.ids.back());
  EXPECT_THAT(second.labels, ElementsAre("c"));
  EXPECT_TRUE(second.atEnd);
  auto request = grants.listRequest();
  request.setCursor(rpc::asData("nonsense"));
  EXPECT_EQ(errorOf(serving.wait(request.send())).code, ErrorCode::INVALID_ARGUMENT);
}

TEST_F(SharesTest, TellsWhereItListensAndByWhichCertificateItIsKnown) {
  serving.listenOn({"localhost:0", "unix:" + serving.base / "s.sock"});
  start();
  auto contact = serving.wait(ownersGrants().contactRequest().send());
  ASSERT_EQ(contact.getAddresses().size(), 2u);
  auto port = serving.server->addresses()[0].port;
  EXPECT_EQ(contact.getAddresses()[0], kj::str("localhost:", port));
  EXPECT_EQ(contact.getAddresses()[1], ("unix:" + serving.base / "s.sock").c_str());
  EXPECT_THAT(std::string(contact.getCertificate().cStr()), HasSubstr("BEGIN CERTIFICATE"));
  auto guest = serving.connect();
  auto guests = serving.grantsOf(guest, serving.share(*owner, {}).token);
  auto told = serving.wait(guests.contactRequest().send());
  ASSERT_EQ(told.getAddresses().size(), 1u) << "where the socket is, is the owner's business";
  EXPECT_EQ(told.getAddresses()[0], kj::str("localhost:", port));
}

TEST_F(SharesTest, RevokingEndsTheShareAndWhatWasMadeFromItAndNamesTheLabel) {
  start();
  auto parent = serving.share(*owner, {.label = "for Ann"});
  auto guest = serving.connect();
  auto store = guest.fileStore(parent.token);
  auto child = serving.share(store, {.label = "for Ann's friend"});
  auto friends = serving.connect();
  auto friendsStore = friends.fileStore(child.token);
  EXPECT_EQ(serving.statError(friendsStore).code, ErrorCode::UNSET);
  auto revoked = serving.revoke(ownersGrants(), parent.id);
  EXPECT_EQ(revoked.error.code, ErrorCode::UNSET);
  EXPECT_EQ(revoked.ended, 2u);
  auto error = serving.statError(store);
  EXPECT_EQ(error.code, ErrorCode::REVOKED);
  EXPECT_THAT(error.message, HasSubstr("for Ann"));
  EXPECT_EQ(serving.statError(friendsStore).code, ErrorCode::REVOKED);
  auto login = serving.loginError(friends, child.token);
  EXPECT_EQ(login.code, ErrorCode::REVOKED);
  EXPECT_THAT(login.message, HasSubstr("for Ann's friend"));
  EXPECT_EQ(serving.revoke(ownersGrants(), parent.id).ended, 0u);
  EXPECT_EQ(serving.revoke(ownersGrants(), "owner").error.code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_EQ(serving.statError(owner->fileStore(serving.token())).code, ErrorCode::UNSET);
}

TEST_F(SharesTest, WhoeverRevokesItsOwnGrantHearsThatItIsDone) {
  start();
  auto made = serving.share(*owner, {});
  auto guest = serving.connect();
  auto store = guest.fileStore(made.token);
  auto revoked = serving.revoke(serving.grantsOf(guest, made.token), made.id);
  EXPECT_EQ(revoked.error.code, ErrorCode::UNSET) << revoked.error.message;
  EXPECT_EQ(revoked.ended, 1u);
  EXPECT_EQ(serving.statError(store).code, ErrorCode::REVOKED);
}

TEST_F(SharesTest, ALimitedShareOpensAsOftenAsItMay) {
  start();
  auto made = serving.share(*owner, {.label = "twice", .uses = 2});
  auto guest = serving.connect();
  auto store = guest.fileStore(made.token);
  EXPECT_EQ(serving.statError(store).code, ErrorCode::UNSET);
  EXPECT_EQ(serving.loginError(guest, made.token).code, ErrorCode::UNSET);
  auto third = serving.loginError(guest, made.token);
  EXPECT_EQ(third.code, ErrorCode::EXPIRED);
  EXPECT_THAT(third.message, HasSubstr("twice"));
  EXPECT_EQ(serving.statError(store).code, ErrorCode::UNSET) << "what stands, stays";
  auto answer = serving.wait(ownersGrants().listRequest().send());
  EXPECT_EQ(answer.getShares()[0].getState(), schema::Share::State::USED_UP);
  EXPECT_EQ(answer.getShares()[0].getUsed(), 2u);
  EXPECT_EQ(answer.getShares()[0].getConnections(), 1u);
}

TEST_F(SharesTest, AnInviteGivesItsRightsAlsoWhereNoTokenIsNeeded) {
  serving.listenOn({"unix:" + serving.base / "s.sock"});
  start();
  auto made = serving.share(owner->fileStore(""), {});
  auto guest = serving.connect();
  auto folder = guest.fileStore(made.token).makeDirectoryRequest();
  folder.setPath(rpc::asData("new"));
  EXPECT_EQ(errorOf(serving.wait(folder.send())).code, ErrorCode::DENIED);
  EXPECT_EQ(serving.loginError(guest, "no such token").code, ErrorCode::DENIED);
  EXPECT_EQ(serving.loginError(guest, "").code, ErrorCode::UNSET);
  auto status = serving.wait(guest.session("").statusRequest().send());
  EXPECT_EQ(status.getStatus().getFailedLogins(), 1u);
}

TEST_F(SharesTest, SharesAndTheirEndOutliveTheServer) {
  start();
  auto live = serving.share(*owner, {.label = "live"}), ended = serving.share(*owner, {.label = "ended"});
  serving.revoke(ownersGrants(), ended.id);
  owner = nullptr;
  serving.server = nullptr;
  start();
  auto guest = serving.connect();
  EXPECT_EQ(serving.loginError(guest, live.token).code, ErrorCode::UNSET);
  EXPECT_EQ(serving.loginError(guest, ended.token).code, ErrorCode::REVOKED);
  EXPECT_THAT(list(serving, ownersGrants()).labels, ElementsAre("live", "ended"));
}

TEST_F(SharesTest, AnotherServerOfTheFolderEndsWhatItWasRevokedAt) {
  start();
  auto made = serving.share(*owner, {.label = "everywhere"});
  auto options = serving.options;
  options.stateFolder = serving.base / "other-state";
  auto other = Server::start(options, serving.io.unixEventPort, serving.io.provider->getTimer());
  ASSERT_TRUE(other.ok()) << other.error().message;
  auto guest = serving.connectTo(**other);
  auto store = guest.fileStore(made.token);
  EXPECT_EQ(serving.statError(store).code, ErrorCode::UNSET);
  auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(serving.revoke(ownersGrants(), made.id).ended, 1u);
  EXPECT_TRUE(serving.eventually([&]() { return serving.statError(store).code == ErrorCode::REVOKED; }));
  auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  printf("the other server had noticed after %.1f s\n", seconds);
  EXPECT_TRUE(serving.eventually([&]() { return serving.log.contains("revoked at another server"); }));
}

TEST_F(SharesTest, NothingSecretIsLogged) {
  start();
  auto made = serving.share(*owner, {.label = "logged"});
  auto guest = serving.connect();
  serving.loginError(guest, made.token);
  serving.revoke(ownersGrants(), made.id);
  serving.loginError(guest, made.token);
  auto text = serving.log.text();
  EXPECT_THAT(text, HasSubstr(made.id));
  std::string hex;
  for (unsigned char byte : made.token) hex += kj::str(kj::hex(byte)).cStr();
  EXPECT_THAT(text, Not(HasSubstr(made.token)));
  EXPECT_THAT(text, Not(HasSubstr(hex)));
}

}  // namespace
}  // namespace capstan::server
