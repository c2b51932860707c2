// What a server does about peers that are too many, too slow, silent, or no clients at all.
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <netinet/in.h>

#include "serving.h"

namespace capstan::server {
namespace {

using testing::HasSubstr;

constexpr uint64_t MILLISECOND = 1'000'000;

void send(Serving& serving, kj::AsyncIoStream& stream, std::string_view bytes) {
  serving.inTime(stream.write(bytes.data(), bytes.size()));
}

// Resolves when the server has closed the connection.
kj::Promise<void> whenClosed(kj::AsyncIoStream& stream) {
  return stream.readAllBytes().ignoreResult().catch_([](kj::Exception&&) {});
}

TEST(Limits, TellAClientTooManyThatItIsOneTooMany) {
  Serving serving;
  serving.limit(Limit::SERVER_CONNECTIONS, 2);
  serving.start();
  auto first = serving.connect();
  EXPECT_EQ(first.codeOfLogin(serving.token()), ErrorCode::UNSET);
  {
    auto second = serving.connect();
    EXPECT_EQ(second.codeOfLogin(serving.token()), ErrorCode::UNSET);
    auto third = serving.connect();
    EXPECT_EQ(third.hello().getInfo().getName(), "capstan");
    auto answer = third.login(serving.token()).wait(serving.io.waitScope);
    KJ_IF_MAYBE (error, rpc::errorIn(answer.getOutcome())) {
      EXPECT_EQ(error->code, ErrorCode::LIMIT);
      EXPECT_THAT(error->message, HasSubstr("(2)"));
    }
    else {
      ADD_FAILURE() << "one too many was let in";
    }
    EXPECT_EQ(second.codeOfLogin(serving.token()), ErrorCode::UNSET) << "it has its place already";
  }
  ASSERT_TRUE(serving.eventually([&]() { return serving.server->activity().connections == 1; }));
  auto later = serving.connect();
  EXPECT_EQ(later.codeOfLogin(serving.token()), ErrorCode::UNSET) << "there is room again";
}

TEST(Limits, OfSilentPeersLockNobodyOut) {
  Serving serving;
  serving.listenOn({"127.0.0.1:0", "unix:" + (serving.base / "socket")});
  serving.limit(Limit::SERVER_CONNECTIONS, 1);
  serving.limit(Limit::SERVER_NEWCOMERS, 12);
  serving.limit(Limit::SERVER_NETWORK_NEWCOMERS, 10);
  serving.start();
  std::vector<kj::Own<kj::AsyncIoStream>> peers;
  for (unsigned i = 0; i < 300; ++i) peers.push_back(serving.dial());
  EXPECT_TRUE(serving.eventually([&]() { return serving.server->activity().connections == 10; }));
  serving.inTime(whenClosed(*peers.front()));
  EXPECT_TRUE(serving.eventually([&]() { return serving.log.contains("give way"); }));

  auto client = serving.connect();
  EXPECT_EQ(client.codeOfLogin(serving.token()), ErrorCode::UNSET);
  EXPECT_EQ(serving.connect().codeOfLogin(serving.token()), ErrorCode::LIMIT) << "the one place is taken";
  auto owner = serving.connect(1);
  EXPECT_EQ(owner.codeOfLogin(), ErrorCode::UNSET) << "but the user's own are reserved";
  auto status = owner.session({}).statusRequest().send().wait(serving.io.waitScope);
  for (auto limit : status.getStatus().getLimits()) {
    if (limit.getName() == "network-newcomers") EXPECT_GE(limit.getRefused(), 290u);
  }
}

TEST(Limits, EndWhoeverSendsTooManyLoginsAtOnce) {
  Serving serving;
  serving.start();
  auto flood = serving.connect();
  kj::Vector<kj::Promise<void>> logins;
  for (unsigned i = 0; i < 1000; ++i) {
    logins.add(flood.login("wrong").ignoreResult().catch_([](kj::Exception&&) {}));
  }
  serving.inTime(flood.connection->onDisconnect());
  EXPECT_TRUE(serving.eventually([&]() { return serving.log.contains("too many logins"); }));
  auto client = serving.connect();
  EXPECT_EQ(client.codeOfLogin(serving.token()), ErrorCode::UNSET);
}

TEST(Limits, EndAConnectionThatDoesNotLogIn) {
  Serving serving;
  serving.limit(Limit::CONNECTION_LOGIN_TIME, 30 * MILLISECOND);
  serving.start();
  auto silent = serving.dial();
  auto asking = serving.connect();
  asking.hello();
  auto loggedIn = serving.connect();
  EXPECT_EQ(loggedIn.codeOfLogin(serving.token()), ErrorCode::UNSET);
  serving.inTime(whenClosed(*silent));
  serving.inTime(asking.connection->onDisconnect());
  EXPECT_TRUE(serving.eventually([&]() { return serving.log.contains("log in in time"); }));
  EXPECT_EQ(loggedIn.hello().getInfo().getName(), "capstan");
}

TEST(Limits, EndAnIdleConnectionAndNotABusyOne) {
  Serving serving;
  serving.limit(Limit::CONNECTION_IDLE_TIME, 300 * MILLISECOND);
  serving.start();
  auto idle = serving.connect();
  EXPECT_EQ(idle.codeOfLogin(serving.token()), ErrorCode::UNSET);
  auto busy = serving.connect();
  EXPECT_EQ(busy.codeOfLogin(serving.token()), ErrorCode::UNSET);
  auto gone = idle.connection->onDisconnect();
  EXPECT_TRUE(serving.eventually([&]() {
    busy.hello();
    return gone.poll(serving.io.waitScope);
  }));
  EXPECT_EQ(busy.hello().getInfo().getName(), "capstan");
  EXPECT_TRUE(serving.eventually([&]() { return serving.log.contains("idle"); }));
}

TEST(Limits, EndOnlyTheConnectionThatBreaksTheFraming) {
  Serving serving;
  serving.options.threads = 1;
  serving.start();
  auto good = serving.connect();
  EXPECT_EQ(good.codeOfLogin(serving.token()), ErrorCode::UNSET);
  for (auto bytes :
       {std::string_view("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), std::string_view("SSH-2.0-OpenSSH_9.2\r\n"),
        std::string_view("\xff\xff\xff\xff\xff\xff\xff\xff", 8), std::string_view("\0\0\0\0\xff\xff\xff\x7f", 8)}) {
    auto bad = serving.dial();
    send(serving, *bad, bytes);
    serving.inTime(whenClosed(*bad));
    EXPECT_EQ(good.hello().getInfo().getName(), "capstan");
  }
  EXPECT_TRUE(serving.eventually([&]() { return serving.server->activity().connections == 1; }));
  std::string peer = "127.0.0.1:";
  // Besides "connected" and "disconnected", there is a line with the reason.
  EXPECT_THAT(serving.log.text(), testing::ContainsRegex("127.0.0.1:[0-9]+: .*(message|segment|frame|bytes)"));
}

TEST(Limits, LeavePeersThatVanishInTheMiddleWithoutConsequence) {
  Serving serving;
  serving.start();
  for (unsigned i = 0; i < 20; ++i) {
    auto peer = serving.dial();
    send(serving, *peer, std::string_view("\0\0\0\0\x10\0\0\0half", 12));
  }
  auto client = serving.connect();
  EXPECT_EQ(client.codeOfLogin(serving.token()), ErrorCode::UNSET);
  EXPECT_TRUE(serving.eventually([&]() { return serving.server->activity().connections == 1; }));
}

int lowestFree() {
  int lowest = dup(0);
  close(lowest);
  return lowest;
}

// Lowers the limit of open descriptors, to the lowest that is free if not told otherwise, so that the next one cannot
// be opened.
class NoDescriptors {
 public:
  explicit NoDescriptors(int limit = lowestFree()) {
    getrlimit(RLIMIT_NOFILE, &before);
    rlimit lowered = before;
    lowered.rlim_cur = rlim_t(limit);
    setrlimit(RLIMIT_NOFILE, &lowered);
  }
  ~NoDescriptors() { setrlimit(RLIMIT_NOFILE, &before); }

 private:
  rlimit before{};
};

// A socket made beforehand; connect() needs no further descriptor.
struct RawSocket {
  kj::AutoCloseFd fd{socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};

  bool connectTo(const rpc::Address& address) {
    sockaddr_in raw{};
    raw.sin_family = AF_INET;
    raw.sin_port = htons(address.port);
    raw.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect(fd, reinterpret_cast<sockaddr*>(&raw), sizeof(raw)) == 0;
  }
  bool isClosedByPeer() const {
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno == ECONNRESET);
  }
};

TEST(Limits, OfDescriptorsTurnNewcomersAwayAndDoNotEndListening) {
  Serving serving;
  serving.start();
  auto before = serving.connect();
  EXPECT_EQ(before.codeOfLogin(serving.token()), ErrorCode::UNSET);
  std::vector<RawSocket> newcomers(5);
  {
    NoDescriptors none;
    for (auto& newcomer : newcomers) ASSERT_TRUE(newcomer.connectTo(serving.server->addresses()[0]));
    for (auto& newcomer : newcomers) {
      EXPECT_TRUE(serving.eventually([&]() { return newcomer.isClosedByPeer(); }));
    }
    EXPECT_EQ(before.hello().getInfo().getName(), "capstan") << "those who are in are served";
  }
  EXPECT_THAT(serving.log.text(), HasSubstr("turned away"));
  auto after = serving.connect();
  EXPECT_EQ(after.codeOfLogin(serving.token()), ErrorCode::UNSET);
}

TEST(Limits, OfDescriptorsLetThoseInWhoWaitedOnceThereIsRoomAgain) {
  Serving serving;
  serving.start();
  RawSocket newcomer;
  {
    // Not even the descriptor held back is of use.
    NoDescriptors none(3);
    ASSERT_TRUE(newcomer.connectTo(serving.server->addresses()[0]));
    ASSERT_TRUE(serving.eventually([&]() { return serving.log.contains("ulimit -n"); }));
  }
  // Nobody else comes, so there is nothing to wake the acceptor but itself.
  TestClient client(serving.io.waitScope, serving.io.lowLevelProvider->wrapSocketFd(kj::mv(newcomer.fd)));
  auto hello = client.gateway.helloRequest().send();
  serving.inTime(hello.ignoreResult());
}

// Exits with 0 if the error is the right one.
[[noreturn]] void startWithFewDescriptors() {
  Serving serving;
  serving.options.threads = 64;
  rlimit few{60, 60};
  setrlimit(RLIMIT_NOFILE, &few);
  Error error = serving.failure();
  bool named = error.message.find("--threads") != std::string::npos;
  _exit(error.code == ErrorCode::OVERLOADED && named ? 0 : 1);
}

TEST(Limits, OfDescriptorsThatAreTooLowForTheLoopsAreAnError) {
  EXPECT_EXIT(startWithFewDescriptors(), testing::ExitedWithCode(0), "");
}

TEST(Limits, OfIdlenessDoNotEndATransfer) {
  Serving serving;
  serving.limit(Limit::CONNECTION_IDLE_TIME, 50 * MILLISECOND);
  serving.start();
  auto client = serving.connect();
  kj::Maybe<schema::Upload::Client> upload = client.upload(serving.token());
  auto other = serving.connect();
  other.hello();
  auto gone = client.connection->onDisconnect();
  serving.inTime(other.connection->onDisconnect());
  serving.io.provider->getTimer().afterDelay(150 * kj::MILLISECONDS).wait(serving.io.waitScope);
  EXPECT_FALSE(gone.poll(serving.io.waitScope));
  upload = nullptr;
  serving.inTime(kj::mv(gone));
}

}  // namespace
}  // namespace capstan::server
