#include <capstan/client/cli/runtime.h>

#include <csignal>

#include <capstan/base/text.h>

namespace capstan::cli {

namespace {

constexpr int ENDING_SIGNALS[] = {SIGINT, SIGTERM, SIGHUP};
constexpr int EDITING_SIGNALS[] = {SIGWINCH, SIGCONT};
constexpr int SIGNAL_STATUS = 128;

kj::AsyncIoContext setUp() {
  for (int signal : ENDING_SIGNALS) kj::UnixEventPort::captureSignal(signal);
  for (int signal : EDITING_SIGNALS) kj::UnixEventPort::captureSignal(signal);
  return kj::setupAsyncIo();
}

void tellOfRetry(Screen& screen, const std::string& reason, uint64_t wait) {
  // The reason is a server's or the system's; the client escapes what came off the wire, but names may be in it.
  screen.write(Channel::ERR, "capstan: connection lost (" + escapeForTerminal(reason) + "); trying again in " +
                                 formatDuration(wait) + "\n");
}

}  // namespace

int failBeforeStart(Output& output, const Error& error) {
  if (error.code != ErrorCode::INVALID_ARGUMENT) return output.fail(error);
  output.complain("usage", error.message);
  output.hint("capstan --help tells more");
  return USAGE;
}

Runtime::Runtime() : io(setUp()) {}

Result<Connection> Runtime::connectTo(const ServerWish& wish, Output& output, bool retries) {
  auto choice = chooseServer(wish);
  if (!choice.ok()) return choice.error();
  for (auto& warning : choice->warnings) {
    if (!output.quiet()) output.complain("warning", warning);
  }
  client::Options options;
  options.address = choice->address;
  options.token = choice->token;
  options.name = "capstan";
  if (!retries) options.retryFor = 0;
  if (!output.quiet()) {
    options.onRetry = [this](const std::string& reason, uint64_t wait) { tellOfRetry(screen, reason, wait); };
  }
  Connection connection;
  connection.choice = std::move(*choice);
  connection.client =
      std::make_unique<client::Client>(io.provider->getNetwork(), io.provider->getTimer(), std::move(options));
  return connection;
}

kj::Promise<int> Runtime::whenSignalled() {
  kj::Promise<int> any = kj::NEVER_DONE;
  for (int signal : ENDING_SIGNALS) {
    any = any.exclusiveJoin(
        io.unixEventPort.onSignal(signal).then([](siginfo_t&& info) { return SIGNAL_STATUS + info.si_signo; }));
  }
  return any;
}

int Runtime::runUntilSignalled(kj::Promise<int> promise) {
  return promise.exclusiveJoin(whenSignalled()).wait(io.waitScope);
}

GlobalFlags withConfig(GlobalFlags flags, const Config& config) {
  if (config.progress == false) flags.noProgress = true;
  if (config.color == false) flags.noColor = true;
  if (!flags.timeout) flags.timeout = config.timeout;
  return flags;
}

OutputMode outputModeOf(const GlobalFlags& flags) {
  return {flags.json, flags.quiet, flags.verbose && !flags.quiet, !flags.noColor};
}

void hintAtToken(const Connection& connection, Output& output) {
  if (connection.choice.address.kind == rpc::Address::Kind::UNIX) return;
  output.hint(connection.choice.token.empty()
                  ? "no token was found for this server; --token-file FILE names the file that holds one"
                  : "--token-file FILE names another token");
}

int runOnce(const Invocation& asked) {
  Runtime runtime;
  Invocation invocation = asked;
  Output output(runtime.screen, outputModeOf(invocation.flags));
  auto config = loadConfig();
  if (!config.ok()) return failBeforeStart(output, config.error());
  invocation.flags = withConfig(invocation.flags, *config);
  Connection connection;
  if (invocation.command->needs == Command::Needs::SERVER) {
    auto made = runtime.connectTo(wishOf(invocation.flags, currentEnvironment(), *config), output);
    if (!made.ok()) return failBeforeStart(output, made.error());
    connection = std::move(*made);
  }
  // Declared last, so that a command that is cut off ends before what it uses.
  Context context({runtime.io, runtime.screen, connection.client.get(), connection.choice.address.toString()},
                  invocation, outputModeOf(invocation.flags));
  int status = runtime.runUntilSignalled(runAction(std::get<Action>(invocation.action), context));
  if (status == DENIED) hintAtToken(connection, context.output);
  return status;
}

}  // namespace capstan::cli
