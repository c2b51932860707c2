#include <capstan/rpc/address.h>

#include <arpa/inet.h>
#include <strings.h>
#include <sys/un.h>

#include <algorithm>
#include <charconv>

#include <capstan/base/text.h>
#include <capstan/base/user-dirs.h>

namespace capstan::rpc {

namespace {

constexpr std::string_view UNIX_PREFIX = "unix:";
constexpr std::string_view UNIX_NAME = UNIX_PREFIX.substr(0, UNIX_PREFIX.size() - 1);
constexpr size_t MAX_SOCKET_PATH = sizeof(sockaddr_un::sun_path) - 1;
constexpr size_t MAX_HOST_BYTES = 253;

Error badAddress(std::string_view text, std::string_view reason) {
  std::string sentence;
  sentence.append("'").append(escapeForTerminal(text)).append("' is not an address: ").append(reason);
  sentence.append(" (write HOST:PORT, [IPV6]:PORT or unix:PATH)");
  return {ErrorCode::INVALID_ARGUMENT, std::move(sentence), {}};
}

bool isNumericV6(std::string_view host) {
  in6_addr parsed;
  std::string withoutZone(host.substr(0, host.find('%')));
  return inet_pton(AF_INET6, withoutZone.c_str(), &parsed) == 1;
}

bool isDigit(char c) { return c >= '0' && c <= '9'; }

bool isHostCharacter(char c) {
  return isDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_';
}

bool isZoneCharacter(char c) { return isHostCharacter(c) || c == '%' || c == ':'; }

// The reason why it is no host name or numeric IPv4 address; empty if it is one.
std::string_view reasonAgainstHost(std::string_view host) {
  if (host.empty()) return "the host is missing";
  if (host.size() > MAX_HOST_BYTES) return "the host name is too long";
  if (!std::all_of(host.begin(), host.end(), isHostCharacter))
    return "the host holds a character that no host name has";
  if (std::all_of(host.begin(), host.end(), isDigit)) return "the host is only a number";
  // With a port it would read as a socket's path.
  if (host == UNIX_NAME) return "no host is called so here: a socket's path follows unix:";
  return {};
}

Result<Address> parseUnix(std::string_view text) {
  std::string_view path = text.substr(UNIX_PREFIX.size());
  if (path.empty()) return badAddress(text, "the path of the socket is missing");
  if (path.find('\0') != std::string_view::npos) return badAddress(text, "the path holds a NUL byte");
  if (path.size() > MAX_SOCKET_PATH) {
    return badAddress(text, "the path of a socket has at most " + std::to_string(MAX_SOCKET_PATH) + " bytes");
  }
  Address address;
  address.kind = Address::Kind::UNIX;
  address.path = path;
  return address;
}

// `rest` is what follows the host: nothing, or a colon and the port.
Result<Address> withPort(std::string_view text, std::string_view host, std::string_view rest) {
  Address address;
  address.host = host;
  address.port = DEFAULT_PORT;
  if (rest.empty()) return address;
  if (rest.front() != ':') return badAddress(text, "a colon and the port have to follow the host");
  rest.remove_prefix(1);
  if (rest.empty()) return badAddress(text, "the port is missing");
  auto [end, problem] = std::from_chars(rest.data(), rest.data() + rest.size(), address.port);
  if (problem != std::errc() || end != rest.data() + rest.size()) {
    return badAddress(text, "a port is a number from 0 to 65535");
  }
  return address;
}

Result<Address> parseBracketed(std::string_view text) {
  size_t end = text.find(']');
  if (end == std::string_view::npos) return badAddress(text, "the closing bracket is missing");
  std::string_view host = text.substr(1, end - 1);
  if (!isNumericV6(host) || !std::all_of(host.begin(), host.end(), isZoneCharacter)) {
    return badAddress(text, "what is in the brackets is not an IPv6 address");
  }
  return withPort(text, host, text.substr(end + 1));
}

}  // namespace

std::string Address::toString() const {
  if (kind == Kind::UNIX) return std::string(UNIX_PREFIX) + path;
  bool bracketed = host.find(':') != std::string::npos;
  return (bracketed ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

bool Address::isLoopback() const {
  if (kind == Kind::UNIX || strcasecmp(host.c_str(), "localhost") == 0) return true;
  in_addr v4;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  in6_addr v6;
  if (inet_pton(AF_INET6, host.c_str(), &v6) != 1) return false;
  // As a socket has it that listens at [::] for both.
  if (IN6_IS_ADDR_V4MAPPED(&v6)) return v6.s6_addr[12] == 127;
  return IN6_IS_ADDR_LOOPBACK(&v6);
}

Result<Address> parseAddress(std::string_view text) {
  if (text.substr(0, UNIX_PREFIX.size()) == UNIX_PREFIX) return parseUnix(text);
  if (!text.empty() && text.front() == '[') return parseBracketed(text);
  size_t colon = text.find(':');
  if (colon != std::string_view::npos && text.find(':', colon + 1) != std::string_view::npos) {
    return badAddress(text, isNumericV6(text) ? "an IPv6 address stands in brackets" : "it has more than one colon");
  }
  std::string_view host = text.substr(0, colon);
  if (std::string_view reason = reasonAgainstHost(host); !reason.empty()) return badAddress(text, reason);
  return withPort(text, host, colon == std::string_view::npos ? std::string_view() : text.substr(colon));
}

}  // namespace capstan::rpc
