#include <capstan/client/cli/shell.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <map>

#include <capstan/base/text.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/help.h>
#include <capstan/client/cli/words.h>

namespace capstan::cli {

namespace {

const std::map<std::string, std::string> WORDS{
    {"list", "ls"},   {"upload", "put"}, {"download", "get"}, {"delete", "rm"}, {"rename", "mv"},   {"add", "add"},
    {"sort", "sort"}, {"sum", "sum"},    {"min", "min"},      {"max", "max"},   {"count", "count"}, {"job", "job"},
};

std::string lowered(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return c < 0x80 ? std::tolower(c) : c; });
  return text;
}

bool endsProgram(int status) { return status == 128 + SIGTERM || status == 128 + SIGHUP; }

}  // namespace

std::string commandOfWord(const std::string& word) {
  std::string lower = lowered(word);
  auto found = WORDS.find(lower);
  if (found != WORDS.end()) return found->second;
  return isOwnWord(lower) ? lower : word;
}

std::vector<std::string> ownWords() { return {"help", "jobs", "wait", "logout", "exit", "quit"}; }

bool isOwnWord(const std::string& word) {
  auto words = ownWords();
  return std::find(words.begin(), words.end(), word) != words.end();
}

Shell::Shell(Runtime& runtime, Connection connection, GlobalFlags flags, bool interactive)
    : runtime(runtime),
      connection(std::move(connection)),
      base(std::move(flags)),
      interactive(interactive),
      output(runtime.screen, outputModeOf(base)) {
  background.onEnd = [this](unsigned id, int status, const std::string& text) {
    // A script waits if it wants to know.
    if (this->interactive)
      output.note("[" + std::to_string(id) + "] " + stateText(status) + "  " + escapeForTerminal(text));
  };
}

int Shell::greet() {
  std::string address = connection.choice.address.toString();
  int status = FAILED;
  auto greeting = connection.client->hello().then([this, address, &status](Result<client::ServerInfo> info) {
    if (!info.ok()) {
      status = output.fail(info.error());
      return status;
    }
    output.note("Connected to " + escapeForTerminal(info->name + " " + info->version) + " at " +
                escapeForTerminal(address) + ", process " + std::to_string(info->processId));
    if (interactive) output.note("HELP tells what can be typed, LOGOUT or Ctrl-D ends.");
    return status = DONE;
  });
  return runForeground(kj::mv(greeting));
}

int Shell::usage(const std::string& message, const std::string& hint) {
  output.complain("usage", message);
  if (!hint.empty()) output.hint(hint);
  return USAGE;
}

int Shell::runForeground(kj::Promise<int> promise) { return runtime.runUntilSignalled(kj::mv(promise)); }

LineOutcome Shell::runLine(const std::string& text) {
  auto line = splitLine(text);
  if (!line.ok()) return {usage(line.error().message)};
  if (line->words.empty()) return {};
  line->words[0] = commandOfWord(line->words[0]);
  if (isOwnWord(line->words[0])) {
    if (line->background) return {usage(line->words[0] + " cannot run in the background")};
    return runOwnWord(line->words[0], line->words);
  }
  std::string shown = text.substr(0, line->background ? text.rfind('&') : std::string::npos);
  while (!shown.empty() && shown.back() == ' ') shown.pop_back();
  return runCommand(line->words, line->background, shown);
}

int Shell::runWords(const std::vector<std::string>& words) {
  return runCommand(words, false, {}).status.value_or(DONE);
}

LineOutcome Shell::runOwnWord(const std::string& word, const std::vector<std::string>& words) {
  if (word == "help") return {help(words)};
  if (word == "wait") {
    int status = waitFor(words);
    return {status, endsProgram(status)};
  }
  if (words.size() > 1) return {usage(word + " takes no operands")};
  if (word == "jobs") {
    background.list(output);
    output.flush();
    return {DONE};
  }
  return {std::nullopt, true};
}

LineOutcome Shell::runCommand(const std::vector<std::string>& words, bool inBackground, const std::string& text) {
  Parsed parsed = parseWords(commandTable(), words, "");
  if (auto error = std::get_if<UsageError>(&parsed)) return {usage(error->message, error->hint)};
  auto& invocation = std::get<Invocation>(parsed);
  if (invocation.help) {
    output.raw(invocation.command == nullptr ? helpInShell(commandTable()) : helpAbout(*invocation.command));
    output.flush();
    return {DONE};
  }
  std::string name = invocation.command->name;
  if (!invocation.command->inShell) return {usage(name + " is not for the prompt; run it as capstan " + name)};
  if (invocation.flags.server || invocation.flags.tokenFile || invocation.flags.insecure) {
    return {usage("the prompt stays with its server; start another with capstan --server ADDR shell")};
  }
  auto context = makeContext(invocation, !inBackground);
  auto own = std::get_if<OwnLoopAction>(&invocation.action);
  const Action& action = own == nullptr ? std::get<Action>(invocation.action) : own->atPrompt;
  if (inBackground) {
    unsigned id = background.start(kj::mv(context), action, text);
    if (interactive) output.note("[" + std::to_string(id) + "] " + text);
    return {DONE};
  }
  int status = context->ended(runForeground(runAction(action, *context)));
  bool end = endsProgram(status) || (status == INTERRUPTED && !interactive);
  if (status == INTERRUPTED && interactive) output.note("\ninterrupted");
  return {status, end};
}

kj::Own<Context> Shell::makeContext(const Invocation& asked, bool foreground) {
  Invocation invocation = asked;
  auto& flags = invocation.flags;
  flags.json |= base.json;
  flags.quiet |= base.quiet;
  flags.verbose |= base.verbose;
  flags.noProgress |= base.noProgress;
  flags.noColor |= base.noColor;
  if (!flags.timeout) flags.timeout = base.timeout;
  Context::Parts parts{runtime.io, runtime.screen, connection.client.get(), connection.choice.address.toString()};
  parts.choice = &connection.choice;
  parts.stdinIsFree = false;
  parts.foreground = foreground;
  return kj::heap<Context>(kj::mv(parts), invocation, outputModeOf(flags));
}

int Shell::waitFor(const std::vector<std::string>& words) {
  if (words.size() == 1) return runForeground(background.waitForAll());
  unsigned id = 0;
  std::string_view text = words[1];
  if (!text.empty() && text.front() == '%') text.remove_prefix(1);
  auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (words.size() > 2 || problem != std::errc() || end != text.data() + text.size()) {
    return usage("wait takes the number of one command, as jobs shows it, or none for all");
  }
  return runForeground(background.wait(id).then([this, id](std::optional<int> status) {
    if (status) return *status;
    return output.fail({ErrorCode::NOT_FOUND,
                        "there is no command " + std::to_string(id) + " in the background; jobs lists them",
                        {}});
  }));
}

int Shell::help(const std::vector<std::string>& words) {
  std::string name = words.size() > 1 ? commandOfWord(words[1]) : "";
  const Command* command = findCommand(commandTable(), name);
  if (command == nullptr && !name.empty() && !isOwnWord(name))
    return usage("there is no command \"" + escapeForTerminal(name) + "\"", "HELP lists the commands");
  output.raw(command == nullptr ? helpInShell(commandTable()) : helpAbout(*command));
  output.flush();
  return DONE;
}

int Shell::finish() {
  size_t count = background.running();
  if (count > 0 && interactive) {
    output.note("waiting for " + std::to_string(count) + (count == 1 ? " command" : " commands") +
                " in the background; Ctrl-C ends " + (count == 1 ? "it" : "them"));
  }
  return runForeground(background.waitForAll());
}

}  // namespace capstan::cli
