// `capstan runs`, `capstan undo` and `capstan trash`: what runs have done, and the way back.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <set>

#include <capstan/base/text.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/context.h>
#include <capstan/client/cli/entry-format.h>
#include <capstan/client/cli/json.h>
#include <capstan/client/cli/targets.h>

namespace capstan::cli {

namespace {

using client::Run;
using client::TrashItem;

std::string runAsJson(const Run& run) {
  JsonWriter json;
  json.beginObject()
      .field("id", toHex(run.id))
      .field("label", run.label)
      .field("client", run.client)
      .field("began", formatTime(run.began))
      .field("ended", formatTime(run.ended))
      .field("created", run.created)
      .field("replaced", run.replaced)
      .field("removed", run.removed)
      .field("moved", run.moved)
      .field("bytes", run.bytes)
      .field("canUndo", run.canUndo);
  json.key("undoneBy");
  if (run.undoneBy.empty()) {
    json.null();
  } else {
    json.value(toHex(run.undoneBy));
  }
  return json.endObject().text();
}

std::string padded(std::string text, size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text;
}

std::string runLine(const Run& run) {
  std::string counts = "+" + std::to_string(run.created) + " ~" + std::to_string(run.replaced) + " -" +
                       std::to_string(run.removed) + " >" + std::to_string(run.moved);
  std::string line = toHex(run.id).substr(0, 12) + "  " + localTime(run.began) + "  " +
                     padded(escapeForTerminal(run.client), 14) + "  " + padded(counts, 16) + "  " +
                     padded(formatSize(run.bytes), 9) + "  " + escapeForTerminal(run.label);
  if (!run.undoneBy.empty()) line += "  (undone)";
  while (line.back() == ' ') line.pop_back();
  return line;
}

kj::Promise<int> listRuns(Context& context) {
  return context.client().runs().then([&context](Result<std::vector<Run>> runs) {
    Output& output = context.output;
    if (!runs.ok()) return output.fail(runs.error());
    if (output.json()) output.raw("[");
    for (size_t i = 0; i < runs->size(); ++i) {
      const Run& run = (*runs)[i];
      if (!output.json()) {
        output.line(runLine(run));
      } else {
        output.raw((i == 0 ? "" : ",\n ") + runAsJson(run));
      }
    }
    if (output.json()) output.line("]");
    return DONE;
  });
}

// The run whose id begins so: notFound, or invalidArgument where there are several. `onFound` hears of it too.
kj::Promise<Result<std::string>> findRun(Context& context, std::string prefix,
                                         std::function<void(const Run&)> onFound = {}) {
  return context.client().runs().then([prefix, onFound](Result<std::vector<Run>> runs) -> Result<std::string> {
    if (!runs.ok()) return runs.error();
    std::vector<std::string> found;
    for (auto& run : *runs) {
      if (!prefix.empty() && toHex(run.id).starts_with(prefix)) found.push_back(run.id);
    }
    if (found.size() == 1) {
      for (auto& run : *runs) {
        if (onFound && run.id == found[0]) onFound(run);
      }
      return found[0];
    }
    std::string shown = escapeForTerminal(prefix);
    if (found.empty()) {
      return Error{ErrorCode::NOT_FOUND, "the trash has no run " + shown + "; capstan runs tells which there are", {}};
    }
    return Error{ErrorCode::INVALID_ARGUMENT,
                 std::to_string(found.size()) + " runs begin with " + shown + "; give more of the id",
                 {}};
  });
}

constexpr size_t FAILURES_SHOWN = 20;  // one line each, without -v

struct Undoing {
  std::string run;
  std::vector<std::string> displaced;  // paths, to be told with -v
};

int showUndone(Context& context, const Undoing& undoing, const client::UndoSummary& summary) {
  Output& output = context.output;
  std::set<std::string> failed;
  for (auto& failure : summary.failures) failed.insert(failure.path);
  if (output.json()) {
    JsonWriter json;
    json.beginObject()
        .field("undone", summary.undone)
        .field("failed", summary.failed)
        .field("run", toHex(summary.run))
        .key("failures")
        .beginArray();
    for (auto& failure : summary.failures) {
      json.beginObject()
          .field("code", kebabCase(failure.code))
          .field("message", std::string_view(failure.message))
          .field("path", std::string_view(failure.path))
          .endObject();
    }
    output.line(json.endArray().endObject().text());
  } else {
    bool knowsAll = summary.failed == summary.failures.size();
    for (auto& path : undoing.displaced) {
      if (knowsAll && !failed.contains(path)) output.line("put back  " + output.name(path));
    }
    std::string count = std::to_string(summary.undone) + (summary.undone == 1 ? " change" : " changes");
    output.note(summary.undone == 0
                    ? "nothing was undone"
                    : count + " undone; capstan undo " + toHex(summary.run).substr(0, 12) + " takes that back");
  }
  size_t told = 0;
  for (auto& failure : summary.failures) {
    if (told == FAILURES_SHOWN && !output.verbose()) break;
    output.fail(failure);
    ++told;
  }
  if (summary.failed > told) {
    output.note("and " + std::to_string(summary.failed - told) + " more that were left as they are");
  }
  if (summary.failed == 0) return DONE;
  return PARTLY_DONE;
}

kj::Promise<int> undo(Context& context) {
  auto undoing = std::make_shared<Undoing>();
  auto onFound = [&context](const Run& run) {
    if (run.undoneBy.empty()) return;
    std::string by = toHex(run.undoneBy).substr(0, 12);
    context.output.note("this run was undone before, by " + by + "; capstan undo " + by + " takes that back");
  };
  return findRun(context, context.operands[0], onFound)
      .then([&context, undoing](Result<std::string> run) -> kj::Promise<Status> {
        if (!run.ok()) return Status(run.error());
        undoing->run = *run;
        if (!context.output.verbose()) return okStatus();
        return context.client().listTrash(
            *run, "", [undoing](TrashItem&& item) { undoing->displaced.push_back(std::move(item.entry.path)); });
      })
      .then([&context, undoing](Status status) -> kj::Promise<Result<client::UndoSummary>> {
        if (!status.ok()) return Result<client::UndoSummary>(status.error());
        return context.client().undo(undoing->run);
      })
      .then([&context, undoing](Result<client::UndoSummary> summary) {
        if (!summary.ok()) return context.output.fail(summary.error());
        return showUndone(context, *undoing, *summary);
      });
}

struct TrashOptions {
  bool restore = false;
  bool empty = false;
  bool yes = false;
  std::optional<std::string> to;
  std::optional<std::string> run;
  std::optional<uint64_t> olderThan;
};

std::string itemAsJson(const TrashItem& item) {
  JsonWriter json;
  json.beginObject()
      .field("run", toHex(item.run))
      .field("displaced", formatTime(item.displaced))
      .key("entry")
      .raw(entryAsJson(item.entry));
  return json.endObject().text();
}

kj::Promise<int> listTrash(Context& context, std::string run) {
  std::string path = context.operands.empty() ? std::string() : remotePath(context.operands[0]);
  auto count = std::make_shared<size_t>(0);
  auto print = [&context, count](TrashItem&& item) {
    Output& output = context.output;
    if (output.json()) {
      output.raw((*count == 0 ? "[" : ",\n ") + itemAsJson(item));
    } else {
      std::string size = item.entry.type == EntryType::DIRECTORY ? "-" : formatSize(item.entry.size);
      output.line(localTime(item.displaced) + "  " + toHex(item.run).substr(0, 12) + "  " + padded(size, 9) + "  " +
                  output.colored(item.entry, output.name(item.entry.path)));
    }
    ++*count;
  };
  return context.client().listTrash(std::move(run), std::move(path), print).then([&context, count](Status listed) {
    if (!listed.ok()) return context.output.fail(listed.error());
    if (context.output.json()) context.output.line(*count == 0 ? "[]" : "]");
    return DONE;
  });
}

kj::Promise<int> restore(Context& context, std::string run, const TrashOptions& options) {
  std::string to = options.to ? remotePath(*options.to) : std::string();
  return context.client()
      .restore(std::move(run), remotePath(context.operands[0]), std::move(to))
      .then([&context](Result<Entry> entry) {
        Output& output = context.output;
        if (!entry.ok()) return output.fail(entry.error());
        if (output.json()) {
          output.line(entryAsJson(*entry));
        } else if (output.verbose()) {
          output.line("put back  " + output.name(entry->path));
        }
        return DONE;
      });
}

// Asks only where somebody is there to answer.
bool mayEmpty(Context& context, const TrashOptions& options) {
  if (options.yes || !context.stdinIsFree() || isatty(STDIN_FILENO) == 0 || isatty(STDERR_FILENO) == 0) return true;
  fputs("Delete what is in the trash? It cannot be brought back. [y/N] ", stderr);
  char answer[16] = {};
  return fgets(answer, sizeof(answer), stdin) != nullptr && (answer[0] == 'y' || answer[0] == 'Y');
}

kj::Promise<int> emptyTrash(Context& context, const TrashOptions& options) {
  if (!mayEmpty(context, options)) {
    context.output.note("nothing was deleted");
    return DONE;
  }
  return context.client().emptyTrash(options.olderThan.value_or(0)).then([&context](Result<uint64_t> freed) {
    Output& output = context.output;
    if (!freed.ok()) return output.fail(freed.error());
    if (output.json()) {
      JsonWriter json;
      output.line(json.beginObject().field("freed", *freed).endObject().text());
    } else {
      output.note(formatSize(*freed) + " freed");
    }
    return DONE;
  });
}

kj::Promise<int> trash(Context& context, std::shared_ptr<TrashOptions> options) {
  if (options->empty && (options->restore || !context.operands.empty() || options->run)) {
    return context.usage("--empty deletes from the trash as a whole; it takes neither PATH nor --restore nor --run");
  }
  if (options->restore && context.operands.empty()) return context.usage("--restore needs a PATH");
  if (options->to && !options->restore) return context.usage("--to goes with --restore");
  if (options->olderThan && !options->empty) return context.usage("--older-than goes with --empty");
  if (options->empty) return emptyTrash(context, *options);
  auto found = options->run ? findRun(context, *options->run) : kj::Promise<Result<std::string>>(std::string());
  return found.then([&context, options](Result<std::string> run) -> kj::Promise<int> {
    if (!run.ok()) return context.output.fail(run.error());
    return options->restore ? restore(context, *run, *options) : listTrash(context, *run);
  });
}

}  // namespace

Command runsCommand() {
  return {"runs",
          "",
          "",
          0,
          0,
          "list what changed the server's folder in batches",
          {{"capstan runs", "id, when, client, made, overwritten, removed, renamed, bytes in the trash, label"},
           {"capstan --json runs", "the same for scripts"}},
          "capstan undo RUN takes one back",
          Command::Needs::SERVER,
          true,
          [](OptionTable&) -> AnyAction { return Action(listRuns); }};
}

Command undoCommand() {
  return {"undo",
          "RUN",
          "RUN  the id of a run, or as much of its beginning as no other has",
          1,
          1,
          "take back what a run did",
          {{"capstan undo 3f2a", "what was changed since is left as it is, and told; exit status 3"},
           {"capstan undo -v 3f2a", "names what was put back"}},
          "an undo is a run itself, and can be undone",
          Command::Needs::SERVER,
          true,
          [](OptionTable&) -> AnyAction { return Action(undo); }};
}

Command trashCommand() {
  return {"trash",
          "[PATH]",
          "PATH  where it was; what was below it counts too",
          0,
          1,
          "list what runs overwrote or removed, and put it back",
          {{"capstan trash notes", "when, by which run, size, path"},
           {"capstan trash notes/todo.txt --restore", "puts it back where it was, if nothing is there"},
           {"capstan trash notes --restore --to old-notes --run 3f2a", "elsewhere, as that run found it"},
           {"capstan trash --empty --older-than 2d", "deletes what is older than two days"}},
          "capstan undo RUN puts back all that a run displaced",
          Command::Needs::SERVER,
          true,
          [](OptionTable& table) -> AnyAction {
            auto options = std::make_shared<TrashOptions>();
            table.flag("--restore", options->restore, "put PATH back");
            table.text("--to", options->to, "REMOTE", "where to (default: where it was)");
            table.text("--run", options->run, "RUN", "only what this run displaced");
            table.flag("--empty", options->empty, "delete what is in the trash");
            table.duration("--older-than", options->olderThan, "with --empty: only what is older than this");
            table.flag("--yes", options->yes, "with --empty: do not ask");
            return [options](Context& context) { return trash(context, options); };
          }};
}

}  // namespace capstan::cli
