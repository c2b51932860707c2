// `capstan ls`: what a folder holds, entry by entry as the server tells it, so that a million of them need no memory.
#include <capstan/base/text.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/context.h>
#include <capstan/client/cli/entry-format.h>
#include <capstan/client/cli/targets.h>

namespace capstan::cli {

namespace {

struct LsOptions {
  bool longFormat = false;
  bool recursive = false;
  bool slashes = false;
};

// Prints entries one by one, in whichever form was asked for.
class Listing {
 public:
  Listing(Context& context, const LsOptions& options, std::string folder)
      : context(context), options(options), folder(std::move(folder)) {}

  void add(const Entry& entry) {
    if (context.output.json()) {
      context.output.raw(count++ == 0 ? "[" : ",\n ");
      context.output.raw(entryAsJson(entry));
    } else {
      addLine(entry, nameBelow(entry.path));
    }
  }

  // A folder of whose entries nothing is known.
  void leaveOut(const Error& error) {
    context.output.fail(error);
    isWhole = false;
  }

  int status() const { return isWhole ? DONE : PARTLY_DONE; }

  void end() {
    if (context.output.json()) context.output.line(count == 0 ? "[]" : "]");
  }

 private:
  Context& context;
  const LsOptions options;
  const std::string folder;
  uint64_t count = 0;
  bool isWhole = true;

  std::string_view nameBelow(std::string_view path) const {
    if (!folder.empty() && path.size() > folder.size() && path.substr(0, folder.size()) == folder) {
      return path.substr(folder.size() + 1);
    }
    return path;
  }

  void addLine(const Entry& entry, std::string_view name) {
    Output& output = context.output;
    std::string line = options.longFormat ? longColumns(entry) : std::string();
    line += output.colored(entry, output.name(name));
    if (options.slashes && entry.type == EntryType::DIRECTORY) line += '/';
    if (options.longFormat && entry.type == EntryType::SYMLINK) line += " -> " + output.name(entry.target);
    output.line(line);
  }
};

// What `ls` does, from one symlink to the next.
class Lister {
 public:
  Lister(Context& context, const LsOptions& options) : context(context), options(options) {}

  kj::Promise<int> list(std::string path) {
    auto listing = std::make_shared<Listing>(context, options, path);
    return context.client()
        .list(
            path, options.recursive, [listing](Entry&& entry) { listing->add(entry); },
            [listing](Error&& error) { listing->leaveOut(error); })
        .then([this, listing, path](Status status) -> kj::Promise<int> {
          if (!status.ok()) {
            if (status.error().code == ErrorCode::NOT_DIRECTORY) return showWhatIsThere(path);
            return context.output.fail(status.error());
          }
          listing->end();
          return listing->status();
        });
  }

 private:
  static constexpr unsigned MAX_LINKS = 16;
  Context& context;
  const LsOptions options;
  unsigned links = 0;

  // No folder, so the file itself, or the folder that a symlink leads to. As with other programs, -l shows the link.
  kj::Promise<int> showWhatIsThere(std::string path) {
    return context.client().stat(path).then([this](Result<Entry> entry) -> kj::Promise<int> {
      if (!entry.ok()) return context.output.fail(entry.error());
      if (entry->type == EntryType::SYMLINK && !options.longFormat) return follow(std::move(*entry));
      return show(*entry);
    });
  }

  kj::Promise<int> follow(Entry link) {
    return context.client().stat(link.path, true).then([this, link](Result<Entry> entry) -> kj::Promise<int> {
      if (!entry.ok()) return context.output.fail(entry.error());
      auto next = destinationOf(link.path, link.target);
      if (entry->type == EntryType::DIRECTORY && next && ++links < MAX_LINKS) return list(*next);
      return show(link);
    });
  }

  int show(const Entry& entry) {
    Listing listing(context, options, {});
    listing.add(entry);
    listing.end();
    return DONE;
  }
};

kj::Promise<int> list(Context& context, std::shared_ptr<LsOptions> options) {
  auto lister = kj::heap<Lister>(context, *options);
  auto promise = lister->list(context.operands.empty() ? "" : remotePath(context.operands[0]));
  return promise.attach(kj::mv(lister));
}

}  // namespace

Command lsCommand() {
  return {"ls",
          "[PATH]",
          "PATH  a remote folder or file; without it, the served folder",
          0,
          1,
          "list a folder",
          {{"capstan ls", "one name per line"},
           {"capstan ls -l docs", "mode, size, time, * for what is in the server's cache, name"},
           {"capstan ls -R --json docs", "everything below, as JSON"}},
          "capstan get NAME . fetches a file, capstan stat NAME tells more about it",
          Command::Needs::SERVER,
          true,
          [](OptionTable& table) -> AnyAction {
            auto options = std::make_shared<LsOptions>();
            table.flag("-l", options->longFormat, "mode, size, time, cached (*) and name");
            table.flag("-R,--recursive", options->recursive, "everything below the folder, by path relative to it");
            table.flag("-p", options->slashes, "write / behind folders");
            return [options](Context& context) { return list(context, options); };
          }};
}

}  // namespace capstan::cli
