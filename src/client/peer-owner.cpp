#include <capstan/client/peer-owner.h>

#include <netinet/in.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>

#include <kj/exception.h>

#include <capstan/base/file.h>

namespace capstan::client {

namespace {

constexpr size_t MAX_TABLE_BYTES = 256 << 20;
constexpr uid_t ROOT = 0;
// What the kernel shows for users that this user namespace does not have: anybody.
constexpr uid_t UNKNOWN_USER = 65534;
constexpr std::string_view LISTENING = "0A";

// An end of a connection as the tables write it: the words of the address and the port, in hex.
struct End {
  std::string v4, v6;        // "0100007F"; v4 is empty where it is none that is written so
  std::string allV4, allV6;  // of a listener at all addresses
  std::string port;
};

std::string hexOf(const void* words, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) {
    uint32_t word;
    memcpy(&word, static_cast<const char*>(words) + i * sizeof(word), sizeof(word));
    char digits[9];
    snprintf(digits, sizeof(digits), "%08X", unsigned(word));
    text += digits;
  }
  return text;
}

std::optional<End> endOf(const sockaddr_storage& address) {
  End end;
  in6_addr v6{};
  in_port_t port = 0;
  if (address.ss_family == AF_INET) {
    auto& given = reinterpret_cast<const sockaddr_in&>(address);
    port = given.sin_port;
    v6.s6_addr[10] = v6.s6_addr[11] = 0xff;
    memcpy(&v6.s6_addr[12], &given.sin_addr, sizeof(given.sin_addr));
  } else if (address.ss_family == AF_INET6) {
    auto& given = reinterpret_cast<const sockaddr_in6&>(address);
    port = given.sin6_port;
    v6 = given.sin6_addr;
  } else {
    return std::nullopt;
  }
  in6_addr all{};
  if (IN6_IS_ADDR_V4MAPPED(&v6)) {
    end.v4 = hexOf(&v6.s6_addr[12], 1);
    end.allV4 = hexOf(&all, 1);
  }
  end.v6 = hexOf(&v6, 4);
  end.allV6 = hexOf(&all, 4);
  char digits[5];
  snprintf(digits, sizeof(digits), "%04X", unsigned(ntohs(port)));
  end.port = digits;
  return end;
}

// One line: "  0: 0100007F:1169 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 ...".
struct Row {
  std::string_view near, nearPort, far, farPort, state;
  uid_t user = UNKNOWN_USER;
};

std::string_view nextWord(std::string_view& line) {
  size_t begin = line.find_first_not_of(' ');
  line.remove_prefix(begin == std::string_view::npos ? line.size() : begin);
  std::string_view word = line.substr(0, line.find(' '));
  line.remove_prefix(word.size());
  return word;
}

bool split(std::string_view word, std::string_view& address, std::string_view& port) {
  size_t colon = word.find(':');
  if (colon == std::string_view::npos) return false;
  address = word.substr(0, colon);
  port = word.substr(colon + 1);
  return true;
}

std::optional<Row> rowIn(std::string_view line) {
  Row row;
  nextWord(line);  // its number
  if (!split(nextWord(line), row.near, row.nearPort) || !split(nextWord(line), row.far, row.farPort))
    return std::nullopt;
  row.state = nextWord(line);
  for (int i = 0; i < 3; ++i) nextWord(line);  // queues, timers, retransmissions
  std::string_view user = nextWord(line);
  auto [end, problem] = std::from_chars(user.data(), user.data() + user.size(), row.user);
  if (user.empty() || problem != std::errc() || end != user.data() + user.size()) return std::nullopt;
  return row;
}

// What the rows say of one connection.
class Verdict {
 public:
  Verdict(const End& near, const End& far, uid_t user) : near(near), far(far), user(user) {}

  // False: the table is none.
  bool read(std::string_view table, bool isV6) {
    size_t begin = table.find('\n');  // behind the titles
    if (begin == std::string_view::npos) return table.empty();
    for (table.remove_prefix(begin + 1); !table.empty();) {
      std::string_view line = table.substr(0, table.find('\n'));
      table.remove_prefix(std::min(table.size(), line.size() + 1));
      auto row = rowIn(line);
      if (!row) return false;
      take(*row, isV6);
    }
    return true;
  }

  bool isForUserAlone() const { return takenUp != OF_OTHERS && (exact == NONE ? all : exact) == OF_USER; }

 private:
  enum Whose { NONE, OF_USER, OF_OTHERS };
  const End& near;
  const End& far;
  const uid_t user;
  Whose exact = NONE, all = NONE;  // listeners
  Whose takenUp = NONE;

  void note(Whose& what, const Row& row) const {
    bool isOurs = row.user == ROOT || (row.user == user && user != UNKNOWN_USER);
    if (!isOurs) what = OF_OTHERS;
    if (isOurs && what == NONE) what = OF_USER;
  }

  void take(const Row& row, bool isV6) {
    if (row.nearPort != far.port) return;
    bool isExact = row.near == (isV6 ? far.v6 : far.v4);
    if (row.state == LISTENING) {
      // A listener at all IPv6 addresses may have those of IPv4 too: the tables do not say.
      if (isExact) note(exact, row);
      if (row.near == (isV6 ? far.allV6 : far.allV4)) note(all, row);
    } else if (isExact && row.far == (isV6 ? near.v6 : near.v4) && row.farPort == near.port) {
      note(takenUp, row);
    }
  }
};

// This process's own: of its network, and there where /proc shows nothing but processes.
std::optional<std::string> readTable(const char* path) {
  auto text = readFile(path, MAX_TABLE_BYTES);
  return text.ok() ? std::optional(std::move(*text)) : std::nullopt;
}

}  // namespace

bool isOfUserAlone(const TcpTables& tables, const sockaddr_storage& near, const sockaddr_storage& far, uid_t user) {
  auto nearEnd = endOf(near), farEnd = endOf(far);
  if (!nearEnd || !farEnd) return false;
  Verdict verdict(*nearEnd, *farEnd, user);
  return verdict.read(tables.v4, false) && verdict.read(tables.v6, true) && verdict.isForUserAlone();
}

bool isOfThisUserAlone(kj::AsyncIoStream& stream) {
  sockaddr_storage near{}, far{};
  auto failure = kj::runCatchingExceptions([&]() {
    kj::uint size = sizeof(near);
    stream.getsockname(reinterpret_cast<sockaddr*>(&near), &size);
    size = sizeof(far);
    stream.getpeername(reinterpret_cast<sockaddr*>(&far), &size);
  });
  if (failure != nullptr) return false;
  auto v4 = readTable("/proc/self/net/tcp"), v6 = readTable("/proc/self/net/tcp6");
  bool hasV6 = access("/proc/self/net/if_inet6", F_OK) == 0;
  if (!v4 || (!v6 && hasV6)) return false;
  return isOfUserAlone({*v4, v6 ? std::string_view(*v6) : std::string_view()}, near, far, geteuid());
}

}  // namespace capstan::client
