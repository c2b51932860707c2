#include <capstan/server/access/metering.h>

#include <algorithm>

#include <capstan/base/text.h>

namespace capstan::server {

namespace {

std::shared_ptr<MeterKind> kindOf(const Limits& limits, LimitScope scope, const char* lastResort) {
  return std::make_shared<MeterKind>(nameOf(scope).data(), limits.boundsOf(scope), lastResort);
}

std::string holderOf(const Grant& grant) {
  if (grant.terms.label.empty()) return "the share " + grant.id;
  return "the share \"" + escapeForTerminal(grant.terms.label) + "\"";
}

const MeterKind& pick(LimitScope scope, const MeterKind& connection, const MeterKind& grant, const MeterKind& server) {
  return scope == LimitScope::CONNECTION ? connection : scope == LimitScope::GRANT ? grant : server;
}

}  // namespace

Metering::Metering(Limits limitsParam)
    : limits(std::move(limitsParam)),
      connectionKind(kindOf(limits, LimitScope::CONNECTION, "")),
      grantKind(kindOf(limits, LimitScope::GRANT, ", or wait until others who use it have")),
      serverKind(kindOf(limits, LimitScope::SERVER, ", or try again later")),
      serverMeter(std::make_shared<Meter>("the server", serverKind)) {}

std::shared_ptr<Meter> Metering::newConnection() {
  auto forget = [live = live](Meter* meter) {
    live->lockExclusive()->connections.erase(meter);
    delete meter;
  };
  std::shared_ptr<Meter> meter(new Meter("this connection", connectionKind), std::move(forget));
  live->lockExclusive()->connections.insert(meter.get());
  return meter;
}

Meters Metering::metersOf(std::shared_ptr<Meter> connection, const Grant& grant) {
  std::vector<std::shared_ptr<Meter>> meters{std::move(connection)};
  for (const Grant* each = &grant; !each->isOwner(); each = each->parent.get()) meters.push_back(meterOf(*each));
  meters.push_back(serverMeter);
  return Meters(std::move(meters));
}

std::shared_ptr<Meter> Metering::meterOf(const Grant& grant) {
  auto locked = live->lockExclusive();
  auto& known = locked->grants[grant.id];
  if (auto meter = known.lock()) return meter;
  auto meter = std::make_shared<Meter>(holderOf(grant), grantKind);
  known = meter;
  // Those that nobody is logged in with any more.
  std::erase_if(locked->grants, [](const auto& each) { return each.second.expired(); });
  return meter;
}

Metering::Figures Metering::figuresOf(const Meters& meters) const {
  Figures result{};
  for (const LimitRow& row : limitTable()) {
    if (!row.resource || row.scope == LimitScope::SERVER) continue;
    // The grant's own is behind the connection's.
    size_t place = row.scope == LimitScope::CONNECTION ? 0 : 1;
    if (place < meters.all().size()) result[size_t(row.limit)].used = meters.all()[place]->used(*row.resource);
  }
  return result;
}

Metering::Figures Metering::figures() const {
  Figures result{};
  std::array<uint64_t, RESOURCES> ofConnections{}, ofGrants{};
  auto look = [](std::array<uint64_t, RESOURCES>& most, const Meter& meter) {
    for (size_t i = 0; i < RESOURCES; ++i) most[i] = std::max(most[i], meter.used(Resource(i)));
  };
  {
    auto locked = live->lockShared();
    for (const Meter* meter : locked->connections) look(ofConnections, *meter);
    for (const auto& [id, weak] : locked->grants) {
      if (auto meter = weak.lock()) look(ofGrants, *meter);
    }
  }
  for (const LimitRow& row : limitTable()) {
    Figure& figure = result[size_t(row.limit)];
    figure.refused = otherRefusals[size_t(row.limit)].load(std::memory_order_relaxed);
    if (!row.resource) continue;
    size_t resource = size_t(*row.resource);
    figure.refused += pick(row.scope, *connectionKind, *grantKind, *serverKind).refusals[resource].load();
    figure.used = row.scope == LimitScope::CONNECTION ? ofConnections[resource]
                  : row.scope == LimitScope::GRANT    ? ofGrants[resource]
                                                      : serverMeter->used(*row.resource);
  }
  return result;
}

}  // namespace capstan::server
