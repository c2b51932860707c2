// `capstan put`: local files, folders, or standard input to the server.
#include <sys/stat.h>

#include <cstdlib>
#include <memory>

#include <capstan/base/text.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/entry-format.h>
#include <capstan/client/cli/standard-streams.h>
#include <capstan/client/cli/transfers.h>

namespace capstan::cli {

namespace {

struct PutOptions {
  bool recursive = false;
  bool ifAbsent = false;
  bool resume =
      false;  // asks for what is always done: the client compares before it goes on, so there is no reason not to
  std::optional<std::string> ifVersion;
};

// An expectation, or what is wrong with the flags.
Result<Expectation> expectationOf(const PutOptions& options, bool severalFiles) {
  auto wrong = [](const char* sentence) { return Error{ErrorCode::INVALID_ARGUMENT, sentence, {}}; };
  Expectation expectation;
  if (options.ifAbsent) expectation.kind = Expectation::Kind::ABSENT;
  if (!options.ifVersion) return expectation;
  if (options.ifAbsent) return wrong("--if-absent and --if-version exclude each other");
  if (severalFiles) return wrong("--if-version is for one file: each file has its own version");
  auto version = fromHex(*options.ifVersion);
  if (!version || version->empty()) return wrong("--if-version takes the version that stat shows: hex digits");
  expectation.kind = Expectation::Kind::VERSION;
  expectation.version = std::move(*version);
  return expectation;
}

kj::Promise<int> putStandardInput(Context& context, client::UploadSettings settings) {
  const std::string& typed = context.operands[1];
  if (!context.stdinIsFree()) return context.usage("- is not possible here: standard input holds the commands");
  if (namesFolder(typed)) return context.usage("standard input has no name; write one behind the /");
  settings.keepMetadata = false;
  auto source = kj::heap<DescriptorSource>(0, context.port());
  auto share = context.meter.share();
  auto& sourceReference = *source;
  auto work = context.client().write(sourceReference, remotePath(typed), settings, share.get());
  return context.withProgress(kj::mv(work))
      .then([&context](Result<Entry> entry) {
        if (!entry.ok()) return context.output.fail(entry.error());
        if (context.output.json()) {
          context.output.line(entryAsJson(*entry));
        } else if (context.output.verbose()) {
          context.output.line("stored " + context.output.name(entry->path) + " (" + formatSize(entry->size) + ")");
        }
        return DONE;
      })
      .attach(kj::mv(source), kj::mv(share));
}

// A symlink with a slash behind it is the folder that it leads to, under the link's name.
Source sourceOf(const std::string& typed) {
  Source source = localSource(typed);
  struct stat status;
  if (typed.back() != '/' || lstat(source.path.c_str(), &status) != 0 || !S_ISLNK(status.st_mode)) return source;
  std::unique_ptr<char, decltype(&free)> target(realpath(source.path.c_str(), nullptr), free);
  if (target != nullptr) source.path = target.get();
  return source;
}

// What stands at the target; nothing to ask where the way it is typed says that it is a folder.
kj::Promise<Result<TargetKind>> kindOfTarget(Context& context, const std::string& typed) {
  if (namesFolder(typed)) return Result<TargetKind>(TargetKind::MISSING);
  return context.client().stat(remotePath(typed), true).then([](Result<Entry> entry) -> Result<TargetKind> {
    if (entry.ok()) return entry->type == EntryType::DIRECTORY ? TargetKind::FOLDER : TargetKind::OTHER;
    // A link that leads nowhere or out is replaced. Missing folders on the way will be made.
    if (entry.error().code == ErrorCode::NOT_FOUND || entry.error().code == ErrorCode::INVALID_PATH)
      return TargetKind::MISSING;
    return entry.error();
  });
}

kj::Promise<int> put(Context& context, std::shared_ptr<PutOptions> options) {
  auto& operands = context.operands;
  bool several = operands.size() > 2;
  auto expectation = expectationOf(*options, several || options->recursive);
  if (!expectation.ok()) return context.usage(expectation.error().message);
  client::UploadSettings settings;
  settings.recursive = options->recursive;
  settings.expectation = *expectation;
  settings.filesInFlight = filesInFlight(operands.size() - 1);
  std::vector<Source> sources;
  for (size_t i = 0; i + 1 < operands.size(); ++i) {
    if (operands[i] == "-") {
      if (several || options->recursive)
        return context.usage("- (standard input) has to be the only source, without -r");
      return putStandardInput(context, settings);
    }
    if (operands[i].empty()) return context.usage("the name of a local file is empty");
    sources.push_back(sourceOf(operands[i]));
  }
  return kindOfTarget(context, operands.back())
      .then([&context, sources = std::move(sources), settings](Result<TargetKind> kind) -> kj::Promise<int> {
        if (!kind.ok()) return context.output.fail(kind.error());
        const std::string& typed = context.operands.back();
        auto transfers = planTransfers(sources, remotePath(typed), namesFolder(typed), *kind);
        if (!transfers.ok()) return context.output.fail(transfers.error());
        return runTransfers(context, std::move(*transfers), "stored",
                            [&context, settings](const Transfer& transfer, client::Progress& progress) {
                              return context.client().upload(transfer.source, *transfer.target, settings, &progress);
                            });
      });
}

}  // namespace

Command putCommand() {
  return {"put",
          "LOCAL... REMOTE",
          "LOCAL   a file, with -r a folder (DIR/. is what it holds), or - for standard input\n"
          "REMOTE  the new name, or a folder to put it into: one that is there, or any that ends in /",
          2,
          ANY_NUMBER,
          "store files at the server",
          {{"capstan put notes.txt docs/", "as docs/notes.txt; the folder is made if it is missing"},
           {"capstan put -r photos backup/photos", "a folder with all that is in it"},
           {"tar c src | capstan put - src.tar", "what comes from a pipe"}},
          "capstan ls -l shows what is there now, capstan get brings it back",
          Command::Needs::SERVER,
          true,
          [](OptionTable& table) -> AnyAction {
            auto options = std::make_shared<PutOptions>();
            table.flag("-r,--recursive", options->recursive, "folders with all that is in them");
            table.flag("--if-absent", options->ifAbsent, "replace nothing (exit status 10 if there is something)");
            table.text("--if-version", options->ifVersion, "V",
                       "replace only this version, as stat shows it (exit status 4)");
            table.flag("--resume", options->resume,
                       "go on from what an interrupted put of the same file has left (as it does anyway)");
            return [options](Context& context) { return put(context, options); };
          }};
}

}  // namespace capstan::cli
