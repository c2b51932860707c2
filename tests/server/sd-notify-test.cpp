#include <capstan/server/sd-notify.h>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

#include "serving.h"

namespace capstan::server {
namespace {

// The end that systemd has. `name` as in NOTIFY_SOCKET: a path, or '@' and an abstract name.
struct Manager {
  kj::AutoCloseFd fd{socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};

  explicit Manager(const std::string& name) {
    sockaddr_un raw{};
    raw.sun_family = AF_UNIX;
    memcpy(raw.sun_path, name.data(), name.size());
    if (name[0] == '@') raw.sun_path[0] = '\0';
    KJ_SYSCALL(bind(fd, reinterpret_cast<sockaddr*>(&raw), socklen_t(offsetof(sockaddr_un, sun_path) + name.size())));
  }

  // The next datagram that is there; empty if there is none.
  std::string received() {
    char buffer[256];
    ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    return n < 0 ? std::string() : std::string(buffer, size_t(n));
  }
};

TEST(SdNotify, SendsToThePathThatItIsGiven) {
  storage::TempFolder folder;
  Manager manager(folder / "notify");
  Variable variable("NOTIFY_SOCKET", folder / "notify");
  notifySystemd("READY=1\nSTATUS=Serving");
  EXPECT_EQ(manager.received(), "READY=1\nSTATUS=Serving");
  notifySystemd("STOPPING=1");
  EXPECT_EQ(manager.received(), "STOPPING=1");
  EXPECT_EQ(manager.received(), "");
}

TEST(SdNotify, KnowsAbstractNames) {
  std::string name = "@capstan-test-" + std::to_string(getpid());
  Manager manager(name);
  Variable variable("NOTIFY_SOCKET", name);
  notifySystemd("READY=1");
  EXPECT_EQ(manager.received(), "READY=1");
}

TEST(SdNotify, IsOfNoConsequenceWhereNobodyListens) {
  storage::TempFolder folder;
  for (std::string name :
       {std::string(), std::string("relative"), folder / "none", std::string(200, 'x'), "/" + std::string(200, 'x')}) {
    Variable variable("NOTIFY_SOCKET", name);
    notifySystemd("READY=1");
  }
}

TEST(SdNotify, TellsHalfTheTimeAfterWhichTheServiceIsTakenForDead) {
  unsetenv("WATCHDOG_USEC");
  EXPECT_EQ(watchdogInterval(), std::nullopt);
  Variable timeout("WATCHDOG_USEC", "30000000");
  EXPECT_EQ(watchdogInterval(), 15'000'000'000u);
  {
    Variable process("WATCHDOG_PID", std::to_string(getpid()));
    EXPECT_EQ(watchdogInterval(), 15'000'000'000u);
  }
  Variable another("WATCHDOG_PID", std::to_string(getppid()));
  EXPECT_EQ(watchdogInterval(), std::nullopt);
}

TEST(SdNotify, KnowsOfNoWatchdogWhereTheTimeIsNone) {
  for (auto& text : {"", "0", "-1", "1s", "18446744073709551615"}) {
    Variable timeout("WATCHDOG_USEC", text);
    EXPECT_EQ(watchdogInterval(), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace capstan::server
