// `capstan get`: remote files and folders to local ones, or to standard output.
#include <sys/stat.h>

#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/standard-streams.h>
#include <capstan/client/cli/transfers.h>

namespace capstan::cli {

namespace {

struct GetOptions {
  bool recursive = false;
  bool resume =
      false;  // asks for what is always done: the client compares before it goes on, so there is no reason not to
};

TargetKind kindOfLocal(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return TargetKind::MISSING;
  return S_ISDIR(status.st_mode) ? TargetKind::FOLDER : TargetKind::OTHER;
}

kj::Promise<int> getToStandardOutput(Context& context) {
  auto sink = kj::heap<OutputSink>(context.output, context.port());
  auto share = context.meter.share();
  auto& sinkReference = *sink;
  auto work = context.client().read(remotePath(context.operands[0]), sinkReference, 0, UINT64_MAX, share.get());
  // On a terminal the content itself is all that one wants to see.
  if (!context.output.isTerminal()) work = context.withProgress(kj::mv(work));
  return work.then([&context](Result<Entry> entry) { return entry.ok() ? DONE : context.output.fail(entry.error()); })
      .attach(kj::mv(sink), kj::mv(share));
}

kj::Promise<int> get(Context& context, std::shared_ptr<GetOptions> options) {
  auto& operands = context.operands;
  const std::string& typed = operands.back();
  if (typed == "-") {
    if (operands.size() > 2 || options->recursive)
      return context.usage("to - (standard output) goes one file, without -r");
    return getToStandardOutput(context);
  }
  if (typed.empty()) return context.usage("the name of the local target is empty");
  client::DownloadSettings settings;
  settings.recursive = options->recursive;
  settings.filesInFlight = filesInFlight(operands.size() - 1);
  std::vector<Source> sources;
  for (size_t i = 0; i + 1 < operands.size(); ++i) sources.push_back(remoteSource(operands[i]));
  std::string target = localSource(typed).path;
  auto transfers = planTransfers(sources, target, namesFolder(typed), kindOfLocal(target));
  if (!transfers.ok()) return context.output.fail(transfers.error());
  return runTransfers(context, std::move(*transfers), "fetched",
                      [&context, settings](const Transfer& transfer, client::Progress& progress) {
                        return context.client().download(transfer.source, *transfer.target, settings, &progress);
                      });
}

}  // namespace

Command getCommand() {
  return {"get",
          "REMOTE... LOCAL",
          "REMOTE  a file, with -r a folder (DIR/. is what it holds)\n"
          "LOCAL   the new name, a folder to put it into (there, or ending in /), or - for standard output",
          2,
          ANY_NUMBER,
          "fetch files from the server",
          {{"capstan get docs/notes.txt .", "into this folder"},
           {"capstan get -r backup/photos restored/", "a folder with all that is in it"},
           {"capstan get src.tar - | tar x", "into a pipe"}},
          "capstan digest compares without fetching",
          Command::Needs::SERVER,
          true,
          [](OptionTable& table) -> AnyAction {
            auto options = std::make_shared<GetOptions>();
            table.flag("-r,--recursive", options->recursive, "folders with all that is in them");
            table.flag("--resume", options->resume,
                       "go on from what an interrupted get of the same file has left (as it does anyway)");
            return [options](Context& context) { return get(context, options); };
          }};
}

}  // namespace capstan::cli
