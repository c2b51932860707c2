// `capstan conflicts` and `capstan explain`: what a folder that is kept in step has that needs a person, and why a path
// is what it is.
#include <climits>
#include <cstdlib>
#include <memory>

#include <capstan/base/path.h>
#include <capstan/base/text.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/context.h>
#include <capstan/client/cli/entry-format.h>
#include <capstan/client/cli/json.h>
#include <capstan/client/cli/own-loop.h>
#include <capstan/client/cli/server-choice.h>
#include <capstan/client/cli/sync-options.h>
#include <capstan/sync/state.h>

namespace capstan::cli {

namespace {

// The absolute path; of what is not there, that of its folder with the name.
std::string absolutePath(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  char* resolved = realpath(path.c_str(), nullptr);
  std::string parent, name;
  if (resolved == nullptr) {
    size_t slash = path.rfind('/');
    parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    name = path.substr(slash == std::string::npos ? 0 : slash + 1);
    // Of something deeper that is not there, the part that is.
    if (path == "/" || path.empty()) return path;
    return joinPath(absolutePath(parent), name);
  }
  std::string result = resolved;
  free(resolved);
  return result;
}

Result<std::unique_ptr<sync::State>> stateOf(const std::string& absolute, const std::string& typed) {
  auto state = sync::State::openToRead({}, absolute);
  if (!state.ok() && state.error().code == ErrorCode::NOT_FOUND)
    return errorAt(ErrorCode::NOT_FOUND, typed, "", " has not been kept in step yet; capstan sync does that");
  return state;
}

void showConflict(Context& context, const sync::OpenConflict& conflict) {
  auto& output = context.output;
  if (output.json()) {
    JsonWriter json;
    json.beginObject()
        .field("path", std::string_view(conflict.path))
        .field("kept", std::string_view(conflict.kept))
        .field("time", std::string_view(formatTime(conflict.time)))
        .field("reason", std::string_view(conflict.reason))
        .endObject();
    output.line(json.text());
    return;
  }
  output.line(output.name(conflict.path) + "  kept as " + output.name(conflict.kept) + "  " + localTime(conflict.time) +
              "  " + escapeForTerminal(conflict.reason));
}

kj::Promise<int> listConflicts(Context& context) {
  const std::string& typed = context.operands[0];
  auto state = stateOf(absolutePath(typed), typed);
  if (!state.ok()) return context.output.fail(state.error());
  auto conflicts = (*state)->conflicts();
  for (auto& conflict : conflicts) showConflict(context, conflict);
  if (conflicts.empty()) return DONE;
  context.output.hint("keep what is right under the first name and remove the other; the next run sees it");
  return CONFLICT;
}

kj::Promise<int> explain(Context& context, const sync::State::Pair& pair, const std::string& path,
                         const SyncOptions& options) {
  auto wanted = serviceOptionsOf(options);
  if (!wanted.ok()) return context.usage(wanted.error().message);
  wanted->local = pair.local;
  wanted->remote = pair.remote;
  wanted->server = clientOptionsOf(context.choice());
  wanted->server.name = "capstan explain";
  wanted->server.retryFor = 0;
  wanted->watch = false;
  auto service = kj::heap<sync::Service>(context.network(), context.timer(), std::move(*wanted));
  auto explaining = service->explain(path);
  return explaining
      .then([&context, path](Result<std::string>&& text) {
        if (!text.ok()) return context.output.fail(text.error());
        if (context.output.json()) {
          JsonWriter json;
          json.beginObject().field("path", std::string_view(path)).field("text", std::string_view(*text)).endObject();
          context.output.line(json.text());
        } else {
          context.output.line(*text);
        }
        return DONE;
      })
      .attach(kj::mv(service));
}

// Whose state a path belongs to, and where it is in that folder.
struct Explained {
  sync::State::Pair pair;
  std::string path;
};
Result<Explained> findExplained(const std::string& typed) {
  std::string absolute = absolutePath(typed);
  auto state = stateOf(absolute, typed);
  if (!state.ok()) return state.error();
  Explained found{(*state)->pair(), {}};
  if (absolute.size() > found.pair.local.size()) found.path = absolute.substr(found.pair.local.size() + 1);
  return found;
}

int runExplain(const GlobalFlags& flags, const Operands& operands, const SyncOptions& options) {
  auto found = findExplained(operands[0]);
  if (!found.ok()) {
    Screen screen;
    Output output(screen, outputModeOf(flags));
    return output.fail(found.error());
  }
  return runOnOwnLoop("explain", flags, operands, found->pair.server,
                      [&](Context& context, WhenSignalled whenSignalled) {
                        return explain(context, found->pair, found->path, options).exclusiveJoin(whenSignalled());
                      });
}

kj::Promise<int> explainAtPrompt(Context& context, const SyncOptions& options) {
  auto found = findExplained(context.operands[0]);
  if (!found.ok()) return context.output.fail(found.error());
  return explain(context, found->pair, found->path, options);
}

}  // namespace

Command conflictsCommand() {
  return {"conflicts",
          "LOCAL",
          "LOCAL  a folder that sync keeps in step",
          1,
          1,
          "list conflicts that are open",
          {{"capstan conflicts notes", "path, the name that the other content has, when, and why; exit status 4"}},
          "remove the content that is not wanted, and the next run of capstan sync closes the conflict",
          Command::Needs::NOTHING,
          true,
          [](OptionTable&) -> AnyAction { return [](Context& context) { return listConflicts(context); }; }};
}

Command explainCommand() {
  return {"explain",
          "LOCAL",
          "LOCAL  a path in a folder that sync keeps in step; it need not be there",
          1,
          1,
          "tell what sync would do with a path, and why",
          {{"capstan explain notes/todo.txt", "what is on both sides, what was agreed, and what follows"},
           {"capstan explain --mode pull work/build", "with the flags of the run that is meant"}},
          "capstan sync -n LOCAL REMOTE shows all that would be done",
          Command::Needs::OWN_LOOP,
          true,
          [](OptionTable& table) -> AnyAction {
            auto options = std::make_shared<SyncOptions>();
            defineRuleOptions(table, *options);
            auto run = [options](const GlobalFlags& flags, const Operands& operands) {
              return runExplain(flags, operands, *options);
            };
            return OwnLoopAction(run, [options](Context& context) { return explainAtPrompt(context, *options); });
          }};
}

}  // namespace capstan::cli
