// `capstan status` and `capstan ping`: whether a server is there, how it is, and how far away.
#include <algorithm>
#include <cmath>

#include <capnp/message.h>
#include <capstan/base/text.h>
#include <capstan/base/tree-watcher.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/context.h>
#include <capstan/client/cli/json.h>

namespace capstan::cli {

namespace {

double seconds(uint64_t nanoseconds) { return double(nanoseconds) / 1e9; }

std::string_view text(capnp::Text::Reader reader) { return {reader.begin(), reader.size()}; }

const char* nameOf(schema::CachePolicy policy) {
  switch (policy) {
    case schema::CachePolicy::FIFO: return "fifo";
    case schema::CachePolicy::LRU: return "lru";
    default: return "unknown";
  }
}

const char* nameOf(schema::LimitStatus::Scope scope) {
  switch (scope) {
    case schema::LimitStatus::Scope::CONNECTION: return "connection";
    case schema::LimitStatus::Scope::GRANT: return "grant";
    case schema::LimitStatus::Scope::SERVER: return "server";
    default: return "unknown";
  }
}

const char* nameOf(schema::LimitStatus::Unit unit) {
  switch (unit) {
    case schema::LimitStatus::Unit::COUNT: return "count";
    case schema::LimitStatus::Unit::BYTES: return "bytes";
    case schema::LimitStatus::Unit::NANOSECONDS: return "seconds";
    default: return "unknown";
  }
}

// In the unit's own measure; durations in seconds, as everywhere in JSON.
void writeLimits(JsonWriter& json, capnp::List<schema::LimitStatus>::Reader limits) {
  json.beginArray();
  for (auto limit : limits) {
    json.beginObject().field("name", text(limit.getName())).field("scope", nameOf(limit.getScope()));
    json.field("unit", nameOf(limit.getUnit()));
    if (limit.getUnit() == schema::LimitStatus::Unit::NANOSECONDS) {
      json.field("value", seconds(limit.getValue()));
    } else {
      json.field("value", limit.getValue());
    }
    json.field("used", limit.getUsed()).field("refused", limit.getRefused()).endObject();
  }
  json.endArray();
}

std::string formatLimit(schema::LimitStatus::Unit unit, uint64_t value) {
  switch (unit) {
    case schema::LimitStatus::Unit::BYTES: return formatSize(value);
    case schema::LimitStatus::Unit::NANOSECONDS: return formatDuration(value);
    default: return std::to_string(value);
  }
}

// Those that somebody has run into, or is near to: one to a line.
std::vector<std::string> limitsToTell(capnp::List<schema::LimitStatus>::Reader limits) {
  std::vector<std::string> lines;
  for (auto limit : limits) {
    uint64_t value = limit.getValue(), used = limit.getUsed();
    bool near = value > 0 && used >= value - value / 5;
    if (!near && limit.getRefused() == 0) continue;
    std::string line = std::string(nameOf(limit.getScope())) + "." + escapeForTerminal(text(limit.getName())) + ": ";
    if (used > 0) line += formatLimit(limit.getUnit(), used) + " of ";
    line += formatLimit(limit.getUnit(), value);
    if (limit.getRefused() > 0) line += ", run into " + std::to_string(limit.getRefused()) + " times";
    lines.push_back(std::move(line));
  }
  return lines;
}

void writeCache(JsonWriter& json, schema::CacheStatus::Reader cache) {
  json.beginObject()
      .field("bytes", cache.getBytes())
      .field("limit", cache.getLimit())
      .field("hits", cache.getHits())
      .field("misses", cache.getMisses())
      .field("evictions", cache.getEvictions())
      .field("entries", cache.getEntries())
      .field("policy", nameOf(cache.getPolicy()))
      .endObject();
}

std::string statusAsJson(schema::Status::Reader status) {
  auto info = status.getInfo();
  JsonWriter json;
  json.beginObject()
      .field("pid", info.getProcessId())
      .field("uptime", seconds(info.getUptime()))
      .field("version", text(info.getVersion()))
      .field("connections", status.getConnections())
      .key("cache");
  writeCache(json, status.getCache());
  json.field("jobs", status.getJobs())
      .field("transfers", status.getUploads() + status.getDownloads())
      .field("uploads", status.getUploads())
      .field("downloads", status.getDownloads())
      .field("name", text(info.getName()))
      .field("host", text(info.getHost()))
      .field("protocolVersion", info.getProtocolVersion())
      .field("root", text(status.getRoot()))
      .key("listeners")
      .beginArray();
  for (auto listener : status.getListeners()) json.value(text(listener));
  json.endArray()
      .field("threads", status.getThreads())
      .field("sessions", status.getSessions())
      .field("openFiles", status.getOpenFiles())
      .field("connectionsAccepted", status.getConnectionsAccepted())
      .field("bytesReceived", status.getBytesReceived())
      .field("bytesSent", status.getBytesSent())
      .field("calls", status.getCalls())
      .field("commits", status.getCommits())
      .field("flushes", status.getFlushes())
      .field("residentMemory", status.getResidentMemory())
      .field("computations", status.getComputations())
      .field("values", status.getValues())
      .field("valueBytes", status.getValueBytes())
      .field("subscriptions", status.getSubscriptions())
      .field("failedLogins", status.getFailedLogins())
      .field("watch", nameOf(static_cast<WatchMethod>(status.getWatch().getMethod())))
      .field("trashBytes", status.getTrashBytes())
      .key("limits");
  writeLimits(json, status.getLimits());
  json.endObject();
  return json.text();
}

std::string percentage(uint64_t part, uint64_t whole) {
  return whole == 0 ? "none asked yet"
                    : std::to_string(part * 100 / whole) + "% of " + std::to_string(whole) + " reads";
}

std::string statusForPeople(schema::Status::Reader status, const std::string& serverName) {
  auto info = status.getInfo();
  auto cache = status.getCache();
  std::string out;
  auto line = [&](const std::string& label, const std::string& content) {
    out += label;
    out.append(label.size() < 13 ? 13 - label.size() : 1, ' ');
    out += content + "\n";
  };
  auto number = [](uint64_t value) { return std::to_string(value); };
  line("server", escapeForTerminal(text(info.getName())) + " " + escapeForTerminal(text(info.getVersion())) + " at " +
                     escapeForTerminal(serverName) + ", process " + number(info.getProcessId()) + " on " +
                     escapeForTerminal(text(info.getHost())));
  line("uptime", formatDuration(info.getUptime()));
  if (status.getRoot().size() == 0) {
    // Of what is not its business, a share is told nothing.
    line("serves", "what was shared");
    line("transfers", number(status.getUploads()) + " in, " + number(status.getDownloads()) + " out; " +
                          number(status.getOpenFiles()) + " files open");
    for (auto& each : limitsToTell(status.getLimits())) line("limit", each);
    return out;
  }
  line("serves", escapeForTerminal(text(status.getRoot())));
  std::string listeners;
  for (auto listener : status.getListeners())
    listeners += (listeners.empty() ? "" : ", ") + escapeForTerminal(text(listener));
  line("listens at", listeners);
  line("connections", number(status.getConnections()) + " open, " + number(status.getConnectionsAccepted()) +
                          " so far, " + number(status.getThreads()) + " event loops");
  if (status.getFailedLogins() > 0) line("wrong tokens", number(status.getFailedLogins()) + " so far");
  line("transfers", number(status.getUploads()) + " in, " + number(status.getDownloads()) + " out; " +
                        number(status.getOpenFiles()) + " files open");
  line("traffic", formatSize(status.getBytesReceived()) + " received, " + formatSize(status.getBytesSent()) +
                      " sent, " + number(status.getCalls()) + " calls");
  line("cache", formatSize(cache.getBytes()) + " of " + formatSize(cache.getLimit()) + " (" +
                    nameOf(cache.getPolicy()) + "), " + number(cache.getEntries()) +
                    " files, hits: " + percentage(cache.getHits(), cache.getHits() + cache.getMisses()) + ", " +
                    number(cache.getEvictions()) + " evictions");
  line("commits", number(status.getCommits()) + ", made durable by " + number(status.getFlushes()) + " flushes");
  if (status.getJobs() + status.getComputations() + status.getValues() > 0) {
    line("computing", number(status.getJobs()) + (status.getJobs() == 1 ? " job, " : " jobs, ") +
                          number(status.getComputations()) + " other computations, " + number(status.getValues()) +
                          " values of " + formatSize(status.getValueBytes()) + " held");
  }
  auto method = static_cast<WatchMethod>(status.getWatch().getMethod());
  if (method != WatchMethod::UNSET) {
    uint32_t watchers = status.getSubscriptions();
    line("watching", number(watchers) + (watchers == 1 ? " client hears" : " clients hear") +
                         " of changes; those by other programs are noticed by " + std::string(nameOf(method)));
  }
  if (status.getTrashBytes() > 0) line("trash", formatSize(status.getTrashBytes()) + "; capstan runs tells of what");
  line("memory", formatSize(status.getResidentMemory()));
  for (auto& each : limitsToTell(status.getLimits())) line("limit", each);
  return out;
}

kj::Promise<int> showStatus(Context& context) {
  using Message = std::shared_ptr<capnp::MallocMessageBuilder>;
  return context.client().status().then([&context](Result<Message> message) {
    if (!message.ok()) return context.output.fail(message.error());
    auto status = (*message)->getRoot<schema::Status>().asReader();
    if (context.output.json()) {
      context.output.line(statusAsJson(status));
    } else {
      context.output.raw(statusForPeople(status, context.serverName()));
    }
    return DONE;
  });
}

// Measures one call after the other.
class Pinger {
 public:
  Pinger(Context& context, uint64_t count) : context(context), count(count) {}

