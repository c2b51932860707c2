// `capstan stat` and `capstan digest`: what the server knows about one path.
#include <capstan/base/text.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/context.h>
#include <capstan/client/cli/entry-format.h>
#include <capstan/client/cli/targets.h>

namespace capstan::cli {

namespace {

kj::Promise<int> showEntry(Context& context) {
  return context.client().stat(remotePath(context.operands[0])).then([&context](Result<Entry> entry) {
    Output& output = context.output;
    if (!entry.ok()) return output.fail(entry.error());
    if (output.json()) {
      output.line(entryAsJson(*entry));
    } else {
      output.raw(statBlock(*entry, output.name(entry->path), output.name(entry->target)));
    }
    return DONE;
  });
}

kj::Promise<int> showDigest(Context& context, std::shared_ptr<std::optional<std::string>> name) {
  std::string path = remotePath(context.operands[0]);
  DigestAlgorithm algorithm = digestAlgorithmByName(name->value_or("xxh3"));
  return context.client().digest(path, algorithm).then([&context, path, algorithm](Result<std::string> digest) {
    Output& output = context.output;
    if (!digest.ok()) return output.fail(digest.error());
    if (output.json()) {
      JsonWriter json;
      json.beginObject()
          .field("path", path)
          .field("algorithm", nameOf(algorithm))
          .field("digest", toHex(*digest))
          .endObject();
      output.line(json.text());
    } else {
      output.line(toHex(*digest) + "  " + output.name(path));
    }
    return DONE;
  });
}

}  // namespace

Command statCommand() {
  return {"stat",
          "PATH",
          "",
          1,
          1,
          "tell all about one file or folder",
          {{"capstan stat notes.txt", "type, size, mode, time, version"},
           {"capstan --json stat notes.txt", "the same for scripts"}},
          "capstan put --if-version VERSION writes only if nobody else did meanwhile",
          Command::Needs::SERVER,
          true,
          [](OptionTable&) -> AnyAction { return Action(showEntry); }};
}

Command digestCommand() {
  return {"digest",
          "PATH",
          "",
          1,
          1,
          "compute a file's checksum at the server",
          {{"capstan digest big.iso", "XXH3, 128 bits: fast, finds accidents"},
           {"capstan digest big.iso --algorithm sha256", "compares with sha256sum"}},
          "sha256sum FILE computes the same of a local file",
          Command::Needs::SERVER,
          true,
          [](OptionTable& table) -> AnyAction {
            auto algorithm = std::make_shared<std::optional<std::string>>();
            table.choice("--algorithm", *algorithm, "xxh3|sha256", "which checksum (default: xxh3)");
            return [algorithm](Context& context) { return showDigest(context, algorithm); };
          }};
}

}  // namespace capstan::cli
