#include <capstan/client/cli/context.h>

#include <algorithm>

#include <kj/debug.h>

#include <capstan/base/text.h>

namespace capstan::cli {

namespace {

constexpr uint64_t DEFAULT_REDRAW = 200;  // milliseconds, so that a stalled transfer is seen to stall

constexpr int FIRST_SIGNAL = 128;  // statuses above it tell of a signal

struct ForEachState : public kj::Refcounted {
  size_t next = 0;
  size_t count;
  std::function<kj::Promise<int>(size_t)> action;
  std::vector<int> statuses;

  ForEachState(size_t count, std::function<kj::Promise<int>(size_t)> action)
      : count(count), action(std::move(action)), statuses(count, DONE) {}
};

kj::Promise<void> work(kj::Own<ForEachState> state) {
  if (state->next >= state->count) return kj::READY_NOW;
  size_t index = state->next++;
  auto& reference = *state;
  return reference.action(index).then([state = kj::mv(state), index](int status) mutable {
    state->statuses[index] = status;
    return work(kj::mv(state));
  });
}

kj::Promise<int> timeLimit(Context& context) {
  if (!context.flags.timeout) return kj::NEVER_DONE;
  uint64_t limit = std::min<uint64_t>(*context.flags.timeout, INT64_MAX);
  return context.timer().afterDelay(int64_t(limit) * kj::NANOSECONDS).then([&context, limit]() {
    return context.output.fail(
        {ErrorCode::TIMED_OUT, "the command was not done after " + formatDuration(limit) + context.whenCutOff, {}});
  });
}

}  // namespace

Context::Context(Parts parts, const Invocation& invocation, OutputMode mode)
    : operands(invocation.operands),
      flags(invocation.flags),
      output(parts.screen, mode),
      parts(std::move(parts)),
      commandName(invocation.command->name) {}

client::Client& Context::client() {
  KJ_REQUIRE(parts.client != nullptr, "this command was declared to need no server");
  return *parts.client;
}

int Context::usage(std::string_view message) {
  output.complain("usage", std::string(commandName) + ": " + std::string(message));
  output.hint(std::string("capstan ") + commandName + " --help tells more");
  return USAGE;
}

int Context::ended(int status) {
  if (status > FIRST_SIGNAL && !whenCutOff.empty())
    output.complain(kebabCase(ErrorCode::CANCELLED), "the command was interrupted" + whenCutOff);
  return status;
}

// The drawn line, and the beat that redraws it also when nothing moves.
class Context::RunningProgress final : public kj::Refcounted {
 public:
  RunningProgress(Screen& screen, Meter& meter, kj::Timer& timer) : meter(meter), timer(timer), line(screen, meter) {
    meter.onChange = [this]() { line.tick(); };
    beat = keepBeating().eagerlyEvaluate(nullptr);
  }
  ~RunningProgress() noexcept(false) { meter.onChange = nullptr; }

 private:
  Meter& meter;
  kj::Timer& timer;
  ProgressLine line;
  kj::Promise<void> beat = nullptr;

  kj::Promise<void> keepBeating() {
    return timer.afterDelay(DEFAULT_REDRAW * kj::MILLISECONDS).then([this]() {
      line.tick();
      return keepBeating();
    });
  }
};

bool Context::showsProgress() const {
  bool wanted = parts.foreground && !flags.noProgress && !flags.quiet && !flags.json;
  return wanted && parts.screen.takesEscapes(Channel::ERR);
}

kj::Own<kj::Refcounted> Context::startProgress() {
  if (!showsProgress()) return {};
  return kj::refcounted<RunningProgress>(parts.screen, meter, timer());
}

kj::Promise<int> runAction(const Action& action, Context& context) {
  auto end = context.output.whenBroken().then([](int number) { return number == 0 ? DONE : FAILED; });
  return kj::evalNow([&]() { return action(context); })
      .catch_([&context](kj::Exception&& exception) {
        context.output.complain("internal", escapeForTerminal(exception.getDescription().cStr()));
        return FAILED;
      })
      .exclusiveJoin(timeLimit(context))
      .then([&context](int status) {
        context.output.flush();
        return context.output.isBroken() && status == DONE ? context.output.brokenStatus() : status;
      })
      .exclusiveJoin(kj::mv(end));
}

kj::Promise<std::vector<int>> forEach(size_t count, size_t limit, std::function<kj::Promise<int>(size_t)> action) {
  auto state = kj::refcounted<ForEachState>(count, std::move(action));
  auto workers = kj::heapArrayBuilder<kj::Promise<void>>(std::min(count, limit));
  for (size_t i = 0; i < std::min(count, limit); ++i) workers.add(work(kj::addRef(*state)));
  return kj::joinPromises(workers.finish()).then([state = kj::mv(state)]() { return std::move(state->statuses); });
}

}  // namespace capstan::cli
