// Clients over TLS, and servers with several addresses: over TCP on this machine, with a fake server behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <kj/async-io.h>

#include <capstan/client/client.h>
#include <capstan/rpc/peer-connection.h>
#include <capstan/rpc/tls.h>

#include "fake-server.h"

namespace capstan::client {
namespace {

using testing::HasSubstr;

const rpc::TlsIdentity& identity() {
  static const rpc::TlsIdentity made = *rpc::TlsIdentity::make();
  return made;
}

// A server at a port of its own, on the test's loop.
class Listening final : private kj::TaskSet::ErrorHandler {
 public:
  Listening(kj::AsyncIoContext& io, bool withTls) : tasks(*this) {
    if (withTls) {
      auto made = rpc::TlsServer::make(identity());
      KJ_REQUIRE(made.ok());
      tls = std::move(*made);
    }
    auto parsed = io.provider->getNetwork().parseAddress("127.0.0.1", 0).wait(io.waitScope);
    receiver = parsed->listen();
    address = {rpc::Address::Kind::TCP, "127.0.0.1", uint16_t(receiver->getPort()), {}};
    tasks.add(acceptNext());
  }

  rpc::Address address;
  FakeTree tree;
  unsigned accepted = 0;

 private:
  rpc::WireCounters counters;
  kj::Own<rpc::TlsServer> tls;
  kj::Own<kj::ConnectionReceiver> receiver;
  std::vector<kj::Own<rpc::PeerConnection>> peers;
  kj::TaskSet tasks;

  kj::Promise<void> acceptNext() {
    return receiver->accept().then([this](kj::Own<kj::AsyncIoStream>&& stream) {
      ++accepted;
      if (tls.get() == nullptr) {
        serve(kj::mv(stream));
      } else {
        tasks.add(tls->accept(kj::mv(stream)).then([this](Result<kj::Own<kj::AsyncIoStream>>&& encrypted) {
          if (encrypted.ok()) serve(std::move(*encrypted));
        }));
      }
      return acceptNext();
    });
  }
  void serve(kj::Own<kj::AsyncIoStream> stream) {
    peers.push_back(kj::heap<rpc::PeerConnection>(kj::mv(stream), capnp::rpc::twoparty::Side::SERVER,
                                                  capnp::Capability::Client(newFakeGateway(tree)), counters));
  }
  void taskFailed(kj::Exception&&) override {}
};

struct Encrypted : testing::Test {
  kj::AsyncIoContext io = kj::setupAsyncIo();
  Options options;
  std::vector<std::string> retries;

  Encrypted() {
    options.security = {rpc::Security::Kind::PINNED, identity().certificate};
    options.onRetry = [this](const std::string& reason, uint64_t) { retries.push_back(reason); };
  }
  ~Encrypted() noexcept override = default;

  Client client() { return Client(io.provider->getNetwork(), io.provider->getTimer(), options); }
  Error failure() {
    auto hello = client().hello().wait(io.waitScope);
    EXPECT_FALSE(hello.ok());
    return hello.ok() ? Error{} : hello.error();
  }
  // Where nothing listens: a port that was given back a moment ago.
  rpc::Address deadAddress() { return Listening(io, false).address; }
};

TEST_F(Encrypted, APinnedServerIsSpokenToAsAnyOther) {
  Listening server(io, true);
  options.address = server.address;
  server.tree.put("a", std::string(1'000'000, 'x'));
  auto held = client();
  EXPECT_TRUE(held.hello().wait(io.waitScope).ok());
  auto entry = held.stat("a").wait(io.waitScope);
  ASSERT_TRUE(entry.ok());
  EXPECT_EQ(entry->size, 1'000'000u);
  EXPECT_EQ(server.accepted, 1u);
}

TEST_F(Encrypted, AnotherServerThanThePinnedOneIsDeniedOnceAndSeesNoLogin) {
  Listening server(io, true);
  options.address = server.address;
  options.security.certificate = rpc::TlsIdentity::make()->certificate;
  options.retryFirst = true;
  Error error = failure();
  EXPECT_EQ(error.code, ErrorCode::DENIED);
  EXPECT_THAT(error.message, HasSubstr("another certificate"));
  EXPECT_TRUE(retries.empty());
  EXPECT_EQ(server.accepted, 1u);
  EXPECT_EQ(server.tree.calls["login"], 0u);
}

TEST_F(Encrypted, AServerWithoutTlsIsUnreachableWithAReason) {
  Listening server(io, false);
  options.address = server.address;
  Error error = failure();
  EXPECT_EQ(error.code, ErrorCode::UNREACHABLE);
  EXPECT_EQ(server.tree.calls["login"], 0u) << "no token goes out without encryption";
}

TEST_F(Encrypted, TheNextAddressIsTriedWhereOneDoesNotAnswerAndStaysTheFirst) {
  Listening server(io, true);
  options.address = deadAddress();
  options.moreAddresses = {deadAddress(), server.address};
  auto held = client();
  EXPECT_TRUE(held.hello().wait(io.waitScope).ok());
  EXPECT_TRUE(retries.empty());
}

TEST_F(Encrypted, WhereNoAddressAnswersTheStrangerAmongThemIsTold) {
  Listening stranger(io, true);
  options.address = stranger.address;
  options.moreAddresses = {deadAddress()};
  options.security.certificate = rpc::TlsIdentity::make()->certificate;
  EXPECT_EQ(failure().code, ErrorCode::DENIED);
  options.address = deadAddress();
  EXPECT_EQ(failure().code, ErrorCode::UNREACHABLE);
}

TEST_F(Encrypted, ToThisMachineNothingIsEncryptedUnlessItIsWanted) {
  Listening server(io, false);
  options.address = server.address;
  options.security = {};
  EXPECT_TRUE(client().hello().wait(io.waitScope).ok());
}

}  // namespace
}  // namespace capstan::client
