// What a command has in its hands while it runs: its operands and flags, the client, its output, the loop's clock and
// port.
#pragma once

#include <kj/async-io.h>

#include <capstan/client/cli/arguments.h>
#include <capstan/client/cli/exit-status.h>
#include <capstan/client/cli/output.h>
#include <capstan/client/cli/progress.h>
#include <capstan/client/client.h>

namespace capstan::cli {

struct ServerChoice;  // server-choice.h

// Belongs to one event loop, and outlives the promise of the command's action.
class Context {
 public:
  struct Parts {
    kj::AsyncIoContext& io;
    Screen& screen;
    client::Client* client = nullptr;      // null where the command needs none
    std::string serverName = {};           // the address, for people
    const ServerChoice* choice = nullptr;  // for commands that make clients of their own; null for all others
    bool stdinIsFree = true;               // false where lines of commands come from standard input
    bool foreground = true;                // progress may be drawn
  };
  // All that `parts` points to must outlive it.
  Context(Parts parts, const Invocation& invocation, OutputMode mode);

  const Operands operands;
  const GlobalFlags flags;
  Output output;
  Meter meter;  // of the transfers of this command
  // Set by a command: what the sentence about a time limit, or about a signal, ends with.
  std::string whenCutOff;

  client::Client& client();
  kj::Network& network() { return parts.io.provider->getNetwork(); }
  // Precondition: the command was given one.
  const ServerChoice& choice() const { return *parts.choice; }
  kj::Timer& timer() { return parts.io.provider->getTimer(); }
  kj::UnixEventPort& port() { return parts.io.unixEventPort; }
  const std::string& serverName() const { return parts.serverName; }
  bool stdinIsFree() const { return parts.stdinIsFree; }

  // A command line that was understood too late to be wrong: prints the sentence, answers USAGE.
  int usage(std::string_view message);

  // To be called with the exit status once the action is over: if a signal ended it, tells what goes on all the same.
  // Answers the status.
  int ended(int status);

  // Whether progress is drawn.
  bool showsProgress() const;

  // Draws the meter while `work` goes on, where progress is wanted and there is a terminal to draw it on.
  // The line is there until what is answered is dropped; null where there is none.
  kj::Own<kj::Refcounted> startProgress();
  template <typename T>
  kj::Promise<T> withProgress(kj::Promise<T> work) {
    auto line = startProgress();
    if (line.get() == nullptr) return work;
    return work.attach(kj::mv(line));
  }

 private:
  class RunningProgress;
  Parts parts;
  const char* commandName;
};

// Runs an action to its end, its timeout, or the end of standard output, whichever comes first; whatever it throws
// becomes an exit status. Everything it printed is written when the promise resolves. Dropping the promise ends the
// command.
kj::Promise<int> runAction(const Action& action, Context& context);

// Runs `action` for each item, at most `limit` at a time and started in order; answers all of their exit statuses, in
// order.
kj::Promise<std::vector<int>> forEach(size_t count, size_t limit, std::function<kj::Promise<int>(size_t index)> action);

}  // namespace capstan::cli
