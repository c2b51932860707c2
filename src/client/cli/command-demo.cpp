// `capstan demo`: a guided tour on a server of its own, which ends by itself and leaves nothing behind.
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include <capstan/base/file.h>
#include <capstan/base/text.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/delay-line.h>
#include <capstan/client/cli/demo-server.h>
#include <capstan/client/cli/shell.h>
#include <capstan/client/cli/sync-report.h>
#include <capstan/client/cli/words.h>
#include <capstan/rpc/outcome.h>

namespace capstan::cli {

namespace {

constexpr auto ONE_WAY = 20 * kj::MILLISECONDS;
constexpr auto PAUSE = 900 * kj::MILLISECONDS;  // on a terminal, so that one can follow
constexpr size_t BIG_FILE = 8 << 20;

class Demo {
 public:
  explicit Demo(const GlobalFlags& flags) : flags(flags), output(runtime.screen, outputModeOf(flags)) {}

  int run() {
    auto started = DemoServer::start(runtime);
    if (!started.ok()) return output.fail(started.error());
    server = std::move(*started);
    auto connection = connectTo(server->socket());
    if (!connection.ok()) return output.fail(connection.error());
    shellConnection = connection->choice;
    shell = std::make_unique<Shell>(runtime, std::move(*connection), flags, false);
    if (Status made = makeFiles(); !made.ok()) return output.fail(made.error());
    if (chdir(server->path("here").c_str()) != 0)
      return output.fail(errorFromErrno(errno, "cannot go to", server->path("here")));
    int status = tour();
    // The folder is about to vanish.
    if (chdir("/") != 0) return FAILED;
    return status;
  }

 private:
  const GlobalFlags flags;
  Runtime runtime;
  Output output;
  std::unique_ptr<DemoServer> server;
  std::unique_ptr<Shell> shell;
  ServerChoice shellConnection;
  int failed = DONE;  // or the signal that ended the tour

  Result<Connection> connectTo(const std::string& socket) {
    ServerWish wish;
    wish.server = "unix:" + socket;
    wish.serverFrom = "the demo";
    return runtime.connectTo(wish, output);
  }

  Status makeFiles() {
    std::string here = server->path("here") + "/";
    if (Status made = makeDirectories(here + "photos/2026", 0755); !made.ok()) return made;
    std::string big(BIG_FILE, '\0');
    for (size_t i = 0; i < big.size(); ++i) big[i] = char(i * 2654435761u >> 13);
    for (auto& [name, content] : {std::pair<std::string, std::string_view>("notes.txt", "Buy rope. Oil the capstan.\n"),
                                  {"photos/harbour.jpg", "not really a picture\n"},
                                  {"photos/2026/boat.jpg", "neither is this\n"},
                                  {"numbers.txt", "10\n9\n-1\n"},
                                  {"big.bin", big}}) {
      if (Status written = writeFileAtomically(here + name, content, 0644); !written.ok()) return written;
    }
    return okStatus();
  }

  void say(std::string_view text) {
    if (failed != DONE) return;
    output.line("");
    output.line("# " + std::string(text));
  }

  void show(std::string_view command) {
    output.line("$ capstan " + std::string(command));
    output.flush();
  }

  void type(const std::string& command, int expected = DONE) { typeInto(*shell, command, command, expected); }

  // As somebody types it who has the invite.
  void typeAs(Shell& receiver, const std::string& command, int expected) {
    typeInto(receiver, command, "--server @family.invite " + command, expected);
  }

  // Shows a command, runs it; anything but `expected` is remembered as the demo's failure.
  void typeInto(Shell& who, const std::string& command, const std::string& shown, int expected) {
    if (failed != DONE) return;
    show(shown);
    int status = who.runWords(splitLine(command)->words);
    if (status != DONE) {
      output.line("(exit status " + std::to_string(status) + ")");
      output.flush();
    }
    if (status != expected) failed = status == DONE ? FAILED : status;
    if (output.isTerminal() && failed == DONE) {
      failed = runtime.runUntilSignalled(runtime.io.provider->getTimer().afterDelay(PAUSE).then([]() { return DONE; }));
    }
  }

  int tour() {
    output.line("A tour of capstan: a server on a temporary folder, and what one types to use it.");
    say("A server was started for this tour, as with:");
    show("serve " + server->root() + " --listen unix:" + server->socket());
    files();
    roundTrips();
    syncing();
    computing();
    expectations();
    sharing();
    cache();
    if (failed != DONE) return failed;
    output.line("");
    output.line("That was it; the server and its folder are gone again.");
    output.line("Next: capstan serve FOLDER here, capstan shell in a second terminal, capstan --help");
    output.flush();
    return output.isBroken() ? output.brokenStatus() : DONE;
  }

