// Addresses of servers as people write them: HOST:PORT, [::1]:PORT, unix:PATH.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <capstan/base/error.h>

namespace capstan::rpc {

struct Address {
  enum class Kind { TCP, UNIX };
  Kind kind = Kind::TCP;
  std::string host;   // TCP: a name or a numeric address, without brackets
  uint16_t port = 0;  // TCP
  std::string path;   // UNIX: as given, maybe relative

  // "host:port", "[v6]:port" or "unix:path".
  std::string toString() const;
  // A Unix socket, or a numeric address in 127.0.0.0/8 (also as IPv6 has it, ::ffff:127.0.0.0/104) or ::1, or
  // "localhost".
  bool isLoopback() const;
  bool operator==(const Address&) const = default;
};

// Without a port: DEFAULT_PORT. Error invalidArgument names what is wrong with the text.
Result<Address> parseAddress(std::string_view text);

}  // namespace capstan::rpc