  kj::Promise<int> run() {
    // The first call connects, which is not what is to be measured.
    return context.client().hello().then([this](Result<client::ServerInfo> info) -> kj::Promise<int> {
      if (!info.ok()) return context.output.fail(info.error());
      server = escapeForTerminal(info->name + " " + info->version) + " at " + escapeForTerminal(context.serverName());
      return measure();
    });
  }

 private:
  static constexpr auto BETWEEN = 100 * kj::MILLISECONDS;
  Context& context;
  const uint64_t count;
  std::string server;
  std::vector<uint64_t> times;

  kj::Promise<int> measure() {
    uint64_t begin = steadyNow();
    return context.client().hello().then([this, begin](Result<client::ServerInfo> info) -> kj::Promise<int> {
      if (!info.ok()) return context.output.fail(info.error());
      times.push_back(steadyNow() - begin);
      if (!context.output.json()) {
        context.output.line("answer from " + server + ": " + milliseconds(times.back()));
        context.output.flush();
      }
      if (times.size() >= count) return summary();
      return context.timer().afterDelay(BETWEEN).then([this]() { return measure(); });
    });
  }

  static std::string milliseconds(uint64_t nanoseconds) {
    char buffer[32];
    snprintf(buffer, sizeof(buffer), "%.3f ms", double(nanoseconds) / 1e6);
    return buffer;
  }