  void files() {
    say("Store a file and a folder. The folder \"docs\" is made on the way; silence means success.");
    type("put notes.txt docs/");
    type("put -r photos album");
    type("put big.bin big.bin -v");
    type("put numbers.txt .");
    say("What is there now?");
    type("ls -R");
    say("Read it, rename it, compute a checksum where the file is.");
    type("cat docs/notes.txt");
    type("mv docs/notes.txt docs/list.txt");
    type("digest big.bin --algorithm sha256");
    say("And back again.");
    type("get -r album copy -v");
  }

  void syncing() {
    say("Keep a folder in step: only what changed travels, and what was overwritten or removed can be brought back.");
    synchronise();
    if (failed != DONE) return;
    output.line("(now photos/2026 is renamed here, and the picture of the harbour edited:)");
    std::string photos = server->path("here") + "/photos/";
    std::filesystem::rename(photos + "2026", photos + "summer");
    if (Status edited = writeFileAtomically(photos + "harbour.jpg", "a better picture\n", 0644); !edited.ok()) {
      failed = output.fail(edited.error());
      return;
    }
    std::string run = synchronise();
    type("ls -R mirror");
    type("undo " + run);
    type("cat mirror/harbour.jpg");
  }

  // What `capstan sync photos mirror --once` does; answers the run's id.
  std::string synchronise() {
    if (failed != DONE) return {};
    show("sync photos mirror --once");
    sync::ServiceOptions options;
    options.server = clientOptionsOf(shellConnection);
    options.local = "photos";
    options.remote = "mirror";
    options.stateFolder = server->path("sync-state");
    sync::Service service(runtime.io.provider->getNetwork(), runtime.io.provider->getTimer(), std::move(options));
    auto report = service.runOnce().wait(runtime.io.waitScope);
    if (report.error) {
      failed = output.fail(*report.error);
      return {};
    }
    output.line(cycleLine(report, sync::Mode::PUSH));
    output.flush();
    return toHex(report.run);
  }

  void computing() {
    say("Add and sort where the data is. The sorted file never travels.");
    type("add 2 3 -7");
    type("sort --file numbers.txt --type int -o sorted.txt");
    type("cat sorted.txt");
    type("sum --file numbers.txt --type int");
    pipelinedAdds();
    job();
  }

  // Each sum is an operand of the next before it is computed.
  void pipelinedAdds() {
    if (failed != DONE) return;
    constexpr int LENGTH = 1000;
    say("A thousand sums, each of the one before: all are sent at once, over the same slow line.");
    DelayLine line(runtime.io, server->path("slow-sums"), server->socket(), ONE_WAY);
    line.open().wait(runtime.io.waitScope);
    auto connection = connectTo(server->path("slow-sums"));
    if (!connection.ok()) {
      failed = output.fail(connection.error());
      return;
    }
    uint64_t begin = steadyNow();
    auto compute = connection->client->compute().wait(runtime.io.waitScope);
    if (!compute.ok()) {
      failed = output.fail(compute.error());
      return;
    }
    auto add = [&compute]() { return compute->addRequest(); };
    auto first = add();
    first.initOperands(2)[0].setInt(1);
    first.getOperands()[1].setInt(1);
    auto value = first.send().getValue();
    for (int i = 1; i < LENGTH; ++i) {
      auto next = add();
      next.initOperands(2)[0].setValue(kj::mv(value));
      next.getOperands()[1].setInt(1);
      value = next.send().getValue();
    }
    auto answer = value.readRequest().send().wait(runtime.io.waitScope);
    uint64_t time = steadyNow() - begin;
    KJ_IF_MAYBE (error, rpc::errorIn(answer.getOutcome())) {
      failed = output.fail(*error);
      return;
    }
    output.line("(the last one is " + std::to_string(answer.getElements().getInts()[0]) + ", and this took " +
                formatDuration(time) + " with connecting and log-in, on a line with a round trip of " +
                formatDuration(2 * (ONE_WAY / kj::NANOSECONDS)) + ")");
    output.flush();
  }

