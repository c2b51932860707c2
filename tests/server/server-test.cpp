// The server as a whole: listening, logging in, threads, figures.
#include <capstan/server/server.h>

#include <unistd.h>

#include <set>

#include "serving.h"

namespace capstan::server {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Server, SaysHelloOverTcpAndIpv6AndAUnixSocketAtOnce) {
  Serving serving;
  serving.listenOn({"127.0.0.1:0", "[::1]:0", "unix:" + serving.base / "s.sock"});
  serving.start();
  ASSERT_EQ(serving.server->addresses().size(), 3u);
  EXPECT_NE(serving.server->addresses()[0].port, 0);
  EXPECT_EQ(serving.server->addresses()[1].host, "::1");
  EXPECT_EQ(serving.server->addresses()[2].path, serving.base / "s.sock");
  for (size_t i = 0; i < 3; ++i) {
    auto client = serving.connect(i);
    EXPECT_EQ(client.hello().getInfo().getName(), "capstan");
  }
}

TEST(Server, TellsInHelloWhatItIsAndWhatItsLimitsAre) {
  Serving serving;
  serving.limit(Limit::SERVER_CONNECTIONS, 77);
  serving.start();
  auto client = serving.connect();
  auto first = client.hello();
  auto info = first.getInfo();
  EXPECT_EQ(info.getProtocolVersion(), schema::PROTOCOL_VERSION);
  EXPECT_EQ(info.getOldestProtocolVersion(), 1u);
  EXPECT_GT(info.getVersion().size(), 0u);
  EXPECT_EQ(info.getAuthentication(), schema::Authentication::TOKEN);
  auto limits = info.getLimits();
  EXPECT_EQ(limits.getPath(), 4096u);
  EXPECT_EQ(limits.getMessage(), rpc::PeerOptions().maxMessageBytes);
  EXPECT_EQ(limits.getRead(), files::MAX_READ_BYTES);
  EXPECT_EQ(limits.getPut(), files::MAX_PUT_BYTES);
  EXPECT_EQ(limits.getListEntries(), files::MAX_LIST_ENTRIES);
  EXPECT_EQ(limits.getOpenFiles(), Limits()[Limit::CONNECTION_FILES]);
  EXPECT_EQ(limits.getUploads(), Limits()[Limit::CONNECTION_UPLOADS]);
  EXPECT_EQ(limits.getConnections(), 77u);
  EXPECT_GT(limits.getResumeTime(), 0u);
  EXPECT_EQ(limits.getWriteChunk(), files::STREAM_CHUNK_BYTES);

  // Of the process and the machine a stranger hears nothing.
  EXPECT_EQ(info.getProcessId(), 0u);
  EXPECT_EQ(info.getHost().size(), 0u);
  EXPECT_EQ(info.getUptime(), 0u);
  EXPECT_EQ(client.codeOfLogin(serving.token()), ErrorCode::UNSET);
  auto second = client.hello();
  EXPECT_EQ(second.getInfo().getProcessId(), uint32_t(getpid()));
  EXPECT_GT(second.getInfo().getHost().size(), 0u);
  EXPECT_GT(client.hello().getInfo().getUptime(), second.getInfo().getUptime());
}

TEST(Server, LetsNobodyInWithoutTheRightToken) {
  Serving serving;
  serving.start();
  auto client = serving.connect();
  std::string wrong = serving.token();
  wrong.back() ^= 1;
  EXPECT_EQ(client.codeOfLogin(), ErrorCode::DENIED);
  EXPECT_EQ(client.codeOfLogin(wrong), ErrorCode::DENIED);
  EXPECT_EQ(client.codeOfLogin(serving.token().substr(0, 31)), ErrorCode::DENIED);
  EXPECT_EQ(client.codeOfLogin(serving.token()), ErrorCode::UNSET);
}

TEST(Server, AnswersTheRefusalDownAWholePipeline) {
  Serving serving;
  serving.start();
  auto client = serving.connect();
  auto answer = client.fileStore("").statRequest().send().wait(serving.io.waitScope);
  KJ_IF_MAYBE (error, rpc::errorIn(answer.getOutcome())) {
    EXPECT_EQ(error->code, ErrorCode::DENIED);
  }
  else {
    ADD_FAILURE() << "stat was answered without a login";
  }
}

TEST(Server, LogsAWrongTokenWithThePeerAndWithoutTheToken) {
  Serving serving;
  serving.start();
  auto client = serving.connect();
  client.codeOfLogin(std::string(32, 'Q'));
  EXPECT_THAT(serving.log.text(), HasSubstr("127.0.0.1:"));
  EXPECT_THAT(serving.log.text(), HasSubstr("wrong token"));
  EXPECT_THAT(serving.log.text(), Not(HasSubstr("QQQQ")));
  EXPECT_THAT(serving.log.text(), Not(HasSubstr("51515151")));
}

