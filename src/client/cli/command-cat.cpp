// `capstan cat`: a file's content, or a part of it, on standard output.
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/context.h>
#include <capstan/client/cli/standard-streams.h>
#include <capstan/client/cli/targets.h>

namespace capstan::cli {

namespace {

struct CatOptions {
  std::optional<uint64_t> offset;
  std::optional<uint64_t> count;
};

kj::Promise<int> show(Context& context, std::shared_ptr<CatOptions> options) {
  auto sink = kj::heap<OutputSink>(context.output, context.port());
  auto& sinkReference = *sink;
  return context.client()
      .read(remotePath(context.operands[0]), sinkReference, options->offset.value_or(0),
            options->count.value_or(UINT64_MAX))
      .then([&context](Result<Entry> entry) { return entry.ok() ? DONE : context.output.fail(entry.error()); })
      .attach(kj::mv(sink));
}

}  // namespace

Command catCommand() {
  return {"cat",
          "PATH",
          "",
          1,
          1,
          "print a file's content",
          {{"capstan cat notes.txt", ""},
           {"capstan cat server.log --offset 1MiB --count 64KiB", "a part of it"},
           {"capstan cat backup.tar | tar t", ""}},
          "capstan get PATH LOCAL stores it in a file, and can resume",
          Command::Needs::SERVER,
          true,
          [](OptionTable& table) -> AnyAction {
            auto options = std::make_shared<CatOptions>();
            table.size("--offset", options->offset, "start at this byte");
            table.size("--count", options->count, "print at most so many bytes");
            return [options](Context& context) { return show(context, options); };
          }};
}

}  // namespace capstan::cli