  // What `id=$(capstan sort ... --async)` does, with the id in hand.
  void job() {
    if (failed != DONE) return;
    say("A job outlives the command that has started it, the connection, and the server.");
    show("sort --file numbers.txt --type int --desc --async");
    client::Sorting sorting{client::RemoteInput{"numbers.txt", ElementType::INT}};
    sorting.settings.descending = true;
    auto id = shell->client().submit(std::move(sorting)).wait(runtime.io.waitScope);
    if (!id.ok()) {
      failed = output.fail(id.error());
      return;
    }
    output.line(escapeForTerminal(*id));
    type("job wait " + *id);
    type("job status " + *id);
    type("job result " + *id);
  }

  void expectations() {
    if (failed != DONE) return;
    say("Two people edit one file. Whoever names the version that was read cannot overwrite the other's work.");
    auto entry = shell->client().stat("docs/list.txt").wait(runtime.io.waitScope);
    if (!entry.ok()) {
      failed = output.fail(entry.error());
      return;
    }
    std::string version = toHex(entry->version);
    std::string command = "put notes.txt docs/list.txt --if-version " + version;
    type(command);
    output.line("(the same version again, which is an old one by now:)");
    type(command, CONFLICT);
  }

  // One who was given the folder "album" does the second half.
  void sharing() {
    say("Hand out one folder. The invite is all that the receiver needs, and is as good as a password.");
    type("share album --label family -o family.invite");
    if (failed != DONE) return;
    ServerWish wish;
    wish.server = "@family.invite";
    wish.serverFrom = "the demo";
    auto invited = runtime.connectTo(wish, output);
    if (!invited.ok()) {
      failed = output.fail(invited.error());
      return;
    }
    Shell receiver(runtime, std::move(*invited), flags, false);
    typeAs(receiver, "ls", DONE);
    typeAs(receiver, "put notes.txt .", DENIED);
    say("Take it back: what was handed out ends at once, and with it all that was made from it.");
    auto shares = shell->client().shares().wait(runtime.io.waitScope);
    if (!shares.ok() || shares->empty()) {
      failed = shares.ok() ? FAILED : output.fail(shares.error());
      return;
    }
    type("shares");
    type("revoke " + shares->front().id);
    typeAs(receiver, "ls", DENIED);
  }

  void cache() {
    say("Hot files are kept in the server's memory; ls -l marks them with *.");
    type("cat album/harbour.jpg");
    type("ls -l album");
    type("status");
  }

  // Measures a fresh client's first read over a line with a delay that the eye could see.
  void roundTrips() {
    if (failed != DONE) return;
    say("Connect, log in, open, read: four steps, but each is sent without waiting for the one before.");
    DelayLine line(runtime.io, server->path("slow"), server->socket(), ONE_WAY);
    line.open().wait(runtime.io.waitScope);
    auto connection = connectTo(server->path("slow"));
    if (!connection.ok()) {
      failed = output.fail(connection.error());
      return;
    }
    show("--server unix:" + server->path("slow") + " cat docs/list.txt");
    struct Sink final : public client::ByteConsumer {
      std::string content;
      kj::Promise<Status> write(std::string_view bytes) override {
        content += bytes;
        return okStatus();
      }
      kj::Promise<Status> skip(uint64_t) override { return okStatus(); }
    } sink;
    uint64_t begin = steadyNow();
    auto entry = connection->client->read("docs/list.txt", sink).wait(runtime.io.waitScope);
    uint64_t time = steadyNow() - begin;
    if (!entry.ok()) {
      failed = output.fail(entry.error());
      return;
    }
    output.raw(sink.content);
    unsigned there = unsigned(std::lround(double(time) / double(2 * (ONE_WAY / kj::NANOSECONDS))));
    output.line("(over a line with a round trip of " + formatDuration(2 * (ONE_WAY / kj::NANOSECONDS)) + " this took " +
                formatDuration(time) + ": " + std::to_string(there) + (there == 1 ? " round trip" : " round trips") +
                " for all four)");
    output.flush();
  }
};

int runDemo(const GlobalFlags& asked, const Operands&) {
  GlobalFlags flags = asked;
  flags.json = false;
  flags.verbose = false;
  return Demo(flags).run();
}

}  // namespace

Command demoCommand() {
  return {"demo",
          "",
          "",
          0,
          0,
          "a guided tour on a temporary folder, which leaves nothing behind",
          {{"capstan demo", "takes a few seconds"}},
          "capstan serve FOLDER, and then capstan shell in a second terminal",
          Command::Needs::OWN_LOOP,
          false,
          [](OptionTable&) -> AnyAction { return OwnLoopAction(runDemo); }};
}

}  // namespace capstan::cli
