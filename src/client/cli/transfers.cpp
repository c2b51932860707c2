#include <capstan/client/cli/transfers.h>

#include <algorithm>
#include <set>

#include <capstan/base/text.h>
#include <capstan/client/cli/json.h>

namespace capstan::cli {

namespace {

constexpr size_t TRANSFERS_IN_FLIGHT = 16;
constexpr unsigned FILES_IN_FLIGHT = 64;

struct Run {
  std::vector<Transfer> transfers;
  RunTransfer run;
  std::vector<std::unique_ptr<client::Progress>> shares;
  client::TransferSummary sum;
};

void add(client::TransferSummary& sum, const client::TransferSummary& part) {
  sum.files += part.files;
  sum.folders += part.folders;
  sum.symlinks += part.symlinks;
  sum.bytes += part.bytes;
  sum.bytesMoved += part.bytesMoved;
  sum.failures.insert(sum.failures.end(), part.failures.begin(), part.failures.end());
}

int finish(Context& context, Run& run, const Transfer& transfer, const Result<client::TransferSummary>& result) {
  if (!result.ok()) {
    run.sum.failures.push_back({transfer.source, result.error()});
    int status = context.output.fail(result.error());
    if (result.error().code == ErrorCode::IS_DIRECTORY)
      context.output.hint("-r transfers a folder with all that is in it");
    return status;
  }
  add(run.sum, *result);
  for (auto& failure : result->failures) {
    Error error = failure.error;
    if (error.path.empty()) error.path = failure.path;
    context.output.fail(error);
  }
  return result->failures.empty() ? DONE : PARTLY_DONE;
}

void tellOfEachFile(Context& context, const char* verb) {
  if (!context.output.verbose()) return;
  context.meter.onFileDone = [&context, verb](std::string_view path, uint64_t size) {
    if (context.output.json()) {
      JsonWriter json;
      json.beginObject().field("event", verb).field("path", path).field("size", size).endObject();
      context.output.line(json.text());
    } else {
      context.output.line(std::string(verb) + " " + context.output.name(path) + " (" + formatSize(size) + ")");
    }
    context.output.flush();
  };
}

}  // namespace

Result<std::vector<Transfer>> planTransfers(const std::vector<Source>& sources, std::string_view target, bool asFolder,
                                            TargetKind kind) {
  std::vector<Transfer> transfers;
  std::set<std::string> taken;
  for (auto& source : sources) {
    auto place = targetFor(source, target, asFolder, kind, sources.size() > 1);
    if (!place.ok()) return place.error();  // none of them can go there
    // Contents of several folders may meet in one folder, as with cp.
    if (!source.name.empty() && !taken.insert(*place).second) {
      place = errorAt(ErrorCode::EXISTS, *place, "will not write ", " twice: another source has the same name");
    }
    transfers.push_back({source.path, std::move(place)});
  }
  return transfers;
}

unsigned filesInFlight(size_t count) {
  return std::max<unsigned>(4, FILES_IN_FLIGHT / std::max<size_t>(1, std::min(count, TRANSFERS_IN_FLIGHT)));
}

kj::Promise<int> runTransfers(Context& context, std::vector<Transfer> transfers, const char* verb, RunTransfer runOne) {
  auto run = std::make_shared<Run>(Run{std::move(transfers), std::move(runOne), {}, {}});
  for (size_t i = 0; i < run->transfers.size(); ++i) run->shares.push_back(context.meter.share());
  tellOfEachFile(context, verb);
  auto each = [&context, run](size_t index) -> kj::Promise<int> {
    auto& transfer = run->transfers[index];
    if (!transfer.target.ok()) return finish(context, *run, transfer, transfer.target.error());
    auto running = run->run(transfer, *run->shares[index]);
    return running.then([&context, run, &transfer](Result<client::TransferSummary> result) {
      return finish(context, *run, transfer, result);
    });
  };
  auto work = forEach(run->transfers.size(), TRANSFERS_IN_FLIGHT, each);
  return context.withProgress(kj::mv(work)).then([&context, run](std::vector<int> statuses) {
    bool anything = std::any_of(statuses.begin(), statuses.end(),
                                [](int status) { return status == DONE || status == PARTLY_DONE; });
    if (context.output.json() && anything) context.output.line(summaryAsJson(run->sum));
    return exitStatusOfAll(statuses);
  });
}

std::string summaryAsJson(const client::TransferSummary& summary) {
  JsonWriter json;
  json.beginObject()
      .field("files", summary.files)
      .field("folders", summary.folders)
      .field("symlinks", summary.symlinks)
      .field("bytes", summary.bytes)
      .field("bytesMoved", summary.bytesMoved)
      .key("failures")
      .beginArray();
  for (auto& failure : summary.failures) {
    json.beginObject()
        .field("path", failure.path)
        .field("code", kebabCase(failure.error.code))
        .field("message", failure.error.message)
        .endObject();
  }
  json.endArray().endObject();
  return json.text();
}

}  // namespace capstan::cli
