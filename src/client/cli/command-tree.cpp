// `capstan mkdir`, `mv`, `cp` and `rm`: changes to the remote tree that move no content.
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/context.h>
#include <capstan/client/cli/entry-format.h>
#include <capstan/client/cli/targets.h>

namespace capstan::cli {

namespace {

constexpr size_t REMOVALS_IN_FLIGHT = 64;

// How a change ends that answers the entry which came out: silence, a line with -v, the entry with --json.
int report(Context& context, const Result<Entry>& entry, std::string_view verb) {
  Output& output = context.output;
  if (!entry.ok()) return output.fail(entry.error());
  if (output.json()) {
    output.line(entryAsJson(*entry));
  } else if (output.verbose()) {
    output.line(std::string(verb) + " " + output.name(entry->path));
  }
  return DONE;
}

kj::Promise<int> makeFolder(Context& context, std::shared_ptr<bool> parents) {
  return context.client()
      .makeDirectory(remotePath(context.operands[0]), *parents)
      .then([&context](Result<Entry> entry) { return report(context, entry, "made"); });
}

// The target of mv and cp, as Unix has it: into it if it is a folder.
kj::Promise<Result<std::string>> targetOf(Context& context) {
  std::string typed = context.operands[1];
  std::string target = remotePath(typed);
  Source source = remoteSource(context.operands[0]);
  return context.client().stat(target, true).then([=](Result<Entry> entry) -> Result<std::string> {
    if (entry.ok()) {
      auto kind = entry->type == EntryType::DIRECTORY ? TargetKind::FOLDER : TargetKind::OTHER;
      return targetFor(source, target, namesFolder(typed), kind, false);
    }
    // A symlink that leads nowhere, or out of the tree, is a name to replace like any other.
    bool isFree = entry.error().code == ErrorCode::NOT_FOUND || entry.error().code == ErrorCode::INVALID_PATH;
    if (!isFree || namesFolder(typed)) return entry.error();
    return targetFor(source, target, false, TargetKind::MISSING, false);
  });
}

Expectation absentIf(bool wanted) {
  Expectation expectation;
  if (wanted) expectation.kind = Expectation::Kind::ABSENT;
  return expectation;
}

kj::Promise<int> move(Context& context, std::shared_ptr<bool> noClobber) {
  return targetOf(context).then([&context, noClobber](Result<std::string> target) -> kj::Promise<int> {
    if (!target.ok()) return context.output.fail(target.error());
    return context.client()
        .rename(remoteSource(context.operands[0]).path, *target, absentIf(*noClobber), false)
        .then([&context](Result<Entry> entry) { return report(context, entry, "moved to"); });
  });
}

kj::Promise<int> copy(Context& context) {
  return targetOf(context).then([&context](Result<std::string> target) -> kj::Promise<int> {
    if (!target.ok()) return context.output.fail(target.error());
    return context.client()
        .copy(remoteSource(context.operands[0]).path, *target, {}, false)
        .then([&context](Result<Entry> entry) { return report(context, entry, "copied to"); });
  });
}

kj::Promise<int> remove(Context& context, std::shared_ptr<bool> recursive) {
  auto removeOne = [&context, recursive](size_t index) {
    return context.client()
        .remove(remotePath(context.operands[index]), *recursive)
        .then([&context](Result<Entry> entry) {
          int status = report(context, entry, "removed");
          if (!entry.ok() && entry.error().code == ErrorCode::NOT_EMPTY)
            context.output.hint("-r removes a folder with all that is in it");
          return status;
        });
  };
  return forEach(context.operands.size(), REMOVALS_IN_FLIGHT, removeOne).then([](std::vector<int> statuses) {
    return exitStatusOfAll(statuses);
  });
}

}  // namespace

Command mkdirCommand() {
  return {"mkdir",
          "PATH",
          "",
          1,
          1,
          "make a folder",
          {{"capstan mkdir docs", ""}, {"capstan mkdir -p docs/2026/november", "with the folders on the way"}},
          "capstan put FILE docs/ stores a file in it (and makes the folder too)",
          Command::Needs::SERVER,
          true,
          [](OptionTable& table) -> AnyAction {
            auto parents = std::make_shared<bool>(false);
            table.flag("-p,--parents", *parents, "make missing folders on the way; content with what is there already");
            return [parents](Context& context) { return makeFolder(context, parents); };
          }};
}

Command mvCommand() {
  return {"mv",
          "FROM TO",
          "TO  where it goes; if it is a folder, into it",
          2,
          2,
          "rename or move a file or folder",
          {{"capstan mv draft.txt final.txt", "in one step; a file that is there is replaced"},
           {"capstan mv final.txt docs", "into the folder docs"},
           {"capstan mv a b --no-clobber", "exit status 10 if there is a b"}},
          "capstan ls shows the result",
          Command::Needs::SERVER,
          true,
          [](OptionTable& table) -> AnyAction {
            auto noClobber = std::make_shared<bool>(false);
            table.flag("--no-clobber", *noClobber, "replace nothing");
            return [noClobber](Context& context) { return move(context, noClobber); };
          }};
}

Command cpCommand() {
  return {"cp",
          "FROM TO",
          "TO  where the copy goes; if it is a folder, into it",
          2,
          2,
          "copy a file, or a folder with all that is in it, at the server",
          {{"capstan cp report.txt report.bak", "no content travels"}, {"capstan cp docs docs-2026", "a whole folder"}},
          "capstan ls -R shows the result",
          Command::Needs::SERVER,
          true,
          [](OptionTable&) -> AnyAction { return Action(copy); }};
}

Command rmCommand() {
  return {"rm",
          "PATH...",
          "",
          1,
          ANY_NUMBER,
          "remove files, symlinks and empty folders",
          {{"capstan rm old.txt older.txt", ""}, {"capstan rm -r docs-2025", "with all that is in it"}},
          "capstan ls shows what is left",
          Command::Needs::SERVER,
          true,
          [](OptionTable& table) -> AnyAction {
            auto recursive = std::make_shared<bool>(false);
            table.flag("-r,--recursive", *recursive, "folders with all that is in them");
            return [recursive](Context& context) { return remove(context, recursive); };
          }};
}

}  // namespace capstan::cli
