// `capstan shell`: where the lines of the shell come from, and what it ends with.
#include <unistd.h>

#include <capstan/base/user-dirs.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/line-completion.h>
#include <capstan/client/cli/line-editor.h>
#include <capstan/client/cli/shell.h>
#include <capstan/client/cli/standard-streams.h>
#include <capstan/client/cli/targets.h>

namespace capstan::cli {

namespace {

constexpr auto COMPLETION_PATIENCE = 2 * kj::SECONDS;
constexpr size_t COMPLETION_LIMIT = 2000;

// Lines of a script, while the loop turns.
class LineReader {
 public:
  explicit LineReader(Runtime& runtime) : source(STDIN_FILENO, runtime.io.unixEventPort) {}

  // Nothing at the end.
  kj::Promise<std::optional<std::string>> next() {
    size_t end = text.find('\n');
    if (end != std::string::npos || (atEnd && !text.empty())) {
      std::string line = text.substr(0, end);
      text.erase(0, end == std::string::npos ? end : end + 1);
      return std::optional(std::move(line));
    }
    if (atEnd) return std::optional<std::string>();
    return source.read(buffer, sizeof(buffer)).then([this](Result<size_t> count) {
      if (!count.ok() || *count == 0) {
        atEnd = true;
      } else {
        text.append(buffer, *count);
      }
      return next();
    });
  }

 private:
  DescriptorSource source;
  std::string text;
  bool atEnd = false;
  char buffer[4096];
};

// The names in a remote folder, for completion: what can be had within a moment.
Names remoteNames(Runtime& runtime, client::Client& client, std::string_view folder) {
  auto names = std::make_shared<Names>();
  std::string prefix(folder);
  auto add = [names, prefix](Entry&& entry) {
    if (names->size() >= COMPLETION_LIMIT) return;
    size_t slash = entry.path.rfind('/');
    std::string name = entry.path.substr(slash == std::string::npos ? 0 : slash + 1);
    names->push_back(prefix + name + (entry.type == EntryType::DIRECTORY ? "/" : ""));
  };
  client.list(remotePath(prefix), false, add)
      .ignoreResult()
      .exclusiveJoin(runtime.io.provider->getTimer().afterDelay(COMPLETION_PATIENCE))
      .wait(runtime.io.waitScope);
  return *names;
}

// The ids of jobs, for completion.
Names jobIds(Runtime& runtime, client::Client& client) {
  auto ids = std::make_shared<Names>();
  client
      .listJobs([ids](client::JobStatus&& job) {
        if (ids->size() < COMPLETION_LIMIT) ids->push_back(job.id);
      })
      .ignoreResult()
      .exclusiveJoin(runtime.io.provider->getTimer().afterDelay(COMPLETION_PATIENCE))
      .wait(runtime.io.waitScope);
  return *ids;
}

int runTerminal(Runtime& runtime, Shell& shell) {
  auto complete = [&](std::string_view before) {
    auto list = [&](std::string_view folder) { return remoteNames(runtime, shell.client(), folder); };
    auto jobs = [&]() { return jobIds(runtime, shell.client()); };
    return completeLine(before, commandTable(), list, jobs);
  };
  LineEditor editor(runtime, "capstan> ", userStateFolder() + "/shell-history", complete);
  for (;;) {
    LineEditor::Read read = editor.readLine();
    if (read.signal != 0) return read.signal;
    if (!read.line) return shell.finish() == INTERRUPTED ? INTERRUPTED : DONE;
    LineOutcome outcome = shell.runLine(*read.line);
    if (!outcome.end) continue;
    if (outcome.status) return *outcome.status;
    return shell.finish() == INTERRUPTED ? INTERRUPTED : DONE;
  }
}

// The exit status is that of the last command that failed.
int runScript(Runtime& runtime, Shell& shell) {
  LineReader lines(runtime);
  int status = DONE;
  bool end = false;
  while (!end) {
    std::optional<std::string> line;
    int signal = runtime.runUntilSignalled(lines.next().then([&line](std::optional<std::string> next) {
      line = std::move(next);
      return DONE;
    }));
    if (signal != DONE) return signal;
    if (!line) break;
    LineOutcome outcome = shell.runLine(*line);
    if (outcome.status.value_or(DONE) != DONE) status = *outcome.status;
    end = outcome.end;
    if (end && outcome.status) return *outcome.status;
  }
  int rest = shell.finish();
  return rest == DONE ? status : rest;
}

int runShell(const GlobalFlags& asked, const Operands&) {
  Runtime runtime;
  Output output(runtime.screen, outputModeOf(asked));
  auto config = loadConfig();
  if (!config.ok()) return failBeforeStart(output, config.error());
  GlobalFlags flags = withConfig(asked, *config);
  auto connection = runtime.connectTo(wishOf(flags, currentEnvironment(), *config), output);
  if (!connection.ok()) return failBeforeStart(output, connection.error());
  bool interactive = isatty(STDIN_FILENO) && runtime.screen.takesEscapes(Channel::OUT);
  Shell shell(runtime, std::move(*connection), flags, interactive);
  if (int status = shell.greet(); status != DONE) return status;
  return interactive ? runTerminal(runtime, shell) : runScript(runtime, shell);
}

}  // namespace

Command shellCommand() {
  return {"shell",
          "",
          "",
          0,
          0,
          "an interactive prompt, or a script of commands on standard input",
          {{"capstan shell", "then HELP"},
           {"printf 'mkdir a\\nput notes.txt a/\\nls a\\n' | capstan shell",
            "a script; the status is that of the last command that failed"}},
          "capstan demo shows what can be done",
          Command::Needs::OWN_LOOP,
          false,
          [](OptionTable&) -> AnyAction { return OwnLoopAction(runShell); }};
}

}  // namespace capstan::cli
