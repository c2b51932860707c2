#include <capstan/server/sd-listen.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include <capstan/server/listener.h>

#include "serving.h"

namespace capstan::server {
namespace {

using testing::HasSubstr;

// What a service manager has bound. Port 0 picks one.
kj::AutoCloseFd tcpSocket(bool listening, uint32_t host = INADDR_LOOPBACK) {
  kj::AutoCloseFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(host);
  KJ_SYSCALL(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)));
  if (listening) {
    KJ_SYSCALL(listen(fd, 16));
  }
  return fd;
}

kj::AutoCloseFd unixSocket(const std::string& path, int type = SOCK_STREAM) {
  kj::AutoCloseFd fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.data(), path.size());
  KJ_SYSCALL(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)));
  if (type != SOCK_DGRAM) {
    KJ_SYSCALL(listen(fd, 16));
  }
  return fd;
}

Error refusal(kj::AutoCloseFd fd) {
  auto taken = inherit(kj::mv(fd), "socket 3 (files)", false);
  if (!taken.ok()) return taken.error();
  ADD_FAILURE() << "listens on " << taken->address().toString();
  return {};
}

TEST(SdListen, GivesDescriptorsWithTheirNamesAndForgetsTheVariables) {
  Variable process("LISTEN_PID", std::to_string(getpid())), count("LISTEN_FDS", "3"), names("LISTEN_FDNAMES", "a:b");
  auto sockets = takeSocketsFromSystemd();
  ASSERT_TRUE(sockets.ok());
  ASSERT_EQ(sockets->size(), 3u);
  EXPECT_EQ((*sockets)[0].fd, 3);
  EXPECT_EQ((*sockets)[0].name, "socket 3 (a)");
  EXPECT_EQ((*sockets)[1].name, "socket 4 (b)");
  EXPECT_EQ((*sockets)[2].name, "socket 5");
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) EXPECT_EQ(getenv(name), nullptr) << name;
}

TEST(SdListen, LeavesWhatIsMeantForAnotherProcess) {
  Variable process("LISTEN_PID", std::to_string(getppid())), count("LISTEN_FDS", "1");
  auto sockets = takeSocketsFromSystemd();
  ASSERT_TRUE(sockets.ok());
  EXPECT_TRUE(sockets->empty());
  EXPECT_EQ(getenv("LISTEN_FDS"), nullptr);
}

TEST(SdListen, GivesNothingWhereNobodyHandsOver) {
  unsetenv("LISTEN_PID");
  auto sockets = takeSocketsFromSystemd();
  ASSERT_TRUE(sockets.ok());
  EXPECT_TRUE(sockets->empty());
}

TEST(SdListen, NamesWhatSystemdDoesNotWrite) {
  std::string self = std::to_string(getpid());
  for (auto& [process, count] : {std::pair<std::string, std::string>{"x\x1b", "1"},
                                 {self, "-1"},
                                 {self, "1 "},
                                 {self, ""},
                                 {self, "100000"},
                                 {"", "1"}}) {
    Variable first("LISTEN_PID", process), second("LISTEN_FDS", count);
    auto sockets = takeSocketsFromSystemd();
    ASSERT_FALSE(sockets.ok()) << process << " " << count;
    EXPECT_THAT(sockets.error().message, HasSubstr("LISTEN_"));
    EXPECT_EQ(sockets.error().message.find('\x1b'), std::string::npos);
  }
}

TEST(InheritedListener, TellsWhereItListensAndDoesNotBlock) {
  kj::AutoCloseFd fd = tcpSocket(true);
  sockaddr_in bound{};
  socklen_t size = sizeof(bound);
  KJ_SYSCALL(getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size));
  auto listener = inherit(kj::mv(fd), "socket 3", false);
  ASSERT_TRUE(listener.ok());
  EXPECT_EQ(listener->address().toString(), "127.0.0.1:" + std::to_string(ntohs(bound.sin_port)));
  EXPECT_TRUE(fcntl(listener->get(), F_GETFL) & O_NONBLOCK);
  EXPECT_TRUE(fcntl(listener->get(), F_GETFD) & FD_CLOEXEC);
}

TEST(InheritedListener, LeavesTheFileOfAUnixSocketWhenItGoes) {
  storage::TempFolder folder;
  {
    auto listener = inherit(unixSocket(folder / "s.sock"), "socket 3", false);
    ASSERT_TRUE(listener.ok());
    EXPECT_EQ(listener->address().toString(), "unix:" + folder / "s.sock");
  }
  EXPECT_TRUE(S_ISSOCK(folder.stat("s.sock").st_mode));
}

TEST(InheritedListener, ShowsAnAbstractName) {
  std::string name = "capstan-test-" + std::to_string(getpid());
  kj::AutoCloseFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path + 1, name.data(), name.size());
  KJ_SYSCALL(
      bind(fd, reinterpret_cast<sockaddr*>(&address), socklen_t(offsetof(sockaddr_un, sun_path) + 1 + name.size())));
  KJ_SYSCALL(listen(fd, 1));
  auto listener = inherit(kj::mv(fd), "socket 3", false);
  ASSERT_TRUE(listener.ok());
  EXPECT_EQ(listener->address().toString(), "unix:@" + name);
}

TEST(InheritedListener, RefusesByNameWhatIsNoListeningStreamSocket) {
  storage::TempFolder folder;
  folder.write("file", "");
  EXPECT_THAT(refusal(kj::AutoCloseFd(open((folder / "file").c_str(), O_RDONLY))).message,
              testing::AllOf(HasSubstr("socket 3 (files)"), HasSubstr("no socket")));
  EXPECT_THAT(refusal(unixSocket(folder / "d.sock", SOCK_DGRAM)).message, HasSubstr("ListenStream="));
  EXPECT_THAT(refusal(unixSocket(folder / "p.sock", SOCK_SEQPACKET)).message, HasSubstr("ListenStream="));
  EXPECT_THAT(refusal(tcpSocket(false)).message, HasSubstr("not listening"));
  EXPECT_THAT(refusal(kj::AutoCloseFd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0))).message,
              HasSubstr("neither a Unix nor a TCP socket"));
  int pair[2];
  KJ_SYSCALL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
  kj::AutoCloseFd other(pair[1]);
  EXPECT_THAT(refusal(kj::AutoCloseFd(pair[0])).message, HasSubstr("Accept=yes"));
}

TEST(InheritedListener, IsUnderTheRulesForAddressesThatOthersCanReach) {
  EXPECT_THAT(refusal(tcpSocket(true, INADDR_ANY)).message, HasSubstr("--insecure"));
  EXPECT_TRUE(inherit(tcpSocket(true, INADDR_ANY), "socket 3", true).ok());
}

TEST(InheritedListener, IsServedBesideOwnOnes) {
  Serving serving;
  kj::AutoCloseFd fd = unixSocket(serving.base / "given.sock");
  serving.options.inherited = {{fd.release(), "socket 3"}};
  serving.start();
  ASSERT_EQ(serving.server->addresses().size(), 2u);
  EXPECT_EQ(serving.server->addresses()[1].toString(), "unix:" + serving.base / "given.sock");
  EXPECT_EQ(serving.connect(1).codeOfLogin(), ErrorCode::UNSET);
  EXPECT_EQ(serving.connect(0).codeOfLogin(serving.token()), ErrorCode::UNSET);
}

}  // namespace
}  // namespace capstan::server
