#include <capstan/client/cli/invite-file.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include <kj/common.h>
#include <kj/io.h>

#include <capstan/base/file.h>

namespace capstan::cli {

namespace {

using rpc::Address;

bool isWildcard(const Address& address) {
  return address.kind == Address::Kind::TCP && (address.host == "0.0.0.0" || address.host == "::");
}

// 0: others can use it; 1: this machine alone; 2: a socket, of this user alone.
int rankOf(const Address& address) {
  if (address.kind == Address::Kind::UNIX) return 2;
  return address.isLoopback() ? 1 : 0;
}

Address withHost(Address address, std::string host) {
  address.host = std::move(host);
  return address;
}

// Numeric; nothing for those that mean something on one link, or on this machine, alone.
std::string numericOf(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address->sa_family == AF_INET) {
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, text, sizeof(text));
  } else if (address->sa_family == AF_INET6) {
    auto& bytes = reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
    if (IN6_IS_ADDR_LINKLOCAL(&bytes)) return {};
    inet_ntop(AF_INET6, &bytes, text, sizeof(text));
  }
  return text;
}

}  // namespace

Machine thisMachine(std::string host) {
  Machine machine{std::move(host), {}};
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) < 0) return machine;
  KJ_DEFER(freeifaddrs(list));
  for (ifaddrs* each = list; each != nullptr; each = each->ifa_next) {
    bool usable = each->ifa_addr != nullptr && (each->ifa_flags & IFF_UP) && !(each->ifa_flags & IFF_LOOPBACK);
    if (!usable) continue;
    std::string address = numericOf(each->ifa_addr);
    if (!address.empty()) machine.addresses.push_back(std::move(address));
  }
  return machine;
}

std::vector<Address> inviteAddresses(const std::vector<std::string>& listeners, const Address& dialled,
                                     const Machine& machine) {
  std::vector<Address> found;
  auto add = [&found](Address address) {
    if (std::find(found.begin(), found.end(), address) == found.end()) found.push_back(std::move(address));
  };
  // An address that somebody has reached it by is better than any guess.
  if (dialled.kind == Address::Kind::TCP && !dialled.isLoopback()) add(dialled);
  for (auto& text : listeners) {
    auto address = rpc::parseAddress(text);
    if (!address.ok()) continue;
    if (!isWildcard(*address)) {
      add(*address);
      continue;
    }
    bool v6 = address->host == "::";
    for (auto& host : machine.addresses) {
      if (v6 || host.find(':') == std::string::npos) add(withHost(*address, host));
    }
    if (!machine.host.empty()) add(withHost(*address, machine.host));
    add(withHost(*address, v6 ? "::1" : "127.0.0.1"));
  }
  std::stable_sort(found.begin(), found.end(), [](auto& a, auto& b) { return rankOf(a) < rankOf(b); });
  if (found.size() > rpc::MAX_INVITE_ADDRESSES) found.resize(rpc::MAX_INVITE_ADDRESSES);
  return found;
}

bool reachableFromElsewhere(const std::vector<Address>& addresses) {
  return std::any_of(addresses.begin(), addresses.end(), [](auto& address) { return rankOf(address) == 0; });
}

Status writeNewInvite(const std::string& file, std::string_view text) {
  constexpr int FLAGS = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  kj::AutoCloseFd fd(open(file.c_str(), FLAGS, 0600));
  if (fd.get() < 0 && errno == EEXIST) {
    return errorAt(ErrorCode::EXISTS, file, "", " is there already; name a file for the invite with -o");
  }
  if (fd.get() < 0) return errorFromErrno(errno, "cannot write", file);
  if (writeAt(fd, text.data(), text.size(), 0) && fsync(fd) == 0) return okStatus();
  Error error = errorFromErrno(errno, "cannot write", file);
  unlink(file.c_str());
  return error;
}

}  // namespace capstan::cli