  int summary() {
    std::sort(times.begin(), times.end());
    uint64_t sum = 0;
    for (uint64_t time : times) sum += time;
    uint64_t average = sum / times.size();
    uint64_t median = times[times.size() / 2];
    if (context.output.json()) {
      JsonWriter json;
      json.beginObject().field("server", context.serverName()).field("count", times.size()).field("unit", "ms");
      for (auto& [name, time] :
           {std::pair("min", times.front()), {"avg", average}, {"median", median}, {"max", times.back()}}) {
        json.field(name, double(time) / 1e6);
      }
      context.output.line(json.endObject().text());
    } else {
      context.output.line(std::to_string(times.size()) + " answers: min " + milliseconds(times.front()) + ", avg " +
                          milliseconds(average) + ", median " + milliseconds(median) + ", max " +
                          milliseconds(times.back()));
    }
    return DONE;
  }
};

kj::Promise<int> ping(Context& context, std::shared_ptr<std::optional<uint64_t>> count) {
  uint64_t times = count->value_or(4);
  if (times == 0) return context.usage("-c has to be at least 1");
  auto pinger = kj::heap<Pinger>(context, times);
  auto promise = pinger->run();
  return promise.attach(kj::mv(pinger));
}

}  // namespace

Command statusCommand() {
  return {"status",
          "",
          "",
          0,
          0,
          "tell what the server is doing",
          {{"capstan status", "connections, transfers, cache, uptime"}, {"capstan --json status", "for scripts"}},
          "capstan ping measures the round trip",
          Command::Needs::SERVER,
          true,
          [](OptionTable&) -> AnyAction { return Action(showStatus); }};
}

Command pingCommand() {
  return {"ping",
          "",
          "",
          0,
          0,
          "measure the round trip to the server",
          {{"capstan ping", "four times"},
           {"capstan --server files.example:4457 ping -c 1", "exit status 7 if nobody is there"}},
          "capstan status tells more",
          Command::Needs::SERVER,
          true,
          [](OptionTable& table) -> AnyAction {
            auto count = std::make_shared<std::optional<uint64_t>>();
            table.number("-c,--count", *count, "how many times (default: 4)");
            return [count](Context& context) { return ping(context, count); };
          }};
}

}  // namespace capstan::cli
