// What people are told of a cycle.
#include <capstan/base/text.h>
#include <capstan/sync/execute.h>
#include <capstan/sync/service.h>

namespace capstan::sync {

namespace {

std::string counted(uint64_t count, std::string_view one, std::string_view many) {
  return std::to_string(count) + " " + std::string(count == 1 ? one : many);
}

}  // namespace

void countOperation(CycleReport& report, const Operation& operation, uint64_t travelled) {
  bool sent = operation.side == Side::REMOTE;
  switch (operation.kind) {
    case Operation::Kind::PUT:
      ++(sent ? report.filesSent : report.filesReceived);
      (sent ? report.bytesSent : report.bytesReceived) += travelled;
      report.bytesOfFiles += operation.node.size;
      break;
    case Operation::Kind::MAKE_FOLDER: ++report.foldersMade; break;
    case Operation::Kind::MAKE_SYMLINK: ++report.linksMade; break;
    case Operation::Kind::SET_METADATA: ++report.metadataSet; break;
    case Operation::Kind::MOVE: ++report.moved; break;
    case Operation::Kind::COPY: ++report.copied; break;
    case Operation::Kind::REMOVE: ++report.removed; break;
    case Operation::Kind::AGREE:
    case Operation::Kind::FORGET: break;
  }
}

bool CycleReport::didSomething() const {
  return filesSent + filesReceived + foldersMade + linksMade + moved + copied + removed + metadataSet + deferred > 0 ||
         !conflicts.empty() || !failures.empty();
}

std::string CycleReport::summary() const {
  std::string line;
  auto add = [&](uint64_t count, std::string_view one, std::string_view many, std::string_view what) {
    if (count == 0) return;
    if (!line.empty()) line += ", ";
    line += (one.empty() ? std::to_string(count) : counted(count, one, many)) + " " + std::string(what);
  };
  add(filesSent, "file", "files", planned ? "to send" : "sent");
  if (filesSent > 0) line += " (" + formatSize(bytesSent) + ")";
  add(filesReceived, "file", "files", planned ? "to receive" : "received");
  if (filesReceived > 0) line += " (" + formatSize(bytesReceived) + ")";
  add(foldersMade, "folder", "folders", planned ? "to make" : "made");
  add(linksMade, "link", "links", planned ? "to make" : "made");
  add(moved, "", "", planned ? "to move" : "moved");
  add(copied, "", "", planned ? "to copy" : "copied");
  add(removed, "", "", planned ? "to remove" : "removed");
  add(metadataSet, "", "", planned ? "to get other metadata" : "got other metadata");
  add(conflicts.size(), "conflict", "conflicts", "kept twice");
  add(withheld.size(), "", "", "left alone");
  add(deferred, "", "", "put off");
  add(failures.size(), "", "", "failed");
  add(unread.size(), "", "", "could not be read");
  if (line.empty()) line = "nothing to do";
  if (!planned) line += " in " + formatDuration(duration);
  if (stop) line += "; " + stop->sentence;
  if (error) line += "; " + error->message;
  return line;
}

std::string_view nameOf(ServiceStatus::Phase phase) {
  switch (phase) {
    case ServiceStatus::Phase::STOPPED: return "stopped";
    case ServiceStatus::Phase::IDLE: return "idle";
    case ServiceStatus::Phase::LOOKING: return "looking";
    case ServiceStatus::Phase::PLANNING: return "planning";
    case ServiceStatus::Phase::APPLYING: return "applying";
    case ServiceStatus::Phase::PAUSED: return "paused";
    case ServiceStatus::Phase::DISCONNECTED: return "disconnected";
    case ServiceStatus::Phase::HALTED: return "halted";
  }
  return "unknown";
}

}  // namespace capstan::sync
