#include <capstan/client/cli/sync-report.h>

#include <ctime>

#include <capstan/base/text.h>
#include <capstan/client/cli/exit-status.h>
#include <capstan/client/cli/json.h>

namespace capstan::cli {

namespace {

using Kind = sync::Operation::Kind;

bool isAtServer(const sync::Operation& operation) { return operation.side == sync::Side::REMOTE; }

// The word by which both people and programs know an operation.
const char* verbOf(const sync::Operation& operation) {
  switch (operation.kind) {
    case Kind::MAKE_FOLDER: return "make-folder";
    case Kind::PUT: return isAtServer(operation) ? "send" : "receive";
    case Kind::MAKE_SYMLINK: return "make-link";
    case Kind::SET_METADATA: return "set-metadata";
    case Kind::MOVE: return "move";
    case Kind::COPY: return "copy";
    case Kind::REMOVE: return "remove";
    case Kind::AGREE: return "agree";
    case Kind::FORGET: return "forget";
  }
  return "unknown";
}

std::string objectOf(const sync::Operation& operation) {
  std::string path = escapeForTerminal(operation.path);
  switch (operation.kind) {
    case Kind::MAKE_FOLDER: return path + "/";
    case Kind::PUT: return path + " (" + formatSize(operation.node.size) + ")";
    case Kind::MAKE_SYMLINK: return path + " -> " + escapeForTerminal(operation.node.target);
    case Kind::MOVE:
    case Kind::COPY: return escapeForTerminal(operation.source) + " to " + path;
    default: return path;
  }
}

const char* nameOf(sync::Side side) { return side == sync::Side::REMOTE ? "server" : "local"; }

void writeConflicts(JsonWriter& json, const sync::CycleReport& report) {
  json.key("conflicts").beginArray();
  for (auto& conflict : report.conflicts) {
    json.beginObject()
        .field("path", std::string_view(conflict.path))
        .field("kept", std::string_view(conflict.kept))
        .field("reason", std::string_view(conflict.reason))
        .endObject();
  }
  json.endArray().field("openConflicts", report.openConflicts);
}

void writeLeftAlone(JsonWriter& json, const sync::CycleReport& report) {
  json.key("withheld").beginArray();
  for (auto& withheld : report.withheld) {
    json.beginObject()
        .field("path", std::string_view(withheld.path))
        .field("side", nameOf(withheld.side))
        .field("reason", std::string_view(withheld.reason))
        .field("deletion", withheld.isDeletion)
        .endObject();
  }
  json.endArray().key("skipped").beginArray();
  for (auto& path : report.skipped) json.value(std::string_view(path));
  json.endArray();
}

void writeError(JsonWriter& json, const Error& error) {
  json.beginObject().field("code", kebabCase(error.code)).field("message", std::string_view(error.message)).key("path");
  if (error.path.empty()) {
    json.null();
  } else {
    json.value(std::string_view(error.path));
  }
  json.endObject();
}

void writeTroubles(JsonWriter& json, const sync::CycleReport& report) {
  json.key("failures").beginArray();
  for (auto& failure : report.failures) {
    json.beginObject().field("path", std::string_view(failure.path)).key("error");
    writeError(json, failure.error);
    json.endObject();
  }
  json.endArray().key("unread").beginArray();
  for (auto& unread : report.unread) {
    json.beginObject().field("path", std::string_view(unread.path)).field("side", nameOf(unread.side)).key("error");
    writeError(json, unread.error);
    json.endObject();
  }
  json.endArray().key("stop");
  if (report.stop) {
    json.beginObject()
        .field("message", std::string_view(report.stop->sentence))
        .field("deletions", report.stop->deletions)
        .field("wholly", report.stop->wholly)
        .endObject();
  } else {
    json.null();
  }
  json.key("error");
  if (report.error) {
    writeError(json, *report.error);
  } else {
    json.null();
  }
}

}  // namespace

bool isVisible(const sync::Operation& operation) {
  return operation.kind != Kind::AGREE && operation.kind != Kind::FORGET;
}

std::string operationLine(const sync::Operation& operation) {
  std::string verb = verbOf(operation);
  for (char& letter : verb) {
    if (letter == '-') letter = ' ';
  }
  // Sending and receiving say by themselves where.
  const char* where = isAtServer(operation) || operation.kind == Kind::PUT ? "" : " here";
  std::string line = verb + where + " " + objectOf(operation);
  if (!operation.reason.empty()) line += ": " + escapeForTerminal(operation.reason);
  return line;
}

std::string operationAsJson(const char* event, const sync::Operation& operation, const Error* error) {
  JsonWriter json;
  json.beginObject()
      .field("event", event)
      .field("operation", verbOf(operation))
      .field("side", nameOf(operation.side))
      .field("path", std::string_view(operation.path))
      .key("source");
  bool hasSource = operation.kind == Kind::MOVE || operation.kind == Kind::COPY;
  if (hasSource) {
    json.value(std::string_view(operation.source));
  } else {
    json.null();
  }
  json.field("size", operation.node.size).field("reason", std::string_view(operation.reason));
  if (error != nullptr) {
    json.key("error");
    writeError(json, *error);
  }
  return json.endObject().text();
}

std::string cycleLine(const sync::CycleReport& report, sync::Mode mode) {
  sync::CycleReport done = report;
  done.stop.reset();
  done.error.reset();
  std::string line = done.summary();
  bool canUndo = !report.run.empty() && !report.planned && mode != sync::Mode::PULL;
  if (canUndo) line += "; undo with: capstan undo " + toHex(report.run);
  return line;
}

std::string cycleAsJson(const sync::CycleReport& report) {
  JsonWriter json;
  json.beginObject()
      .field("event", report.planned ? "plan" : "cycle")
      .field("began", std::string_view(formatTime(report.began)))
      .field("duration", double(report.duration) / 1e9)
      .field("filesSent", report.filesSent)
      .field("filesReceived", report.filesReceived)
      .field("foldersMade", report.foldersMade)
      .field("linksMade", report.linksMade)
      .field("moved", report.moved)
      .field("copied", report.copied)
      .field("removed", report.removed)
      .field("metadataSet", report.metadataSet)
      .field("bytesSent", report.bytesSent)
      .field("bytesReceived", report.bytesReceived)
      .field("bytesOfFiles", report.bytesOfFiles)
      .field("entries", report.entries)
      .field("deferred", report.deferred)
      .key("run");
  if (report.run.empty()) {
    json.null();
  } else {
    json.value(std::string_view(toHex(report.run)));
  }
  writeConflicts(json, report);
  writeLeftAlone(json, report);
  writeTroubles(json, report);
  return json.endObject().text();
}

std::string eventAsJson(const char* name, const std::string& text, const Error* error) {
  JsonWriter json;
  json.beginObject().field("event", name).field("text", std::string_view(text));
  if (error != nullptr) {
    json.key("error");
    writeError(json, *error);
  }
  return json.endObject().text();
}

// Nothing was done because nothing may be.
static bool wasDenied(const sync::CycleReport& report) {
  auto denied = [](const sync::CycleReport::Failure& failure) { return exitStatusOf(failure.error.code) == DENIED; };
  uint64_t done = report.filesSent + report.filesReceived + report.foldersMade + report.linksMade + report.moved +
                  report.copied + report.removed + report.metadataSet;
  return done == 0 && !report.failures.empty() && std::all_of(report.failures.begin(), report.failures.end(), denied);
}

int exitStatusOf(const sync::CycleReport& report) {
  if (report.stop) return SAFETY_STOP;
  if (report.error) return exitStatusOf(report.error->code);
  if (wasDenied(report) && report.unread.empty()) return DENIED;
  if (!report.failures.empty() || !report.unread.empty() || report.deferred > 0) return PARTLY_DONE;
  if (report.openConflicts > 0) return CONFLICT;
  return DONE;
}

std::string timeOfDay(int64_t nanoseconds) {
  time_t seconds = time_t(nanoseconds / 1'000'000'000);
  tm parts{};
  localtime_r(&seconds, &parts);
  char text[16];
  strftime(text, sizeof(text), "%H:%M:%S", &parts);
  return text;
}

}  // namespace capstan::cli
