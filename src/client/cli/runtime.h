// Everything that commands share in one process: the event loop, the terminal, signals, and the clients of the servers
// that were asked for. The top of a command line, of the shell and of the demo is one of these.
#pragma once

#include <memory>

#include <kj/async-io.h>
#include <kj/async-unix.h>

#include <capstan/client/cli/context.h>
#include <capstan/client/cli/server-choice.h>
#include <capstan/client/client.h>

namespace capstan::cli {

// One server and the client of it.
struct Connection {
  ServerChoice choice;
  std::unique_ptr<client::Client> client;
};

// Belongs to the thread that made it, whose event loop it is.
class Runtime {
 public:
  // Captures SIGINT, SIGTERM, SIGHUP, SIGWINCH and SIGCONT: make it before any thread.
  Runtime();

  kj::AsyncIoContext io;
  Screen screen;

  // Chooses the server and makes a client, which connects at its first call. Warnings are printed to `output`.
  Result<Connection> connectTo(const ServerWish& wish, Output& output, bool retries = true);

  // 128 plus its number when a signal that should end a command has come; takes the signal.
  kj::Promise<int> whenSignalled();

  // Runs a promise on this loop until it is done or a signal comes.
  int runUntilSignalled(kj::Promise<int> promise);
};

// What flags and configuration say together.
GlobalFlags withConfig(GlobalFlags flags, const Config& config);
OutputMode outputModeOf(const GlobalFlags& flags);

// Prints why no command could be started, answers the exit status: wrong addresses, configurations and token files are
// usage errors.
int failBeforeStart(Output& output, const Error& error);

// Runs a command that needs a loop of this module's: the whole of `capstan ls`, say.
int runOnce(const Invocation& invocation);

}  // namespace capstan::cli
