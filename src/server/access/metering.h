// The meters of one server: its own, one for each connection, one for each share that somebody is logged in with; and
// what status tells of all limits.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include <kj/mutex.h>

#include <capstan/server/access/grant.h>
#include <capstan/server/access/limits.h>
#include <capstan/server/access/meter.h>

namespace capstan::server {

// Thread-safe. What it hands out may outlive it.
class Metering {
 public:
  explicit Metering(Limits limits);
  KJ_DISALLOW_COPY(Metering);

  const Limits limits;

  // For one connection that has just begun.
  std::shared_ptr<Meter> newConnection();

  // For a login on that connection: the connection's meter, those of the grant and its ancestors (but the owner's,
  // who has the server's limits), the server's.
  Meters metersOf(std::shared_ptr<Meter> connection, const Grant& grant);

  const Meter& server() const { return *serverMeter; }

  // Of what is looked at elsewhere.
  void countRefusal(Limit limit) { otherRefusals[size_t(limit)].fetch_add(1, std::memory_order_relaxed); }

  struct Figure {
    uint64_t used = 0;  // by the connection or share that uses most; 0 also where nobody counts
    uint64_t refused = 0;
  };
  // In the order of the table.
  using Figures = std::array<Figure, LIMITS>;
  // Of the whole server. Looks at each connection.
  Figures figures() const;
  // What is used by one connection and one share: what its holder may know.
  Figures figuresOf(const Meters& meters) const;

 private:
  // Outlives this object with the last connection's meter.
  struct Live {
    std::unordered_set<const Meter*> connections;
    std::map<std::string, std::weak_ptr<Meter>> grants;  // by id
  };
  using Shared = kj::MutexGuarded<Live>;

  const std::shared_ptr<MeterKind> connectionKind, grantKind, serverKind;
  const std::shared_ptr<Meter> serverMeter;
  const std::shared_ptr<Shared> live = std::make_shared<Shared>();
  std::array<std::atomic<uint64_t>, LIMITS> otherRefusals{};

  std::shared_ptr<Meter> meterOf(const Grant& grant);
};

}  // namespace capstan::server
