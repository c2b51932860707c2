#include <capstan/server/access/limits.h>

#include <charconv>

#include <kj/debug.h>

#include <capstan/base/text.h>

namespace capstan::server {

namespace {

constexpr uint64_t KIB = 1 << 10, MIB = 1 << 20, GIB = 1 << 30, TIB = 1ull << 40;
constexpr uint64_t SECOND = 1'000'000'000, DAY = 24 * 3600 * SECOND;
constexpr uint64_t MANY = 1 << 20;  // more than this of anything is a mistake
constexpr uint64_t EVER = 1ull << 62;

LimitRow count(Limit limit, LimitScope scope, const char* name, uint64_t preset, std::optional<Resource> resource,
               const char* meaning) {
  return {limit, name, scope, LimitUnit::COUNT, preset, 1, MANY, meaning, resource};
}

LimitRow bytes(Limit limit, LimitScope scope, const char* name, uint64_t preset, uint64_t least, uint64_t most,
               std::optional<Resource> resource, const char* meaning) {
  return {limit, name, scope, LimitUnit::BYTES, preset, least, most, meaning, resource};
}

LimitTable makeTable() {
  using enum Limit;
  using R = Resource;
  constexpr auto CONNECTION = LimitScope::CONNECTION, GRANT = LimitScope::GRANT, SERVER = LimitScope::SERVER;
  constexpr auto NONE = std::nullopt;
  return {
      count(CONNECTION_LOGINS, CONNECTION, "logins", 256, R::LOGINS, "sessions open"),
      count(CONNECTION_CALLS, CONNECTION, "calls", 16384, R::CALLS, "calls that are not answered yet"),
      count(CONNECTION_FILES, CONNECTION, "files", 256, R::FILES, "files held open for reading"),
      count(CONNECTION_UPLOADS, CONNECTION, "uploads", 64, R::UPLOADS, "uploads open"),
      count(CONNECTION_STREAMS, CONNECTION, "streams", 256, R::STREAMS, "streams from the server open"),
      count(CONNECTION_BATCHES, CONNECTION, "batches", 16, R::BATCHES, "batches open"),
      bytes(CONNECTION_BATCH_BYTES, CONNECTION, "batch-bytes", 32 * MIB, 64 * KIB, GIB, R::BATCH_BYTES,
            "memory for paths, targets and versions in batches"),
      bytes(CONNECTION_BATCH_STAGED_BYTES, CONNECTION, "batch-staged-bytes", 8 * GIB, MIB, EVER, R::BATCH_STAGED_BYTES,
            "content in batches that are not committed yet"),
      count(CONNECTION_SUBSCRIPTIONS, CONNECTION, "subscriptions", 64, R::SUBSCRIPTIONS, "subscriptions to changes"),
      bytes(CONNECTION_STAGED_BYTES, CONNECTION, "staged-bytes", TIB, MIB, EVER, R::STAGED_BYTES,
            "content on the disk that is not committed yet"),
      count(CONNECTION_VALUES, CONNECTION, "values", 8192, R::VALUES, "values of computing held"),
      bytes(CONNECTION_VALUE_BYTES, CONNECTION, "value-bytes", 16 * GIB, MIB, EVER, NONE,
            "memory and disk that values take"),
      bytes(CONNECTION_MESSAGE, CONNECTION, "message", 8 * MIB, 2 * MIB, 64 * MIB, NONE,
            "size of a message; a longer one ends the connection"),
      {CONNECTION_LIST_ENTRIES, "list-entries", CONNECTION, LimitUnit::COUNT, 2048, 16, 2048,
       "entries in one answer to a listing; the rest comes in further answers", NONE},
      {CONNECTION_WATCH_QUEUE, "watch-queue", CONNECTION, LimitUnit::COUNT, 2000, 1, 2000,
       "changes in one call to a watcher; the rest comes in further calls", NONE},
      {CONNECTION_LOGIN_TIME, "login-time", CONNECTION, LimitUnit::NANOSECONDS, 30 * SECOND, SECOND / 100, DAY,
       "time until a connection has logged in, its encryption included", NONE},
      {CONNECTION_IDLE_TIME, "idle-time", CONNECTION, LimitUnit::NANOSECONDS, 0, 0, EVER,
       "time without a message or a transfer after which a connection is ended; 0: none", NONE},

      count(GRANT_CONNECTIONS, GRANT, "connections", 256, R::CONNECTIONS,
            "connections that are logged in with a share"),
      count(GRANT_CALLS, GRANT, "calls", 65536, R::CALLS, "calls that are not answered yet"),
      count(GRANT_FILES, GRANT, "files", 2048, R::FILES, "files held open for reading"),
      count(GRANT_UPLOADS, GRANT, "uploads", 256, R::UPLOADS, "uploads open"),
      count(GRANT_STREAMS, GRANT, "streams", 1024, R::STREAMS, "streams from the server open"),
      count(GRANT_BATCHES, GRANT, "batches", 64, R::BATCHES, "batches open"),
      count(GRANT_SUBSCRIPTIONS, GRANT, "subscriptions", 512, R::SUBSCRIPTIONS, "subscriptions to changes"),
      bytes(GRANT_STAGED_BYTES, GRANT, "staged-bytes", 64 * GIB, MIB, EVER, R::STAGED_BYTES,
            "content on the disk that is not committed yet"),
      count(GRANT_VALUES, GRANT, "values", 32768, R::VALUES, "values of computing held"),
      count(GRANT_SHARES, GRANT, "shares", 1000, NONE, "shares made from it that have not ended"),
      count(GRANT_JOBS_RUNNING, GRANT, "jobs-running", 2, NONE, "jobs at the same time; more are queued"),
      count(GRANT_JOBS_QUEUED, GRANT, "jobs-queued", 100, NONE, "jobs that wait"),
      count(GRANT_JOBS_KEPT, GRANT, "jobs-kept", 1000, NONE, "jobs that have ended; the oldest are forgotten first"),
      bytes(GRANT_JOB_RESULT_BYTES, GRANT, "job-result-bytes", 8 * GIB, MIB, EVER, NONE,
            "results of jobs that have ended; the oldest are forgotten first"),
      {GRANT_JOB_RESULT_TIME, "job-result-time", GRANT, LimitUnit::NANOSECONDS, DAY, SECOND, EVER,
       "time that a job is kept after its end", NONE},
      bytes(GRANT_QUOTA, GRANT, "quota", 0, 0, EVER, NONE,
            "what a share's files may take if it was made without --quota; 0: no such limit"),

      count(SERVER_CONNECTIONS, SERVER, "connections", 1024, NONE, "connections that are logged in"),
      count(SERVER_NEWCOMERS, SERVER, "newcomers", 256, NONE,
            "connections that have not logged in; the oldest gives way to a new one"),
      count(SERVER_NETWORK_NEWCOMERS, SERVER, "network-newcomers", 128, NONE,
            "the same from one address (IPv6: one /64)"),
      count(SERVER_CALLS, SERVER, "calls", 131072, R::CALLS, "calls that are not answered yet"),
      count(SERVER_FILES, SERVER, "files", 8192, R::FILES, "files held open for reading"),
      count(SERVER_UPLOADS, SERVER, "uploads", 4096, R::UPLOADS, "uploads open"),
      count(SERVER_STREAMS, SERVER, "streams", 8192, R::STREAMS, "streams from the server open"),
      count(SERVER_BATCHES, SERVER, "batches", 1024, R::BATCHES, "batches open"),
      count(SERVER_SUBSCRIPTIONS, SERVER, "subscriptions", 8192, R::SUBSCRIPTIONS, "subscriptions to changes"),
      bytes(SERVER_STAGED_BYTES, SERVER, "staged-bytes", 4 * TIB, MIB, EVER, R::STAGED_BYTES,
            "content on the disk that is not committed yet"),
      count(SERVER_VALUES, SERVER, "values", 131072, R::VALUES, "values of computing held"),
      {SERVER_WATCH_QUEUE, "watch-queue", SERVER, LimitUnit::COUNT, 100'000, 100, 10 * MANY,
       "changes remembered for those who watch; whoever is further behind looks at everything anew", NONE},
  };
}

}  // namespace

std::string_view nameOf(LimitScope scope) {
  switch (scope) {
    case LimitScope::CONNECTION: return "connection";
    case LimitScope::GRANT: return "grant";
    case LimitScope::SERVER: return "server";
    default: return "unknown";
  }
}

const LimitTable& limitTable() {
  static const LimitTable table = [] {
    LimitTable made = makeTable();
    for (size_t i = 0; i < LIMITS; ++i) KJ_ASSERT(size_t(made[i].limit) == i, made[i].name);
    return made;
  }();
  return table;
}

const LimitRow& rowOf(Limit limit) { return limitTable()[size_t(limit)]; }

std::string formatLimit(LimitUnit unit, uint64_t value) {
  switch (unit) {
    case LimitUnit::BYTES: return formatSize(value);
    case LimitUnit::NANOSECONDS: return formatDuration(value);
    default: return std::to_string(value);
  }
}

std::optional<uint64_t> parseLimit(LimitUnit unit, std::string_view text) {
  if (unit == LimitUnit::BYTES) return parseSize(text);
  if (unit == LimitUnit::NANOSECONDS) return parseDuration(text);
  uint64_t number = 0;
  auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

Limits::Limits() {
  for (const LimitRow& row : limitTable()) values[size_t(row.limit)] = row.preset;
}

Status Limits::set(Limit limit, uint64_t value) {
  const LimitRow& row = rowOf(limit);
  if (value < row.least || value > row.most) {
    std::string range = row.most == EVER ? formatLimit(row.unit, row.least) + " or more"
                                         : formatLimit(row.unit, row.least) + " to " + formatLimit(row.unit, row.most);
    return Error{ErrorCode::INVALID_ARGUMENT,
                 "the limit " + row.fullName() + " can be " + range + ", not " + formatLimit(row.unit, value),
                 {}};
  }
  values[size_t(limit)] = value;
  return okStatus();
}

MeterKind::Bounds Limits::boundsOf(LimitScope scope) const {
  MeterKind::Bounds bounds{};
  for (const LimitRow& row : limitTable()) {
    if (row.scope == scope && row.resource) bounds[size_t(*row.resource)] = values[size_t(row.limit)];
  }
  return bounds;
}

std::shared_ptr<Meter> newConnectionMeter(const Limits& limits) {
  auto bounds = limits.boundsOf(LimitScope::CONNECTION);
  return std::make_shared<Meter>("this connection", std::make_shared<MeterKind>("connection", bounds, ""));
}

}  // namespace capstan::server