TEST(Server, WantsNoTokenFromTheSameUserOnAUnixSocket) {
  Serving serving;
  serving.listenOn({"unix:" + serving.base / "s.sock"});
  serving.start();
  auto client = serving.connect();
  EXPECT_EQ(client.hello().getInfo().getAuthentication(), schema::Authentication::SAME_USER);
  EXPECT_EQ(client.codeOfLogin(), ErrorCode::UNSET);
  EXPECT_THAT(serving.log.text(), HasSubstr("process " + std::to_string(getpid())));
}

TEST(Server, WantsNoTokenWhereItWasStartedSo) {
  Serving serving;
  serving.options.authentication = Authentication::NONE;
  serving.start();
  auto client = serving.connect();
  EXPECT_EQ(client.hello().getInfo().getAuthentication(), schema::Authentication::NONE);
  EXPECT_EQ(client.codeOfLogin(), ErrorCode::UNSET);
}

TEST(Server, RefusesAProtocolVersionThatItDoesNotSpeak) {
  Serving serving;
  serving.start();
  auto client = serving.connect();
  EXPECT_EQ(client.codeOfLogin(serving.token(), schema::PROTOCOL_VERSION + 1), ErrorCode::PROTOCOL_VERSION);
  EXPECT_EQ(client.codeOfLogin(serving.token(), 0), ErrorCode::UNSET) << "0 means 1";
}

TEST(Server, SpreadsConnectionsOverItsLoopsAndKeepsEachOnOne) {
  Serving serving;
  serving.options.threads = 3;
  serving.start();
  std::vector<TestClient> clients;
  std::multiset<uint64_t> threads;
  for (unsigned i = 0; i < 6; ++i) {
    clients.push_back(serving.connect());
    auto store = clients.back().fileStore(serving.token());
    uint64_t thread = store.statRequest().send().wait(serving.io.waitScope).getEntry().getSize();
    EXPECT_EQ(store.statRequest().send().wait(serving.io.waitScope).getEntry().getSize(), thread);
    threads.insert(thread);
  }
  EXPECT_EQ(std::set<uint64_t>(threads.begin(), threads.end()).size(), 3u);
  for (uint64_t thread : threads) EXPECT_EQ(threads.count(thread), 2u);
  EXPECT_EQ(threads.count(uint64_t(gettid())), 0u) << "the acceptor's loop carries no connection";
}

TEST(Server, LogsWhoComesAndGoesAndHowManyAreThere) {
  Serving serving;
  serving.start();
  auto first = serving.connect();
  first.hello();
  {
    auto second = serving.connect();
    second.session(serving.token(), "visitor\n1.0").statusRequest().send().wait(serving.io.waitScope);
    EXPECT_THAT(serving.log.text(), HasSubstr("connected, 2 open"));
  }
  EXPECT_TRUE(serving.eventually([&]() { return serving.log.contains("disconnected, 1 open"); })) << serving.log.text();
  EXPECT_THAT(serving.log.text(), HasSubstr("visitor"));
  EXPECT_THAT(serving.log.text(), Not(HasSubstr("visitor\n"))) << "a client's name forges no line";
}

TEST(Server, LogsAClientsNameUpToALength) {
  Serving serving;
  serving.start();
  { serving.connect().login(serving.token(), "n\xc3\xa4me\x1b" + std::string(100, 'x')).wait(serving.io.waitScope); }
  ASSERT_TRUE(serving.eventually([&]() { return serving.log.contains("disconnected"); }));
  EXPECT_THAT(serving.log.text(), HasSubstr("(n\xc3\xa4me\\x1b" + std::string(59, 'x') + ")"));
}

TEST(Server, GivesFiguresOfAllLoops) {
  Serving serving;
  serving.options.cacheBytes = 12345;
  serving.options.cachePolicy = files::CachePolicy::LRU;
  serving.start();
  { serving.connect().hello(); }
  ASSERT_TRUE(serving.eventually([&]() { return serving.server->activity().connections == 0; }));
  auto first = serving.connect();
  auto second = serving.connect();
  auto upload = first.upload(serving.token());
  auto session = second.session(serving.token());
  auto answer = session.statusRequest().send().wait(serving.io.waitScope);
  auto status = answer.getStatus();
  EXPECT_EQ(status.getInfo().getName(), "capstan");
  EXPECT_EQ(status.getConnections(), 2u);
  EXPECT_EQ(status.getConnectionsAccepted(), 3u);
  EXPECT_GE(status.getSessions(), 1u);
  EXPECT_EQ(status.getUploads(), 1u);
  EXPECT_EQ(status.getDownloads(), 0u);
  EXPECT_GE(status.getCalls(), 5u);
  EXPECT_GT(status.getBytesSent(), 0u);
  EXPECT_EQ(status.getCommits(), 7u);
  EXPECT_EQ(status.getFlushes(), 3u);
  EXPECT_EQ(status.getCache().getLimit(), 12345u);
  EXPECT_EQ(status.getCache().getHits(), 11u);
  EXPECT_EQ(status.getCache().getPolicy(), schema::CachePolicy::LRU);
  EXPECT_GT(status.getResidentMemory(), 1u << 20);
  EXPECT_EQ(status.getThreads(), 2u);
  ASSERT_EQ(status.getListeners().size(), 1u);
  EXPECT_EQ(std::string(status.getListeners()[0].cStr()), serving.server->addresses()[0].toString());
  EXPECT_EQ(std::string(status.getRoot().cStr()), serving.options.root);
}

