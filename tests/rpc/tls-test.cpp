#include <capstan/rpc/tls.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <kj/async-io.h>
#include <kj/compat/tls.h>
#include <openssl/err.h>

namespace capstan::rpc {
namespace {

using testing::HasSubstr;
using Stream = kj::Own<kj::AsyncIoStream>;

const TlsIdentity& identity() {
  static const TlsIdentity made = *TlsIdentity::make();
  return made;
}

Security pinnedTo(const TlsIdentity& expected) { return {Security::Kind::PINNED, expected.certificate}; }

struct Tls : testing::Test {
  ~Tls() noexcept override = default;
  kj::AsyncIoContext io = kj::setupAsyncIo();
  kj::TwoWayPipe pipe = io.provider->newTwoWayPipe();
  Address address = *parseAddress("files.example:4457");

  struct Ends {
    Result<Stream> server, client;
  };
  Ends shakeHands(const Security& security, const TlsIdentity& shown = identity()) {
    auto server = TlsServer::make(shown);
    auto client = TlsClient::make(security);
    EXPECT_TRUE(server.ok() && client.ok());
    auto accepted = (*server)->accept(kj::mv(pipe.ends[0])).eagerlyEvaluate(nullptr);
    auto connected = (*client)->connect(kj::mv(pipe.ends[1]), address).wait(io.waitScope);
    return {accepted.wait(io.waitScope), std::move(connected)};
  }
  Error failureOf(const Security& security, const TlsIdentity& shown = identity()) {
    auto ends = shakeHands(security, shown);
    EXPECT_FALSE(ends.client.ok());
    EXPECT_EQ(ERR_peek_error(), 0u);
    return ends.client.ok() ? Error{} : ends.client.error();
  }
  std::string read(kj::AsyncIoStream& stream, size_t count) {
    std::string text(count, '?');
    stream.read(text.data(), count).wait(io.waitScope);
    return text;
  }
  // What a peer that is no TLS client or server gets to see of this end.
  void say(kj::AsyncIoStream& stream, const std::string& text) {
    stream.write(text.data(), text.size()).wait(io.waitScope);
  }
};

TEST_F(Tls, CarriesBytesBothWaysOnceThePinFits) {
  auto ends = shakeHands(pinnedTo(identity()));
  ASSERT_TRUE(ends.server.ok()) << ends.server.error().message;
  ASSERT_TRUE(ends.client.ok()) << ends.client.error().message;
  say(**ends.client, "hello");
  EXPECT_EQ(read(**ends.server, 5), "hello");
  std::string much(3'000'000, 'y');
  auto writing = (*ends.server)->write(much.data(), much.size());
  EXPECT_EQ(read(**ends.client, much.size()), much);
  writing.wait(io.waitScope);
}

TEST_F(Tls, TheEndOfOneSideIsTheEndOfTheStreamAtTheOther) {
  auto ends = shakeHands(pinnedTo(identity()));
  ASSERT_TRUE(ends.client.ok());
  say(**ends.client, "bye");
  (*ends.client)->shutdownWrite();
  EXPECT_EQ((*ends.server)->readAllText().wait(io.waitScope), "bye");
}

TEST_F(Tls, APeerThatVanishesIsADisconnection) {
  auto ends = shakeHands(pinnedTo(identity()));
  ASSERT_TRUE(ends.client.ok());
  // Without the end that TLS has for itself: as when the process is killed.
  auto fd = (*ends.client)->getFd();
  auto reading = (*ends.server)->readAllText();
  EXPECT_FALSE(reading.poll(io.waitScope));
  ends.client = Error{};
  auto exception = kj::runCatchingExceptions([&]() { reading.wait(io.waitScope); });
  KJ_IF_MAYBE (e, exception) {
    EXPECT_EQ(e->getType(), kj::Exception::Type::DISCONNECTED) << e->getDescription().cStr();
  }
}

TEST_F(Tls, AnotherCertificateIsDeniedBeforeAnythingIsSent) {
  Error error = failureOf(pinnedTo(*TlsIdentity::make()));
  EXPECT_EQ(error.code, ErrorCode::DENIED);
  EXPECT_THAT(error.message, HasSubstr("files.example:4457 shows another certificate"));
  EXPECT_THAT(error.message, HasSubstr("new invite"));
}

TEST_F(Tls, AnotherKeyUnderTheSameNameIsNotTaken) {
  // Both certificates have the same subject and issuer: what counts is the key.
  TlsIdentity other = *TlsIdentity::make();
  EXPECT_EQ(failureOf(pinnedTo(identity()), other).code, ErrorCode::DENIED);
}

TEST_F(Tls, TheSystemDoesNotTrustWhatAServerHasMadeForItself) {
  Error error = failureOf({Security::Kind::SYSTEM, {}});
  EXPECT_EQ(error.code, ErrorCode::DENIED);
  EXPECT_THAT(error.message, HasSubstr("this system does not trust"));
  EXPECT_THAT(error.message, HasSubstr("@FILE"));
}

TEST_F(Tls, AServerWithoutTlsIsUnreachable) {
  auto client = TlsClient::make(pinnedTo(identity()));
  ASSERT_TRUE(client.ok());
  auto connecting = (*client)->connect(kj::mv(pipe.ends[1]), address);
  EXPECT_FALSE(connecting.poll(io.waitScope));
  say(*pipe.ends[0], "SSH-2.0-OpenSSH_9.2 and so on\r\n");
  auto connected = connecting.wait(io.waitScope);
  ASSERT_FALSE(connected.ok());
  EXPECT_EQ(connected.error().code, ErrorCode::UNREACHABLE);
  EXPECT_THAT(connected.error().message, HasSubstr("does not speak TLS"));
  EXPECT_EQ(ERR_peek_error(), 0u);
}

TEST_F(Tls, AServerThatHangsUpIsUnreachable) {
  auto client = TlsClient::make(pinnedTo(identity()));
  auto connecting = (*client)->connect(kj::mv(pipe.ends[1]), address);
  EXPECT_FALSE(connecting.poll(io.waitScope));
  pipe.ends[0] = nullptr;
  auto connected = connecting.wait(io.waitScope);
  ASSERT_FALSE(connected.ok());
  EXPECT_EQ(connected.error().code, ErrorCode::UNREACHABLE);
  EXPECT_THAT(connected.error().message, HasSubstr("ended the connection"));
}

TEST_F(Tls, ABrokenHandshakeIsASentenceForTheLog) {
  auto server = TlsServer::make(identity());
  auto accepting = (*server)->accept(kj::mv(pipe.ends[0]));
  say(*pipe.ends[1], std::string("\x16\x03\x01\x00\x05hello", 10));
  auto accepted = accepting.wait(io.waitScope);
  ASSERT_FALSE(accepted.ok());
  EXPECT_THAT(accepted.error().message, HasSubstr("handshake failed"));
  EXPECT_EQ(ERR_peek_error(), 0u);
}

TEST_F(Tls, OldVersionsAreRefused) {
  // A client that would take anything offers TLS 1.1 at most: the first bytes are what such a client sends.
  auto server = TlsServer::make(identity());
  auto accepting = (*server)->accept(kj::mv(pipe.ends[0]));
  std::string hello("\x01\x00\x00\x2b\x03\x02", 6);  // ClientHello of 43 bytes, version TLS 1.1
  hello += std::string(32, 'r') + std::string("\x00\x00\x04\xc0\x13\x00\x2f\x01\x00", 9);
  say(*pipe.ends[1], std::string("\x16\x03\x01\x00", 4) + char(hello.size()) + hello);
  auto accepted = accepting.wait(io.waitScope);
  ASSERT_FALSE(accepted.ok());
  EXPECT_THAT(accepted.error().message, HasSubstr("protocol"));
}

TEST_F(Tls, WhoSpeaksHowFollowsFromTheAddress) {
  Address local = *parseAddress("127.0.0.1:1"), socket = *parseAddress("unix:/s");
  using Kind = Security::Kind;
  EXPECT_TRUE(speaksTls({}, address));
  EXPECT_FALSE(speaksTls({}, local));
  EXPECT_FALSE(speaksTls({}, socket));
  EXPECT_FALSE(speaksTls({Kind::PLAIN, {}}, address));
  EXPECT_TRUE(speaksTls({Kind::SYSTEM, {}}, local));
  EXPECT_TRUE(speaksTls({Kind::PINNED, {}}, local));
  EXPECT_FALSE(speaksTls({Kind::PINNED, {}}, socket));
}

TEST_F(Tls, APinThatIsNoCertificateIsAnError) {
  auto client = TlsClient::make({Security::Kind::PINNED, "nothing"});
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.error().code, ErrorCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace capstan::rpc
