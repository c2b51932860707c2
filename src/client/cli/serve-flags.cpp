// The row of `capstan serve` in the table of commands: flags to options. What they mean is in command-serve.h.
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/command-serve.h>
#include <capstan/client/cli/exit-status.h>
#include <capstan/client/cli/output.h>

namespace capstan::cli {

namespace {

// It is for commands that come to an end by themselves. Ignored, it would be believed to hold.
int refuseTimeout(const GlobalFlags& flags) {
  Screen screen;
  Output output(screen, {.json = flags.json, .quiet = flags.quiet});
  output.complain("usage", "serve: --timeout is not possible here: a server runs until it is ended");
  output.hint("--idle-timeout ends connections on which nothing happens");
  return USAGE;
}

AnyAction define(OptionTable& table) {
  auto options = std::make_shared<ServeOptions>();
  table.texts("--listen", options->listen, "ADDR", "HOST:PORT or unix:PATH; may be repeated; port 0 picks one");
  table.text("--ready-file", options->readyFile, "FILE", "gets one line per listener once they accept");
  table.text("--state", options->state, "DIR",
             "where the owner's token and the TLS key are kept (default: ~/.local/state/capstan)");
  table.number("--threads", options->threads, "event loops (default: one per core)");
  table.size("--cache", options->cacheBytes, "memory for hot files (default: 64MiB; 0: none)");
  table.choice("--cache-policy", options->cachePolicy, "fifo|lru", "which of them give way first (default: fifo)");
  table.choice("--auth", options->authentication, "token|none", "what clients have to show (default: token)");
  table.text("--tls-cert", options->tlsCertificate, "FILE", "certificate in PEM, with its chain (default: its own)");
  table.text("--tls-key", options->tlsKey, "FILE", "the key of that certificate; SIGHUP reads both again");
  table.number("--max-connections", options->maxConnections, "more are turned away (as --limit server.connections=N)");
  table.duration("--idle-timeout", options->idleTimeout,
                 "end connections on which nothing happens for this long (as --limit idle-time=DUR)");
  table.texts("--limit", options->limits, "NAME=VALUE",
              "what clients may hold and do; may be repeated; help: lists all");
  return OwnLoopAction([options](const GlobalFlags& flags, const Operands& operands) {
    if (flags.timeout) return refuseTimeout(flags);
    if (!operands.empty()) options->root = operands[0];
    options->insecure = flags.insecure;
    options->json = flags.json;
    options->quiet = flags.quiet;
    options->verbose = flags.verbose;
    return serve(*options);
  });
}

}  // namespace

Command serveCommand() {
  return {
      "serve",
      "[ROOT]",
      "ROOT  the folder to serve; without it, the current one",
      0,
      1,
      "serve a folder",
      {{"capstan serve shared", "to programs of this user and, with a token, on 127.0.0.1:4457"},
       {"capstan serve shared --listen 127.0.0.1:0 --ready-file ready", "on a free port, which is in the file then"},
       {"capstan serve shared --listen unix:/run/me/sock --cache 256MiB", ""}},
      "capstan shell, in another terminal",
      Command::Needs::OWN_LOOP,
      false,
      define};
}

}  // namespace capstan::cli