TEST(Server, KeepsWhatClosedConnectionsHaveMovedInItsFigures) {
  Serving serving;
  serving.start();
  auto watcher = serving.connect();
  auto session = watcher.session(serving.token());
  auto received = [&]() {
    return session.statusRequest().send().wait(serving.io.waitScope).getStatus().getBytesReceived();
  };
  uint64_t before = received(), sent = 0;
  {
    auto client = serving.connect();
    for (unsigned i = 0; i < 20; ++i) client.hello();
    sent = client.counters->bytesSent;
  }
  ASSERT_TRUE(serving.eventually([&]() { return serving.server->activity().connections == 1; }));
  EXPECT_GE(received(), before + sent);
}

TEST(Server, CountsSessionsUntilTheyAreDropped) {
  Serving serving;
  serving.start();
  auto watcher = serving.connect();
  auto session = watcher.session(serving.token());
  auto sessions = [&]() { return session.statusRequest().send().wait(serving.io.waitScope).getStatus().getSessions(); };
  uint32_t before = sessions();
  auto client = serving.connect();
  {
    auto other = client.session(serving.token());
    other.statusRequest().send().wait(serving.io.waitScope);
    EXPECT_EQ(sessions(), before + 1);
  }
  EXPECT_TRUE(serving.eventually([&]() { return sessions() == before; }));
}

TEST(Server, RefusesAFolderThatIsNotThere) {
  Serving serving;
  serving.options.root = serving.base / "none";
  EXPECT_EQ(serving.failure().code, ErrorCode::NOT_FOUND);
  serving.base.write("file", "");
  serving.options.root = serving.base / "file";
  EXPECT_EQ(serving.failure().code, ErrorCode::NOT_DIRECTORY);
}

TEST(Server, RefusesStateThatWouldBeServed) {
  Serving serving;
  serving.options.stateFolder = serving.base / "root/state";
  Error error = serving.failure();
  EXPECT_EQ(error.code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_THAT(error.message, HasSubstr("--state"));
  serving.base.link("way-in", "root");
  serving.options.stateFolder = serving.base / "way-in/state";
  EXPECT_EQ(serving.failure().code, ErrorCode::INVALID_ARGUMENT);
}

TEST(Server, RefusesStateThatWouldBeServedWithEverything) {
  Serving serving;
  serving.options.root = "/";
  serving.options.stateFolder = serving.base / "new-state";
  EXPECT_EQ(serving.failure().code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_FALSE(std::filesystem::exists(serving.base / "new-state")) << "nothing was made before it was refused";
}

TEST(Server, NamesTheServedFolderInFull) {
  Serving serving;
  std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(serving.options.root);
  std::string full = std::filesystem::canonical(".");
  serving.options.root = ".";
  serving.start();
  std::filesystem::current_path(before);
  auto client = serving.connect();
  auto answer = client.session(serving.token()).statusRequest().send().wait(serving.io.waitScope);
  EXPECT_EQ(std::string(answer.getStatus().getRoot().cStr()), full);
}

TEST(Server, KeepsItsStateInTheReservedFolderIfItIsTold) {
  Serving serving;
  serving.options.stateFolder = serving.base / "root/.capstan/state";
  serving.start();
  EXPECT_EQ(serving.server->ownerTokenFile(), serving.base / "root/.capstan/state/owner.token");
}

TEST(Server, DoesNotStartOnTcpWithoutAKeyForTls) {
  Serving serving;
  serving.base.write("state/tls.pem", "no key");
  std::filesystem::permissions(serving.base / "state/tls.pem", std::filesystem::perms(0600));
  EXPECT_THAT(serving.failure().message, HasSubstr("tls.pem"));
  std::filesystem::permissions(serving.base / "state/tls.pem", std::filesystem::perms(0644));
  EXPECT_THAT(serving.failure().message, HasSubstr("chmod 600"));
  serving.listenOn({"unix:" + serving.base / "socket"});
  serving.start();
}

TEST(Server, LinksItsTokenWhereClientsLookForItAndTakesTheLinkAway) {
  Serving serving;
  serving.start();
  std::string link = serving.base / ("user-state/capstan/tokens/" + serving.server->addresses()[0].toString());
  EXPECT_EQ(std::filesystem::read_symlink(link), serving.base / "state/owner.token");
  serving.server = nullptr;
  EXPECT_FALSE(std::filesystem::is_symlink(link));
}

TEST(Server, EndsWithClientsConnected) {
  Serving serving;
  serving.start();
  auto idle = serving.connect();
  idle.hello();
  auto uploading = serving.connect();
  auto upload = uploading.upload(serving.token());
  serving.server = nullptr;
  serving.inTime(idle.connection->onDisconnect());
  serving.inTime(uploading.connection->onDisconnect());
}

}  // namespace
}  // namespace capstan::server
