// `capstan watch`: one line for each change in the remote tree, as it happens.
#include <capstan/base/text.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/context.h>
#include <capstan/client/cli/entry-format.h>
#include <capstan/client/cli/json.h>
#include <capstan/client/cli/targets.h>
#include <capstan/client/watch.h>

namespace capstan::cli {

namespace {

struct WatchOptions {
  std::optional<std::string> since;
  std::optional<uint64_t> count;
};

// Prints what comes, and ends it when enough has come.
class Watch {
 public:
  Watch(Context& context, const WatchOptions& options) : context(context), left(options.count) {}

  kj::Promise<int> run(std::string path, std::string since) {
    client::WatchSettings settings;
    settings.path = std::move(path);
    settings.since = std::move(since);
    // `this` outlives the watching, which is a part of the promise that is answered.
    settings.onBegin = [this](const client::WatchMeans& means, const std::string& cursor) { begin(means, cursor); };
    settings.onNotices = [this](client::Notices&& notices) { print(notices); };
    auto enough = kj::newPromiseAndFulfiller<int>();
    done = kj::mv(enough.fulfiller);
    if (left && *left == 0) return DONE;
    return context.client()
        .watch(std::move(settings))
        .then([this](Status status) { return status.ok() ? DONE : context.output.fail(status.error()); })
        .exclusiveJoin(kj::mv(enough.promise));
  }

 private:
  Context& context;
  std::optional<uint64_t> left;
  std::string lastCursor;
  kj::Own<kj::PromiseFulfiller<int>> done;

  void begin(const client::WatchMeans& means, const std::string& cursor) {
    if (lastCursor.empty()) lastCursor = cursor;
    if (!context.output.verbose()) return;
    std::string how = "changes by other programs are noticed with " + means.method;
    if (means.method == "polling") how += " every " + formatDuration(means.interval);
    if (means.partly) how += ", in some folders by polling every " + formatDuration(means.interval);
    context.output.note(how + "; from cursor " + toHex(cursor));
  }

  void print(const client::Notices& told) {
    if (told.overflow && isWanted()) printOverflow(told.cursor);
    for (size_t i = 0; i < told.notices.size() && isWanted(); ++i) {
      // Whoever begins there again hears of the others of this call again, rather than missing them.
      bool isLast = i + 1 == told.notices.size();
      printNotice(told.notices[i], isLast ? told.cursor : lastCursor);
      count();
    }
    lastCursor = told.cursor;
    context.output.flush();
  }

  bool isWanted() const { return !left || *left > 0; }

  void count() {
    if (left && --*left == 0) done->fulfill(int(DONE));
  }

  void printOverflow(const std::string& cursor) {
    if (context.output.json()) {
      JsonWriter json;
      json.beginObject().field("kind", "overflow").field("cursor", toHex(cursor)).endObject();
      context.output.line(json.text());
    } else {
      context.output.line("overflow");
    }
  }

  void printNotice(const client::Notice& notice, const std::string& cursor) {
    if (context.output.json()) {
      context.output.line(asJson(notice, cursor));
      return;
    }
    std::string line(nameOf(notice.kind));
    if (notice.kind == client::NoticeKind::MOVED) line += " " + context.output.name(notice.from) + " ->";
    context.output.line(line + " " + context.output.name(notice.path));
  }

  static std::string asJson(const client::Notice& notice, const std::string& cursor) {
    JsonWriter json;
    json.beginObject().field("kind", nameOf(notice.kind)).field("path", notice.path);
    if (notice.kind == client::NoticeKind::MOVED) json.field("from", notice.from);
    json.key("entry");
    if (notice.entry.type == EntryType::UNSET) {
      json.null();
    } else {
      writeEntry(json, notice.entry);
    }
    json.field("cursor", toHex(cursor)).endObject();
    return json.text();
  }
};

kj::Promise<int> watch(Context& context, std::shared_ptr<WatchOptions> options) {
  std::string since;
  if (options->since && *options->since != "now") {
    auto bytes = fromHex(*options->since);
    if (!bytes || bytes->empty()) {
      return context.usage("--since takes a cursor as `capstan watch --json` prints it, or `now`");
    }
    since = *bytes;
  }
  auto watching = kj::heap<Watch>(context, *options);
  auto promise = watching->run(context.operands.empty() ? "" : remotePath(context.operands[0]), std::move(since));
  return promise.attach(kj::mv(watching));
}

}  // namespace

Command watchCommand() {
  return {"watch",
          "[PATH]",
          "PATH  a remote folder or file, which need not exist; without it, the served folder",
          0,
          1,
          "print what changes on the server, as it happens",
          {{"capstan watch", "created, changed, removed, moved FROM -> PATH, for each change; Ctrl-C ends it"},
           {"capstan watch docs --count 1", "wait for the next change in a folder"},
           {"capstan watch --json --since 5f0c...", "go on behind the cursor of an earlier line, missing nothing"}},
          "after `overflow` more has changed than is told: capstan ls -R lists what is there",
          Command::Needs::SERVER,
          true,
          [](OptionTable& table) -> AnyAction {
            auto options = std::make_shared<WatchOptions>();
            table.text("--since", options->since, "CURSOR",
                       "tell first what has changed since this cursor (of --json or -v); now: nothing, as without it");
            table.number("--count", options->count, "end after so many changes");
            return [options](Context& context) { return watch(context, options); };
          }};
}

}  // namespace capstan::cli
