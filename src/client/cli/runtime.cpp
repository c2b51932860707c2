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

// Says once that and why the connection is gone, not at each of many tries.
class RetryNotice {
 public:
  explicit RetryNotice(Screen& screen) : screen(screen) {}

  void operator()(const std::string& reason, uint64_t wait) {
    constexpr uint64_t QUIET = 30'000'000'000;
    uint64_t now = steadyNow();
    if (reason == lastReason && now - lastTime < QUIET) return;
    lastReason = reason;
    lastTime = now;
    // What comes behind the ';' is advice for when there is nothing more to try.
    std::string cause = escapeForTerminal(std::string_view(reason).substr(0, reason.find(';')));
    screen.write(Channel::ERR,
                 "capstan: connection lost: " + cause + "; trying again in " + formatDuration(wait) + ", and so on\n");
  }

 private:
  Screen& screen;
  std::string lastReason;
  uint64_t lastTime = 0;
};

}  // namespace

int failBeforeStart(Output& output, const Error& error) {
  if (error.code != ErrorCode::INVALID_ARGUMENT) {
    output.fail(error);
    return USAGE;
  }
  output.complain("usage", error.message);
  output.hint("capstan --help tells more");
  return USAGE;
}

Runtime::Runtime() : io(setUp()) {}

Result<Connection> Runtime::connectTo(const ServerWish& wish, Output& output, bool retries) {
  auto choice = chooseServer(wish);
  if (!choice.ok()) return choice.error();
  for (auto* warnings : {&choice->withheld, &choice->warnings}) {
    for (auto& warning : *warnings) {
      if (!output.quiet()) output.complain("warning", warning);
    }
  }
  client::Options options = clientOptionsOf(*choice);
  options.name = "capstan";
  if (!retries) options.retryFor = 0;
  if (!output.quiet()) options.onRetry = RetryNotice(screen);
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

int runOnce(const Invocation& asked) {
  Runtime runtime;
  Invocation invocation = asked;
  Output output(runtime.screen, outputModeOf(invocation.flags));
  bool needsServer = invocation.command->needs == Command::Needs::SERVER;
  auto config = loadConfig();
  // What asks no server works whatever the configuration says.
  if (!config.ok() && !needsServer) config = Config{};
  if (!config.ok()) return failBeforeStart(output, config.error());
  invocation.flags = withConfig(invocation.flags, *config);
  Connection connection;
  if (needsServer) {
    auto made = runtime.connectTo(wishOf(invocation.flags, currentEnvironment(), *config), output);
    if (!made.ok()) return failBeforeStart(output, made.error());
    connection = std::move(*made);
  }
  // Declared last, so that a command that is cut off ends before what it uses.
  Context context({runtime.io, runtime.screen, connection.client.get(), connection.choice.address.toString()},
                  invocation, outputModeOf(invocation.flags));
  return context.ended(runtime.runUntilSignalled(runAction(std::get<Action>(invocation.action), context)));
}

}  // namespace capstan::cli
