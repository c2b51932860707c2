#include <capstan/server/sd-notify.h>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include <kj/io.h>

namespace capstan::server {

void notifySystemd(std::string_view state) {
  const char* path = getenv("NOTIFY_SOCKET");
  if (path == nullptr || (path[0] != '/' && path[0] != '@')) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  size_t length = strlen(path);
  if (length >= sizeof(address.sun_path)) return;
  memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = '\0';  // the abstract namespace
  kj::AutoCloseFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return;
  sendto(fd, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&address),
         socklen_t(offsetof(sockaddr_un, sun_path) + length));
}

std::optional<uint64_t> watchdogInterval() {
  constexpr uint64_t MAX_MICROSECONDS = UINT64_MAX / 1000;
  auto numberIn = [](const char* variable) -> std::optional<uint64_t> {
    const char* text = getenv(variable);
    if (text == nullptr) return std::nullopt;
    const char* end = text + strlen(text);
    uint64_t number = 0;
    auto [stop, problem] = std::from_chars(text, end, number);
    return problem == std::errc() && stop == end ? std::optional(number) : std::nullopt;
  };
  auto timeout = numberIn("WATCHDOG_USEC");
  if (!timeout || *timeout == 0 || *timeout > MAX_MICROSECONDS) return std::nullopt;
  if (getenv("WATCHDOG_PID") != nullptr && numberIn("WATCHDOG_PID") != uint64_t(getpid())) return std::nullopt;
  return *timeout * 1000 / 2;
}

}  // namespace capstan::server
