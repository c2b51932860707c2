#include <capstan/server/sd-listen.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include <capstan/base/text.h>

namespace capstan::server {

namespace {

constexpr int FIRST_DESCRIPTOR = 3;
constexpr int MAX_SOCKETS = 1024;  // more is a mistake

std::optional<std::string> take(const char* variable) {
  const char* value = getenv(variable);
  if (value == nullptr) return std::nullopt;
  std::string result = value;
  unsetenv(variable);
  return result;
}

std::optional<int> numberIn(std::string_view text) {
  int number = 0;
  auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem != std::errc() || end != text.data() + text.size() || number < 0) return std::nullopt;
  return number;
}

// The next of the names between colons; empty where there are no more.
std::string nextName(std::string_view& names) {
  std::string_view name = names.substr(0, names.find(':'));
  names.remove_prefix(std::min(names.size(), name.size() + 1));
  return std::string(name);
}

Error notFromSystemd(const char* variable, std::string_view value) {
  return {ErrorCode::INVALID_ARGUMENT,
          std::string(variable) + " is '" + escapeForTerminal(value) +
              "', which systemd does not write; unset LISTEN_PID and LISTEN_FDS to start without sockets of others",
          {}};
}

}  // namespace

Result<std::vector<InheritedSocket>> takeSocketsFromSystemd() {
  auto process = take("LISTEN_PID"), count = take("LISTEN_FDS"), names = take("LISTEN_FDNAMES");
  if (!process || !count) return std::vector<InheritedSocket>();
  auto meant = numberIn(*process);
  if (!meant) return notFromSystemd("LISTEN_PID", *process);
  if (*meant != getpid()) return std::vector<InheritedSocket>();
  auto number = numberIn(*count);
  if (!number || *number > MAX_SOCKETS) return notFromSystemd("LISTEN_FDS", *count);

  std::vector<InheritedSocket> sockets;
  std::string_view rest = names ? std::string_view(*names) : std::string_view();
  for (int fd = FIRST_DESCRIPTOR; fd < FIRST_DESCRIPTOR + *number; ++fd) {
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    std::string name = nextName(rest);
    sockets.push_back({fd, "socket " + std::to_string(fd) + (name.empty() ? "" : " (" + name + ")")});
  }
  return sockets;
}

}  // namespace capstan::server
