#include <capstan/client/cli/own-loop.h>

#include <capstan/client/cli/command-list.h>

namespace capstan::cli {

namespace {

bool isSameAddress(const std::string& typed, const std::string& address) {
  auto parsed = rpc::parseAddress(typed);
  return parsed.ok() && parsed->toString() == address;
}

}  // namespace

int runOnOwnLoop(const char* command, const GlobalFlags& flags, const Operands& operands,
                 const std::optional<std::string>& server, const OwnLoopWork& work) {
  Runtime runtime;
  Output output(runtime.screen, outputModeOf(flags));
  auto config = loadConfig();
  if (!config.ok()) return failBeforeStart(output, config.error());
  ServerWish wish = wishOf(flags, currentEnvironment(), *config);
  // An invite holds more than an address: the key that it was made with, and the token.
  bool isInvite = wish.server && wish.server->starts_with('@');
  if (server && !flags.server && !isInvite) {
    // What the folder says of a server of its own does not hold for another one.
    if (wish.addressOrigin == Origin::FOLDER && !isSameAddress(*wish.server, *server)) {
      GlobalFlags last = flags;
      last.server = server;
      wish = wishOf(last, currentEnvironment(), *config);
    }
    wish.server = server;
    wish.serverFrom = "the last run";
  }
  auto connection = runtime.connectTo(wish, output);
  if (!connection.ok()) return failBeforeStart(output, connection.error());
  Invocation invocation;
  invocation.command = findCommand(commandTable(), command);
  invocation.flags = withConfig(flags, *config);
  invocation.operands = operands;
  // Declared last, so that a command that is cut off ends before what it uses.
  Context::Parts parts{runtime.io, runtime.screen, connection->client.get(), connection->choice.address.toString()};
  parts.choice = &connection->choice;
  Context context(kj::mv(parts), invocation, outputModeOf(invocation.flags));
  Action action = [&](Context& running) { return work(running, [&runtime]() { return runtime.whenSignalled(); }); };
  return runAction(action, context).wait(runtime.io.waitScope);
}

}  // namespace capstan::cli
