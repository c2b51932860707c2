#include <capstan/server/access/login-throttle.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include <capstan/base/text.h>
#include <capstan/rpc/address.h>

namespace capstan::server {

std::string networkOf(std::string_view peer) {
  auto address = rpc::parseAddress(peer);
  if (!address.ok() || address->kind != rpc::Address::Kind::TCP) return "local";
  in_addr v4{};
  if (inet_pton(AF_INET, address->host.c_str(), &v4) == 1) return address->host;
  in6_addr v6{};
  std::string host = address->host.substr(0, address->host.find('%'));
  if (inet_pton(AF_INET6, host.c_str(), &v6) != 1) return "local";
  if (IN6_IS_ADDR_V4MAPPED(&v6)) {
    char text[INET_ADDRSTRLEN] = {};
    inet_ntop(AF_INET, &v6.s6_addr[12], text, sizeof(text));
    return text;
  }
  return toHex(std::string_view(reinterpret_cast<const char*>(v6.s6_addr), 8)) + "/64";
}

LoginThrottle::Failure LoginThrottle::failed(const std::string& network, kj::TimePoint now) {
  total.fetch_add(1, std::memory_order_relaxed);
  std::lock_guard lock(mutex);
  Network& entry = entryOf(network, now);
  if (now - entry.last > MEMORY) entry.count = 0;
  entry.last = now;
  if (entry.count < UINT32_MAX) ++entry.count;
  order.splice(order.end(), order, entry.position);
  unsigned doublings = std::min<uint32_t>(entry.count - 1, 6);
  return {std::min<kj::Duration>(FIRST_DELAY * (1u << doublings), LAST_DELAY), entry.count};
}

std::optional<uint32_t> LoginThrottle::mayTell(const std::string& network, kj::TimePoint now) {
  std::lock_guard lock(mutex);
  Network& entry = entryOf(network, now);
  KJ_IF_MAYBE (told, entry.told) {
    if (now - *told < BETWEEN_LINES) {
      ++entry.untold;
      return std::nullopt;
    }
  }
  entry.told = now;
  return std::exchange(entry.untold, 0);
}

LoginThrottle::Network& LoginThrottle::entryOf(const std::string& network, kj::TimePoint now) {
  auto found = known.find(network);
  if (found != known.end()) return found->second;
  if (known.size() >= MAX_NETWORKS) {
    known.erase(order.front());
    order.pop_front();
  }
  Network entry{.count = 0, .last = now, .told = nullptr, .untold = 0, .position = order.insert(order.end(), network)};
  return known.emplace(network, kj::mv(entry)).first->second;
}

size_t LoginThrottle::networks() const {
  std::lock_guard lock(mutex);
  return known.size();
}

}  // namespace capstan::server
