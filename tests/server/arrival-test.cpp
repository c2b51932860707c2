// Newcomers on TCP listeners: with TLS and without, slow ones, broken ones, and ones that only look like clients.
#include <capstan/server/arrival.h>

#include <sys/socket.h>
#include <sys/stat.h>

#include <capstan/rpc/tls.h>

#include "serving.h"

namespace capstan::server {
namespace {

using testing::HasSubstr;
using Stream = kj::Own<kj::AsyncIoStream>;

constexpr uint64_t MILLISECOND = 1'000'000;

rpc::Security pinnedTo(const std::string& pem) {
  std::string certificates;
  for (auto& each : rpc::certificatesIn(pem)) certificates += each;
  return {rpc::Security::Kind::PINNED, certificates};
}

struct TlsServing : Serving {
  std::string keyFile() const { return base.read("state/tls.pem"); }

  Result<Stream> dialTls(const rpc::Security& security) {
    auto client = rpc::TlsClient::make(security);
    KJ_REQUIRE(client.ok(), client.error().message.c_str());
    return inTime((*client)->connect(dial(), server->addresses()[0]));
  }
  TestClient connectTls() {
    auto stream = dialTls(pinnedTo(keyFile()));
    KJ_REQUIRE(stream.ok(), stream.error().message.c_str());
    return TestClient(io.waitScope, std::move(*stream));
  }
  void send(kj::AsyncIoStream& stream, std::string_view bytes) { inTime(stream.write(bytes.data(), bytes.size())); }
  void whenClosed(kj::AsyncIoStream& stream) {
    inTime(stream.readAllBytes().ignoreResult().catch_([](kj::Exception&&) {}));
  }
  bool becomes(uint32_t connections) {
    return eventually([&]() { return server->activity().connections == connections; });
  }
  void replaceKey(const std::string& text) {
    base.write("state/tls.pem", text);
    chmod((base / "state/tls.pem").c_str(), 0600);
  }
};

TEST(LookAt, TellsTlsFromAnythingElseByTheFirstRecord) {
  struct Row {
    std::string bytes;
    bool atEnd;
    FirstBytes expected;
  };
  std::string record = std::string("\x16\x03\x01\x00\x05", 5) + "hello";
  for (auto& row : {
           Row{"", false, FirstBytes::NONE},
           {"\x16", false, FirstBytes::PART},
           {"\x16", true, FirstBytes::TLS},
           {record.substr(0, 9), false, FirstBytes::PART},
           {record, false, FirstBytes::TLS},
           {record + "more", false, FirstBytes::TLS},
           {std::string("\x16\x03\x01\xff\xff", 5), false, FirstBytes::TLS},
           {std::string("\0\0\0\0", 4), false, FirstBytes::PLAIN},
           {"G", false, FirstBytes::PLAIN},
           {"\x17\x03\x01", false, FirstBytes::PLAIN},
       }) {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    kj::AutoCloseFd server(ends[0]), peer(ends[1]);
    ASSERT_EQ(write(peer, row.bytes.data(), row.bytes.size()), ssize_t(row.bytes.size()));
    EXPECT_EQ(lookAt(server, row.atEnd), row.expected) << row.bytes;
    EXPECT_EQ(lookAt(server, row.atEnd), row.expected) << "nothing is taken away";
    if (!row.bytes.empty()) continue;
    peer = nullptr;
    EXPECT_EQ(lookAt(server, false), FirstBytes::GONE);
  }
}

TEST(MayBePlain, IsWhatNeverLeavesThisMachineAndAllIfItIsTold) {
  PeerIdentity afar, local, socket;
  local.isLocal = true;
  socket.isUnix = true;
  EXPECT_FALSE(mayBePlain(afar, false));
  EXPECT_TRUE(mayBePlain(afar, true));
  EXPECT_TRUE(mayBePlain(local, false));
  EXPECT_TRUE(mayBePlain(socket, false));
}

TEST(Arrivals, SpeakTlsAndPlainAtOneAddress) {
  TlsServing serving;
  serving.start();
  auto encrypted = serving.connectTls();
  auto plain = serving.connect();
  EXPECT_EQ(encrypted.codeOfLogin(serving.token()), ErrorCode::UNSET);
  EXPECT_EQ(plain.codeOfLogin(serving.token()), ErrorCode::UNSET);
  EXPECT_EQ(encrypted.codeOfLogin("wrong"), ErrorCode::DENIED);
  EXPECT_TRUE(serving.becomes(2));
  encrypted.connection = nullptr;
  EXPECT_TRUE(serving.becomes(1));
}

TEST(Arrivals, AClientThatExpectsAnotherServerLeavesAndTheServerGoesOn) {
  TlsServing serving;
  serving.start();
  auto stream = serving.dialTls(pinnedTo(rpc::TlsIdentity::make()->certificate));
  ASSERT_FALSE(stream.ok());
  EXPECT_EQ(stream.error().code, ErrorCode::DENIED);
  EXPECT_TRUE(serving.becomes(0));
  EXPECT_EQ(serving.connectTls().hello().getInfo().getName(), "capstan");
}

TEST(Arrivals, AreEndedWhenTheirHandshakeTakesTooLong) {
  TlsServing serving;
  serving.limit(Limit::CONNECTION_LOGIN_TIME, 50 * MILLISECOND);
  serving.start();
  std::string record("\x16\x03\x01\x00\x05hello", 10);
  for (size_t size : {0, 1, 5, 9}) {
    auto slow = serving.dial();
    if (size > 0) serving.send(*slow, record.substr(0, size));
    serving.whenClosed(*slow);
  }
  EXPECT_TRUE(serving.becomes(0));
  EXPECT_TRUE(serving.eventually([&]() { return serving.log.contains("log in in time"); }));
}

TEST(Arrivals, AreOpenFromTheirFirstMomentAndTakeNoPlaceFromThoseWhoLogIn) {
  TlsServing serving;
  serving.limit(Limit::SERVER_CONNECTIONS, 1);
  serving.limit(Limit::SERVER_NEWCOMERS, 2);
  serving.start();
  auto silent = serving.dial();
  EXPECT_TRUE(serving.becomes(1));
  auto second = serving.dial();
  EXPECT_TRUE(serving.becomes(2));
  EXPECT_EQ(serving.connectTls().codeOfLogin(serving.token()), ErrorCode::UNSET);
  serving.whenClosed(*silent);
  second = nullptr;
  EXPECT_TRUE(serving.becomes(0));
  EXPECT_EQ(serving.connectTls().codeOfLogin(serving.token()), ErrorCode::UNSET);
}

TEST(Arrivals, WhoHangsUpInTheMiddleIsGoneAtOnce) {
  TlsServing serving;
  serving.start();
  for (std::string bytes : {"", "\x16", "\x16\x03\x01\x10\x10 not all"}) {
    auto peer = serving.dial();
    if (!bytes.empty()) serving.send(*peer, bytes);
    peer->shutdownWrite();
    serving.whenClosed(*peer);
  }
  EXPECT_TRUE(serving.becomes(0));
}

TEST(Arrivals, WhatOnlyLooksLikeTlsIsEndedWithAReason) {
  TlsServing serving;
  serving.start();
  auto peer = serving.dial();
  serving.send(*peer, std::string("\x16\x03\x01\x00\x05hello", 10));
  serving.whenClosed(*peer);
  EXPECT_TRUE(serving.eventually([&]() { return serving.log.contains("the TLS handshake failed"); }));
  EXPECT_TRUE(serving.becomes(0));
}

TEST(Arrivals, ManyHandshakesAtOnceAllSucceed) {
  TlsServing serving;
  serving.start();
  auto security = pinnedTo(serving.keyFile());
  auto client = rpc::TlsClient::make(security);
  std::vector<kj::Promise<Result<Stream>>> handshakes;
  for (unsigned i = 0; i < 100; ++i) {
    handshakes.push_back((*client)->connect(serving.dial(), serving.server->addresses()[0]).eagerlyEvaluate(nullptr));
  }
  for (auto& each : handshakes) EXPECT_TRUE(serving.inTime(kj::mv(each)).ok());
}

TEST(ReloadTls, GivesNewcomersTheNewKeyAndLeavesTheOthersAlone) {
  TlsServing serving;
  serving.start();
  auto before = serving.connectTls();
  before.hello();
  std::string oldKey = serving.keyFile();
  auto next = rpc::TlsIdentity::make();
  serving.replaceKey(next->key + next->certificate);
  ASSERT_TRUE(serving.server->reloadTls().ok());
  EXPECT_FALSE(serving.dialTls(pinnedTo(oldKey)).ok());
  EXPECT_EQ(serving.connectTls().hello().getInfo().getName(), "capstan");
  EXPECT_EQ(before.hello().getInfo().getName(), "capstan");
}

TEST(ReloadTls, KeepsTheOldKeyWhenTheNewOneCannotBeUsed) {
  TlsServing serving;
  serving.start();
  auto security = pinnedTo(serving.keyFile());
  serving.replaceKey("nothing");
  auto reloaded = serving.server->reloadTls();
  ASSERT_FALSE(reloaded.ok());
  EXPECT_TRUE(serving.eventually([&]() { return serving.log.contains("stay as they were"); }));
  EXPECT_TRUE(serving.dialTls(security).ok());
}

TEST(OwnCertificate, IsShownInsteadOfTheServersAndNeedsItsKey) {
  TlsServing serving;
  auto mine = rpc::TlsIdentity::make();
  serving.base.write("mine.pem", mine->certificate);
  serving.base.write("mine.key", mine->key);
  serving.options.tlsCertificate = serving.base / "mine.pem";
  EXPECT_EQ(serving.failure().code, ErrorCode::INVALID_ARGUMENT);
  serving.options.tlsKey = serving.base / "mine.key";
  serving.start();
  EXPECT_TRUE(serving.dialTls(pinnedTo(mine->certificate)).ok());
}

}  // namespace
}  // namespace capstan::server
