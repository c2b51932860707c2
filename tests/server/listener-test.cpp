#include <capstan/server/listener.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <mutex>
#include <thread>

#include "serving.h"

namespace capstan::server {
namespace {

using testing::HasSubstr;

rpc::Address addressOf(const std::string& text) {
  auto address = rpc::parseAddress(text);
  KJ_REQUIRE(address.ok(), text.c_str());
  return *address;
}

std::vector<Listener> listening(const std::string& text, bool insecure = false) {
  auto listeners = listenOn(addressOf(text), insecure);
  KJ_REQUIRE(listeners.ok(), listeners.error().message.c_str());
  return std::move(*listeners);
}

Error failure(const std::string& text) {
  auto listeners = listenOn(addressOf(text), false);
  if (!listeners.ok()) return listeners.error();
  ADD_FAILURE() << "listens on " << text;
  return {};
}

kj::AutoCloseFd bindSocket(const std::string& path, int type) {
  kj::AutoCloseFd fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  sockaddr_un raw{};
  raw.sun_family = AF_UNIX;
  strncpy(raw.sun_path, path.c_str(), sizeof(raw.sun_path) - 1);
  KJ_SYSCALL(bind(fd, reinterpret_cast<sockaddr*>(&raw), sizeof(raw)));
  return fd;
}

// A socket's file as a killed server leaves it: nobody answers there.
void leaveStaleSocket(const std::string& path) { bindSocket(path, SOCK_STREAM); }

bool isThere(const std::string& path) {
  struct stat status;
  return lstat(path.c_str(), &status) == 0;
}

struct Folder {
  storage::TempFolder base;
  Variable runtimeFolder{"XDG_RUNTIME_DIR", base.path()};
  std::string path = base / "s.sock";
  std::string address = "unix:" + path;
};

TEST(Listener, PicksAPortAndTellsIt) {
  auto listeners = listening("127.0.0.1:0");
  ASSERT_EQ(listeners.size(), 1u);
  EXPECT_NE(listeners[0].address().port, 0);
  EXPECT_EQ(listeners[0].address().host, "127.0.0.1");
  EXPECT_TRUE(fcntl(listeners[0].get(), F_GETFL) & O_NONBLOCK);
  EXPECT_TRUE(fcntl(listeners[0].get(), F_GETFD) & FD_CLOEXEC);
}

TEST(Listener, ResolvesNames) {
  auto listeners = listening("localhost:0");
  ASSERT_GE(listeners.size(), 1u);
  EXPECT_TRUE(listeners[0].address().isLoopback());
  EXPECT_THAT(failure("no-such-host.invalid:0").message, HasSubstr("no-such-host.invalid"));
}

TEST(Listener, TakesIpv6AndIpv4OfOnePortApart) {
  auto v6 = listening("[::1]:0");
  std::string port = std::to_string(v6[0].address().port);
  EXPECT_EQ(v6[0].address().toString(), "[::1]:" + port);
  auto v4 = listenOn(addressOf("127.0.0.1:" + port), false);
  EXPECT_TRUE(v4.ok() || v4.error().message.find("in use") != std::string::npos);
  int only = 0;
  socklen_t size = sizeof(only);
  KJ_SYSCALL(getsockopt(v6[0].get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, &size));
  EXPECT_EQ(only, 1);
}

TEST(Listener, NamesAnAddressInUse) {
  auto first = listening("127.0.0.1:0");
  std::string address = first[0].address().toString();
  Error error = failure(address);
  EXPECT_EQ(error.code, ErrorCode::IO);
  EXPECT_THAT(error.message, HasSubstr(address));
  EXPECT_THAT(error.message, HasSubstr("--listen"));
}

TEST(Listener, RefusesAddressesThatOthersCanReachUnlessTold) {
  for (auto& text : {"0.0.0.0:0", "[::]:0"}) {
    EXPECT_THAT(failure(text).message, HasSubstr("--insecure")) << text;
    EXPECT_EQ(listening(text, true).size(), 1u) << text;
  }
}

TEST(Listener, MakesASocketForThisUserAloneAndRemovesItsFile) {
  Folder folder;
  mode_t before = umask(0);
  {
    auto listeners = listening(folder.address);
    EXPECT_EQ(folder.base.stat("s.sock").st_mode & 0777, 0600u);
    EXPECT_EQ(umask(0), 0u) << "the process's umask is as it was";
  }
  umask(before);
  EXPECT_FALSE(isThere(folder.path));
}

TEST(Listener, ReplacesTheSocketOfADeadServer) {
  Folder folder;
  leaveStaleSocket(folder.path);
  auto listeners = listening(folder.address);
  EXPECT_EQ(listeners.size(), 1u);
  EXPECT_TRUE(isThere(folder.path));
}

TEST(Listener, LeavesTheSocketOfALiveServerAlone) {
  Folder folder;
  auto first = listening(folder.address);
  ino_t inode = folder.base.stat("s.sock").st_ino;
  Error error = failure(folder.address);
  EXPECT_EQ(error.code, ErrorCode::IO);
  EXPECT_THAT(error.message, HasSubstr(folder.path));
  EXPECT_THAT(error.message, HasSubstr("server"));
  EXPECT_EQ(folder.base.stat("s.sock").st_ino, inode);
}

TEST(Listener, LeavesAFileThatIsNoSocketAlone) {
  Folder folder;
  folder.base.write("s.sock", "precious");
  EXPECT_THAT(failure(folder.address).message, HasSubstr("no socket"));
  EXPECT_EQ(folder.base.read("s.sock"), "precious");
}

TEST(Listener, LeavesTheSocketOfAnotherKindOfServiceAlone) {
  Folder folder;
  kj::AutoCloseFd service = bindSocket(folder.path, SOCK_DGRAM);
  EXPECT_EQ(failure(folder.address).code, ErrorCode::IO);
  EXPECT_TRUE(isThere(folder.path));
}

TEST(Listener, IsOneOfThoseThatStartAtOnce) {
  for (unsigned round = 0; round < 50; ++round) {
    Folder folder;
    leaveStaleSocket(folder.path);
    std::mutex mutex;
    std::vector<std::vector<Listener>> winners;
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < 4; ++i) {
      threads.emplace_back([&]() {
        auto listeners = listenOn(addressOf(folder.address), false);
        std::lock_guard lock(mutex);
        if (listeners.ok()) winners.push_back(std::move(*listeners));
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(winners.size(), 1u);
  }
}

TEST(Listener, DoesNotRemoveASocketThatHasTakenItsPlace) {
  Folder folder;
  {
    auto listeners = listening(folder.address);
    KJ_SYSCALL(rename(folder.path.c_str(), (folder.base / "old.sock").c_str()));
    leaveStaleSocket(folder.path);
  }
  EXPECT_TRUE(isThere(folder.path));
}

TEST(Listener, NamesAFolderThatIsMissing) {
  Folder folder;
  EXPECT_THAT(failure("unix:" + folder.base / "none/s.sock").message, HasSubstr("none/s.sock"));
}

TEST(Listener, KnowsThePeerOfAUnixSocket) {
  Folder folder;
  int pair[2];
  KJ_SYSCALL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
  kj::AutoCloseFd one(pair[0]), other(pair[1]);
  PeerIdentity peer = identifyPeer(one);
  EXPECT_TRUE(peer.isUnix);
  EXPECT_TRUE(peer.sameUser);
  EXPECT_THAT(peer.name, HasSubstr(std::to_string(getpid())));
}

TEST(Listener, WantsTheFolderOfTheDefaultSocketToBeThisUsersOwn) {
  storage::TempFolder base;
  base.makeFolder("real");
  base.link("linked", "real");
  base.makeFolder("open");
  KJ_SYSCALL(chmod((base / "open").c_str(), 0777));
  for (auto& name : {"linked", "open"}) {
    auto outcome = ensureOwnFolder(base / name);
    ASSERT_FALSE(outcome.ok()) << name;
    EXPECT_EQ(outcome.error().code, ErrorCode::DENIED) << name;
    EXPECT_THAT(outcome.error().message, HasSubstr(name));
  }
  ASSERT_TRUE(ensureOwnFolder(base / "new").ok());
  EXPECT_EQ(base.stat("new").st_mode & 0777, 0700u);
  EXPECT_TRUE(ensureOwnFolder(base / "new").ok());
}

}  // namespace
}  // namespace capstan::server
