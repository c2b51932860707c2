// `capstan doctor`: looks at what a server and its clients need, and says what to do where it is not so. It asks the
// server where there is one, and works without.
#include <cstdlib>
#include <memory>
#include <optional>

#include <sys/stat.h>

#include <capnp/message.h>
#include <capstan/base/clock.h>
#include <capstan/base/text.h>
#include <capstan/base/tree-watcher.h>
#include <capstan/base/user-dirs.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/context.h>
#include <capstan/client/cli/doctor-certificate.h>
#include <capstan/client/cli/doctor-clock.h>
#include <capstan/client/cli/doctor-disk.h>
#include <capstan/client/cli/doctor-files.h>
#include <capstan/client/cli/doctor-limits.h>
#include <capstan/client/cli/doctor-service.h>
#include <capstan/client/cli/doctor-share.h>
#include <capstan/client/cli/json.h>
#include <capstan/client/cli/runtime.h>
#include <capstan/program-version.h>

namespace capstan::cli {

namespace {

constexpr const char* OWNER = "owner";  // the id of the owner's grant

struct DoctorOptions {
  std::optional<std::string> state, certificate, key;
};

// One run of the command. Outlives its promises.
class Examination {
 public:
  // `wasChosen`: the server was named, by a flag or otherwise, so that it has to be there. Findings that were made on
  // the way here come first.
  Examination(Context& context, DoctorOptions options, bool wasChosen, Findings before)
      : context(context),
        options(std::move(options)),
        stateFolder(this->options.state.value_or(userStateFolder())),
        wasChosen(wasChosen),
        findings(std::move(before)) {
    if (!context.operands.empty()) root = context.operands[0];
  }

  kj::Promise<int> run(bool withServer) {
    if (!withServer) return conclude();
    asked = steadyNow();
    return context.client().hello().then([this](Result<client::ServerInfo> info) -> kj::Promise<int> {
      if (!info.ok()) {
        add(unreachable(info.error()));
        return conclude();
      }
      add(answered(*info));
      return askForStatus();
    });
  }

 private:
  Context& context;
  const DoctorOptions options;
  const std::string stateFolder;
  const bool wasChosen;
  Findings findings;
  std::optional<std::string> root;
  std::optional<pid_t> process;          // of the server, if it runs on this machine
  std::optional<Finding> watching;       // as the server has it
  std::optional<int64_t> serverChanged;  // seconds since the epoch
  uint64_t asked = 0;

  void add(Finding finding) { findings.push_back(std::move(finding)); }
  std::string server() const { return escapeForTerminal(context.serverName()); }

  Finding unreachable(const Error& error) const {
    std::string message = error.message.substr(0, error.message.find(';'));
    if (wasChosen)
      return Finding::problem("server", message,
                              "see whether it runs there (systemctl status capstan), and whether the address is right");
    return Finding::warning("server", message, "start one where it is wanted: capstan serve FOLDER");
  }

  Finding answered(const client::ServerInfo& info) const {
    std::string message = escapeForTerminal(info.name + " " + info.version) + " answers at " + server() + " after " +
                          formatDuration(steadyNow() - asked);
    if (info.version == CAPSTAN_VERSION) return Finding::ok("server", message);
    return Finding::warning("server", message + ", while this program is " CAPSTAN_VERSION,
                            "bring both to the same version");
  }

  kj::Promise<int> askForStatus() {
    using Message = std::shared_ptr<capnp::MallocMessageBuilder>;
    return context.client().status().then([this](Result<Message> status) -> kj::Promise<int> {
      if (!status.ok()) {
        add(refused(status.error()));
        return conclude();
      }
      learn((*status)->getRoot<schema::Status>().asReader());
      return context.client().stat("").then([this](Result<Entry> top) {
        if (top.ok()) serverChanged = top->mtime / 1'000'000'000;
        return askForShare();
      });
    });
  }

