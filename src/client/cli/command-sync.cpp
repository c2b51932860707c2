// `capstan sync`: keeps a local folder and one at the server in step, or brings them into step once.
#include <memory>

#include <capstan/base/path.h>
#include <capstan/base/text.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/own-loop.h>
#include <capstan/client/cli/server-choice.h>
#include <capstan/client/cli/sync-options.h>
#include <capstan/client/cli/sync-run.h>
#include <capstan/client/cli/targets.h>

namespace capstan::cli {

namespace {

kj::Promise<int> synchronise(Context& context, const SyncOptions& options, WhenSignalled whenSignalled) {
  auto service = serviceOptionsOf(options);
  if (!service.ok()) return context.usage(service.error().message);
  SyncWish wish;
  wish.options = std::move(*service);
  wish.options.local = context.operands[0];
  wish.options.remote = remotePath(context.operands[1]);
  wish.options.server = clientOptionsOf(context.choice());
  wish.options.server.name = "capstan sync";
  wish.once = options.once;
  wish.dryRun = options.dryRun;
  if (wish.options.local.empty()) return context.usage("the name of the local folder is empty");
  if (context.operands[1].empty())
    return context.usage("the name of the folder at the server is empty; / is all of it");
  if (isReserved(wish.options.remote)) {
    Error error = errorAt(ErrorCode::INVALID_PATH, wish.options.remote, "", " is the server's own");
    return context.output.fail(error);
  }
  auto run = kj::heap<SyncRun>(context, std::move(wish), std::move(whenSignalled));
  auto promise = run->run();
  return promise.attach(kj::mv(run));
}

}  // namespace

Command syncCommand() {
  return {"sync",
          "LOCAL REMOTE",
          "LOCAL   a local folder\n"
          "REMOTE  a folder at the server; / is all that is served. It is made if it is missing",
          2,
          2,
          "keep a folder and the server in step",
          {{"capstan sync photos backup/photos", "the server's folder becomes a mirror, and stays one, until Ctrl-C"},
           {"capstan sync --once photos backup/photos", "once, for scripts and cron"},
           {"capstan sync -n photos backup/photos", "only say what would be done"},
           {"capstan sync --mode two-way notes notes", "changes of both sides; conflicts keep both contents"},
           {"capstan sync --once --mode pull --exclude '*.tmp' work work", "the other way, without some names"}},
          "capstan conflicts LOCAL lists conflicts, capstan explain LOCAL/PATH tells what would be done with a path\n"
          "and why, capstan undo RUN takes back what a run did at the server",
          Command::Needs::OWN_LOOP,
          true,
          [](OptionTable& table) -> AnyAction {
            auto options = std::make_shared<SyncOptions>();
            defineSyncOptions(table, *options);
            auto work = [options](Context& context, WhenSignalled whenSignalled) {
              return synchronise(context, *options, std::move(whenSignalled));
            };
            auto run = [work](const GlobalFlags& flags, const Operands& operands) {
              return runOnOwnLoop("sync", flags, operands, std::nullopt, work);
            };
            return OwnLoopAction(run, [work](Context& context) { return work(context, {}); });
          }};
}

}  // namespace capstan::cli
