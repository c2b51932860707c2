#include <capstan/client/peer-owner.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

#include <string>

#include <gtest/gtest.h>
#include <kj/debug.h>

namespace capstan::client {
namespace {

constexpr uid_t US = 1000, OTHER = 1001, ROOT = 0, UNKNOWN = 65534;
constexpr const char* TITLES =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  inode\n";
constexpr const char* LISTEN = "0A";
constexpr const char* ESTABLISHED = "01";

sockaddr_storage addressOf(const char* host, uint16_t port) {
  sockaddr_storage raw{};
  auto& v4 = reinterpret_cast<sockaddr_in&>(raw);
  auto& v6 = reinterpret_cast<sockaddr_in6&>(raw);
  if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
  } else {
    KJ_REQUIRE(inet_pton(AF_INET6, host, &v6.sin6_addr) == 1, host);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
  }
  return raw;
}

std::string row(const std::string& near, const std::string& far, const std::string& state, uid_t user) {
  return "   7: " + near + " " + far + " " + state + " 00000000:00000000 00:00000000 00000000  " +
         std::to_string(user) + "        0 3491388 1 ffff8881 100 0 0 10 0\n";
}
std::string listener(const std::string& at, uid_t user) {
  return row(at, std::string(at.find(':'), '0') + ":0000", LISTEN, user);
}

const std::string HERE = "0100007F:1169", ALL = "00000000:1169";  // 127.0.0.1:4457, 0.0.0.0:4457
const std::string CLIENT = "0100007F:9C40";                       // 127.0.0.1:40000
const std::string HERE_V6 = "00000000000000000000000001000000:1169", ALL_V6 = std::string(32, '0') + ":1169";
const std::string MAPPED = "0000000000000000FFFF00000100007F:1169",
                  MAPPED_CLIENT = "0000000000000000FFFF00000100007F:9C40";

// Of a connection from 127.0.0.1:40000 to 127.0.0.1:4457.
bool isOurs(const std::string& v4, const std::string& v6 = "", uid_t user = US) {
  std::string all4 = TITLES + v4, all6 = TITLES + v6;
  return isOfUserAlone({all4, all6}, addressOf("127.0.0.1", 40000), addressOf("127.0.0.1", 4457), user);
}

TEST(PeerOwner, IsWhoListensAtTheAddress) {
  EXPECT_TRUE(isOurs(listener(HERE, US)));
  EXPECT_TRUE(isOurs(listener(HERE, ROOT)));
  EXPECT_FALSE(isOurs(listener(HERE, OTHER)));
  EXPECT_TRUE(isOurs(listener(ALL, US)));
  EXPECT_FALSE(isOurs(listener(ALL, OTHER)));
}

TEST(PeerOwner, IsNobodyWhereTheTablesDoNotTell) {
  EXPECT_FALSE(isOurs(""));
  EXPECT_FALSE(isOurs(listener("0100007F:1168", US)));                // another port
  EXPECT_FALSE(isOurs(listener("0200007F:1169", US)));                // another address
  EXPECT_FALSE(isOurs(row(HERE, CLIENT, ESTABLISHED, US)));           // nobody listens
  EXPECT_FALSE(isOurs(listener(HERE, US) + "   8: what is this\n"));  // and maybe another one does
  EXPECT_FALSE(isOurs(listener(HERE, US) + "   8: 0100007F:1169 00000000:0000 0A\n"));
  auto here = addressOf("127.0.0.1", 4457), client = addressOf("127.0.0.1", 40000);
  EXPECT_FALSE(isOfUserAlone({"", ""}, client, here, US));
  EXPECT_FALSE(isOfUserAlone({"no table", ""}, client, here, US));
  sockaddr_storage unixSocket{};
  unixSocket.ss_family = AF_UNIX;
  std::string table = TITLES + listener(HERE, US);
  EXPECT_TRUE(isOfUserAlone({table, ""}, client, here, US));
  EXPECT_FALSE(isOfUserAlone({table, ""}, client, unixSocket, US));
}

TEST(PeerOwner, IsNotSomebodyWhomTheUserNamespaceDoesNotKnow) {
  EXPECT_FALSE(isOurs(listener(HERE, UNKNOWN)));
  EXPECT_FALSE(isOurs(listener(HERE, UNKNOWN), "", UNKNOWN));
}

TEST(PeerOwner, IsAllOfThoseWhoListen) {
  EXPECT_FALSE(isOurs(listener(HERE, US) + listener(HERE, OTHER)));
  EXPECT_FALSE(isOurs(listener(HERE, OTHER) + listener(HERE, US)));
  EXPECT_FALSE(isOurs(listener(ALL, US), listener(ALL_V6, OTHER)));
  EXPECT_TRUE(isOurs(listener(ALL, US), listener(ALL_V6, ROOT)));
}

TEST(PeerOwner, IsTheListenerOfJustThisAddressBeforeThoseOfAll) {
  EXPECT_TRUE(isOurs(listener(HERE, US), listener(ALL_V6, OTHER)));
  EXPECT_FALSE(isOurs(listener(HERE, OTHER) + listener(ALL, US)));
}

TEST(PeerOwner, MayListenByIpv6ForBoth) {
  EXPECT_TRUE(isOurs("", listener(ALL_V6, US)));
  EXPECT_FALSE(isOurs("", listener(ALL_V6, OTHER)));
  EXPECT_TRUE(isOurs("", listener(MAPPED, US)));
  EXPECT_FALSE(isOurs(listener(ALL, US), listener(MAPPED, OTHER)));
}

TEST(PeerOwner, MayHaveTakenTheConnectionUpAndGoneAwayAsAListener) {
  EXPECT_TRUE(isOurs(listener(HERE, US) + row(HERE, CLIENT, ESTABLISHED, US)));
  EXPECT_TRUE(isOurs(listener(HERE, ROOT) + row(HERE, CLIENT, ESTABLISHED, ROOT)));
  EXPECT_FALSE(isOurs(listener(HERE, US) + row(HERE, CLIENT, ESTABLISHED, OTHER)));
  EXPECT_FALSE(isOurs(listener(HERE, US), row(MAPPED, MAPPED_CLIENT, ESTABLISHED, OTHER)));
  EXPECT_TRUE(isOurs(listener(HERE, US) + row(HERE, "0100007F:9C41", ESTABLISHED, OTHER))) << "of another client";
}

TEST(PeerOwner, IsFoundByIpv6) {
  auto isOursV6 = [](const std::string& v6, const std::string& v4 = "") {
    std::string all4 = TITLES + v4, all6 = TITLES + v6;
    return isOfUserAlone({all4, all6}, addressOf("::1", 40000), addressOf("::1", 4457), US);
  };
  EXPECT_TRUE(isOursV6(listener(HERE_V6, US)));
  EXPECT_FALSE(isOursV6(listener(HERE_V6, OTHER)));
  EXPECT_FALSE(isOursV6(listener(ALL_V6, OTHER)));
  EXPECT_FALSE(isOursV6("", listener(ALL, US)));
  EXPECT_FALSE(
      isOursV6(listener(HERE_V6, US) + row(HERE_V6, "00000000000000000000000001000000:9C40", ESTABLISHED, OTHER)));
}

class Connected {
 public:
  // `listens`: whose the listener is.
  explicit Connected(uid_t listens) : io(kj::setupAsyncIo()) {
    KJ_SYSCALL(seteuid(listens));
    auto socket = io.provider->getNetwork().parseAddress("127.0.0.1").wait(io.waitScope)->listen();
    KJ_SYSCALL(seteuid(getuid()));
    std::string address = "127.0.0.1:" + std::to_string(socket->getPort());
    auto target = io.provider->getNetwork().parseAddress(address.c_str()).wait(io.waitScope);
    listener = kj::mv(socket);
    stream = target->connect().wait(io.waitScope);
  }
  kj::AsyncIoStream& end() { return *stream; }

 private:
  kj::AsyncIoContext io;
  kj::Own<kj::ConnectionReceiver> listener;
  kj::Own<kj::AsyncIoStream> stream;
};

TEST(PeerOwner, IsFoundOfAConnectionOnThisMachine) {
  Connected ours(geteuid());
  EXPECT_TRUE(isOfThisUserAlone(ours.end()));
}

TEST(PeerOwner, IsAnotherUserWhoListensOnThisMachine) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can listen as somebody else";
  Connected theirs(OTHER);
  EXPECT_FALSE(isOfThisUserAlone(theirs.end()));
}

}  // namespace
}  // namespace capstan::client
