// The table of all limits: names, defaults, what may be set, what they mean; and the values of one server. What counts
// against them is in meter.h, or where it happens.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <capstan/base/error.h>
#include <capstan/server/access/meter.h>

namespace capstan::server {

// For whom a limit holds. The numbers are those of LimitStatus.Scope in schema/gateway.capnp.
enum class LimitScope : uint16_t {
  UNSET,
  CONNECTION,  // each of them
  GRANT,       // each share, with all that were made from it; the owner has the server's
  SERVER,
};
std::string_view nameOf(LimitScope scope);

// The numbers of LimitStatus.Unit in schema/gateway.capnp.
enum class LimitUnit : uint16_t { UNSET, COUNT, BYTES, NANOSECONDS };

// The rows of the table, in its order.
enum class Limit : uint8_t {
  CONNECTION_LOGINS,
  CONNECTION_CALLS,
  CONNECTION_FILES,
  CONNECTION_UPLOADS,
  CONNECTION_STREAMS,
  CONNECTION_BATCHES,
  CONNECTION_BATCH_BYTES,
  CONNECTION_BATCH_STAGED_BYTES,
  CONNECTION_SUBSCRIPTIONS,
  CONNECTION_STAGED_BYTES,
  CONNECTION_VALUES,
  CONNECTION_VALUE_BYTES,
  CONNECTION_MESSAGE,
  CONNECTION_LIST_ENTRIES,
  CONNECTION_WATCH_QUEUE,
  CONNECTION_LOGIN_TIME,
  CONNECTION_IDLE_TIME,
  GRANT_CONNECTIONS,
  GRANT_CALLS,
  GRANT_FILES,
  GRANT_UPLOADS,
  GRANT_STREAMS,
  GRANT_BATCHES,
  GRANT_SUBSCRIPTIONS,
  GRANT_STAGED_BYTES,
  GRANT_VALUES,
  GRANT_SHARES,
  GRANT_JOBS_RUNNING,
  GRANT_JOBS_QUEUED,
  GRANT_JOBS_KEPT,
  GRANT_JOB_RESULT_BYTES,
  GRANT_JOB_RESULT_TIME,
  GRANT_QUOTA,
  SERVER_CONNECTIONS,
  SERVER_NEWCOMERS,
  SERVER_NETWORK_NEWCOMERS,
  SERVER_CALLS,
  SERVER_FILES,
  SERVER_UPLOADS,
  SERVER_STREAMS,
  SERVER_BATCHES,
  SERVER_SUBSCRIPTIONS,
  SERVER_STAGED_BYTES,
  SERVER_VALUES,
  SERVER_WATCH_QUEUE,
};
inline constexpr size_t LIMITS = size_t(Limit::SERVER_WATCH_QUEUE) + 1;

struct LimitRow {
  Limit limit;
  const char* name;  // "staged-bytes"; the same in several scopes
  LimitScope scope;
  LimitUnit unit;
  uint64_t preset;
  uint64_t least, most;  // that may be set
  const char* meaning;
  std::optional<Resource> resource;  // which meters count; nothing: it is looked at elsewhere

  std::string fullName() const { return std::string(nameOf(scope)) + "." + name; }
};
using LimitTable = std::array<LimitRow, LIMITS>;
const LimitTable& limitTable();
const LimitRow& rowOf(Limit limit);

// "64", "8.0 MiB", "30 s".
std::string formatLimit(LimitUnit unit, uint64_t value);
// Back, as a user writes it; nothing if it is no such text.
std::optional<uint64_t> parseLimit(LimitUnit unit, std::string_view text);

// The values of one server. Plain data.
class Limits {
 public:
  Limits();  // the presets

  uint64_t operator[](Limit limit) const { return values[size_t(limit)]; }
  // Error: invalidArgument, with what is possible.
  Status set(Limit limit, uint64_t value);
  // Of the meters of this scope.
  MeterKind::Bounds boundsOf(LimitScope scope) const;

 private:
  std::array<uint64_t, LIMITS> values;
};

// For a connection that no server counts (see metering.h), with these limits.
std::shared_ptr<Meter> newConnectionMeter(const Limits& limits = Limits());

}  // namespace capstan::server
