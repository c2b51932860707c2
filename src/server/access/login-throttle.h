// Slows down those who try tokens: each wrong one from an address is answered later than the one before, whichever
// connection and event loop it comes by. A right token is never slowed.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include <kj/common.h>
#include <kj/time.h>

namespace capstan::server {

// What counts as one address: an IPv4 address, and an IPv6 /64, since each of its owner's programs has as many as it
// wants. `peer`: "HOST:PORT" as in PeerIdentity; all others, those on Unix sockets, are one.
std::string networkOf(std::string_view peer);

// Thread-safe.
class LoginThrottle {
 public:
  static constexpr kj::Duration FIRST_DELAY = 100 * kj::MILLISECONDS;
  static constexpr kj::Duration LAST_DELAY = 5 * kj::SECONDS;
  static constexpr kj::Duration MEMORY = 60 * kj::SECONDS;  // how long nothing has to happen until all is forgotten
  static constexpr kj::Duration BETWEEN_LINES = 1 * kj::SECONDS;  // of the log, about one network
  static constexpr size_t MAX_NETWORKS = 4096;  // of more, those that failed longest ago are forgotten

  struct Failure {
    kj::Duration delay;  // until it may be answered
    uint32_t count;      // of the network, this one included
  };
  // A wrong token at this time, of any clock that goes on steadily.
  Failure failed(const std::string& network, kj::TimePoint now);

  // Whether a line may be logged now about what a peer of this network was refused: one in a second. Nothing: not yet;
  // else how many were left out since the last one.
  std::optional<uint32_t> mayTell(const std::string& network, kj::TimePoint now);

  // Of all networks, since the start.
  uint64_t failures() const { return total.load(std::memory_order_relaxed); }
  size_t networks() const;

 private:
  struct Network {
    uint32_t count = 0;
    kj::TimePoint last;
    kj::Maybe<kj::TimePoint> told;
    uint32_t untold = 0;
    std::list<std::string>::iterator position;
  };
  std::atomic<uint64_t> total{0};
  mutable std::mutex mutex;
  // protected by mutex
  std::list<std::string> order;  // the latest failure last
  std::unordered_map<std::string, Network> known;

  Network& entryOf(const std::string& network, kj::TimePoint now);
};

}  // namespace capstan::server