  static Finding refused(const Error& error) {
    if (error.code == ErrorCode::REVOKED || error.code == ErrorCode::EXPIRED) return judgeEndedShare(error);
    return Finding::problem("token", "the server does not let this user in: " + error.message,
                            "name the file of a token that it knows with --token-file");
  }

  // On the same login: that one may be all that a share has.
  kj::Promise<int> askForShare() {
    return context.client().currentShare().then([this](Result<client::Share> share) {
      if (share.ok() && share->id != OWNER) add(judgeShare(*share, wallClock()));
      return conclude();
    });
  }

  void learn(schema::Status::Reader status) {
    pid_t told = pid_t(status.getInfo().getProcessId());
    if (!isCapstanHere(told)) return;
    process = told;
    std::string served = status.getRoot().cStr();
    struct stat there;
    if (!root && stat(served.c_str(), &there) == 0) root = served;
    auto watch = status.getWatch();
    if (watch.getPartly()) {
      watching =
          Finding::warning("watching", "the server cannot watch all folders: some are looked at now and then only",
                           "as root: sysctl fs.inotify.max_user_watches=1048576, and the same in a file in "
                           "/etc/sysctl.d; then start the server anew");
    } else if (auto method = static_cast<WatchMethod>(watch.getMethod()); method == WatchMethod::FANOTIFY) {
      watching = Finding::ok("watching", "the server notices changes by other programs by fanotify");
    }
  }

  int conclude() {
    if (process) {
      if (auto unit = lookAtUnit(*process)) add(std::move(*unit));
    }
    add(lookAtState(stateFolder));
    add(lookAtOwnerToken(stateFolder));
    add(lookAtCertificate(stateFolder, options.certificate, options.key));
    add(lookAtOpenFiles(process));
    add(watching ? *watching : lookAtWatching(root));
    add(lookAtClock(serverChanged));
    if (root) append(findings, lookAtRoot(*root));
    // One that runs could not without.
    if (root && !process) {
      if (auto foreign = lookAtOwnerOf(*root, stateFolder)) add(std::move(*foreign));
    }
    add(lookAtRoomFor(stateFolder));
    print();
    for (const Finding& each : findings) {
      if (each.state == Finding::State::PROBLEM) return FAILED;
    }
    return DONE;
  }

  void print() {
    if (context.output.json()) {
      context.output.line(asJson());
    } else {
      printForPeople();
    }
  }

  std::string asJson() const {
    JsonWriter json;
    json.beginArray();
    for (const Finding& each : findings) {
      json.beginObject().field("check", each.check).field("state", nameOf(each.state)).field("message", each.message);
      json.key("advice");
      if (each.advice.empty()) {
        json.null();
      } else {
        json.value(each.advice);
      }
      json.endObject();
    }
    return json.endArray().text();
  }

  void printForPeople() {
    constexpr size_t STATE_WIDTH = 9;
    size_t checkWidth = 0;
    size_t counts[3] = {};
    for (const Finding& each : findings) {
      checkWidth = std::max(checkWidth, each.check.size() + 2);
      ++counts[size_t(each.state)];
    }
    for (const Finding& each : findings) {
      constexpr const char* COLORS[] = {"32", "33", "1;31"};
      std::string state = nameOf(each.state), gap(STATE_WIDTH - state.size(), ' ');
      context.output.line(context.output.inColor(COLORS[size_t(each.state)], state) + gap + each.check +
                          std::string(checkWidth - each.check.size(), ' ') + each.message);
      if (!each.advice.empty()) context.output.line(std::string(STATE_WIDTH + checkWidth, ' ') + "-> " + each.advice);
    }
    size_t problems = counts[size_t(Finding::State::PROBLEM)], warnings = counts[size_t(Finding::State::WARNING)];
    context.output.note(std::to_string(problems) + (problems == 1 ? " problem, " : " problems, ") +
                        std::to_string(warnings) + (warnings == 1 ? " warning" : " warnings"));
  }
};

kj::Promise<int> examine(Context& context, const DoctorOptions& options, bool wasChosen, Findings before,
                         bool withServer) {
  auto examination = kj::heap<Examination>(context, options, wasChosen, std::move(before));
  auto promise = examination->run(withServer);
  return promise.attach(kj::mv(examination));
}

// The file that the token is to be read from, where one is named.
void lookAtTokenOf(const ServerWish& wish, Findings& findings) {
  if (!wish.tokenFile) return;
  if (auto found = lookAtSecret("token", "the token", *wish.tokenFile, geteuid(), true)) findings.push_back(*found);
}

void warnAbout(const char* check, const std::string& warning, Findings& findings) {
  size_t end = warning.find("; ");
  std::string advice = end == std::string::npos ? "keep it to yourself" : warning.substr(end + 2);
  findings.push_back(Finding::warning(check, warning.substr(0, end), advice));
}

// What the choice of the server warns of: of an invite that others may read, say. Token files are looked at above.
void lookAtChoice(const ServerWish& wish, const ServerChoice& choice, Findings& findings) {
  for (const std::string& warning : choice.withheld) warnAbout("configuration", warning, findings);
  if (!wish.server || wish.server->rfind('@', 0) != 0) return;
  for (const std::string& warning : choice.warnings) warnAbout("token", warning, findings);
}

// Not through runOnce(): a broken configuration, or a server that cannot be chosen, is something to tell of.
int runDoctor(const DoctorOptions& options, const GlobalFlags& asked, const Operands& operands) {
  Runtime runtime;
  Findings findings;
  auto config = loadConfig();
  if (!config.ok()) {
    findings.push_back(Finding::problem("configuration", config.error().message, "mend the file, or remove it"));
    config = Config{};
  }
  Invocation invocation;
  invocation.command = findCommand(commandTable(), "doctor");
  invocation.flags = withConfig(asked, *config);
  invocation.operands = operands;
  ServerWish wish = wishOf(asked, currentEnvironment(), *config);
  lookAtTokenOf(wish, findings);
  Output silent(runtime.screen, {.quiet = true});  // what it would warn of is among the findings
  auto connection = runtime.connectTo(wish, silent, false);
  Context::Parts parts{runtime.io, runtime.screen};
  if (connection.ok()) {
    lookAtChoice(wish, connection->choice, findings);
    parts.client = connection->client.get();
    parts.serverName = connection->choice.address.toString();
  } else {
    findings.push_back(Finding::problem("server", connection.error().message, "name another server with --server"));
  }
  Context context(kj::mv(parts), invocation, outputModeOf(invocation.flags));
  Action action = [&](Context& running) {
    return examine(running, options, wish.server.has_value(), std::move(findings), connection.ok());
  };
  return context.ended(runtime.runUntilSignalled(runAction(action, context)));
}

}  // namespace

Command doctorCommand() {
  return {"doctor",
          "[ROOT]",
          "ROOT  the folder that is to be served; without it, the one that the server on this machine serves",
          0,
          1,
          "look for what is wrong with a server and its surroundings, and say what to do",
          {{"capstan doctor", "exit status 1 if something has to be done"},
           {"capstan doctor ~/shared", "before it is served"},
           {"capstan --server @family.invite doctor", "also what the invite gives, and for how long; this is a login"},
           {"capstan --json doctor | jq '.[] | select(.state != \"ok\")'", ""}},
          "capstan status tells what the server is doing",
          Command::Needs::OWN_LOOP,
          true,
          [](OptionTable& table) -> AnyAction {
            auto options = std::make_shared<DoctorOptions>();
            table.text("--state", options->state, "DIR", "the server's state folder (default: ~/.local/state/capstan)");
            table.text("--tls-cert", options->certificate, "FILE", "the server's certificate (default: its own)");
            table.text("--tls-key", options->key, "FILE", "the key of that certificate");
            auto run = [options](const GlobalFlags& flags, const Operands& operands) {
              return runDoctor(*options, flags, operands);
            };
            return OwnLoopAction(run,
                                 [options](Context& context) { return examine(context, *options, true, {}, true); });
          }};
}

}  // namespace capstan::cli
