// How results of computations are printed, and where they go instead: the standard output, a remote file, or a job. The
// same for `sort`, `sum` and its like, and `job result`.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <capstan/client/cli/compute-operands.h>
#include <capstan/client/cli/context.h>
#include <capstan/client/cli/json.h>
#include <capstan/client/cli/standard-streams.h>
#include <capstan/client/compute.h>

namespace capstan::cli {

// As a JSON number; NaN and infinities as the strings "nan", "inf" and "-inf", which JSON has no numbers for.
void writeNumber(JsonWriter& json, const Number& number);

// The number alone, or {"value","type"}. Answers DONE.
int printNumber(Output& output, const Number& number);

// The progress of a computation that the command waits for, on the terminal if there is one: first that of its local
// input, then that of its work.
class ComputationProgress {
 public:
  // Counts what is read of a local input from now on. `kind` is for people. The context must outlive it.
  ComputationProgress(Context& context, std::string kind, ChosenInput& chosen);
  // For the call; empty where nothing is drawn.
  client::OnWork onWork() const;
  // Takes the line away for good.
  void end() { line = nullptr; }

 private:
  const std::string kind;
  std::shared_ptr<WorkMeter> meter;
  kj::Own<kj::Refcounted> line;
};

// Prints elements that come as lines; with --json {"type","count","values"}, or {"value","type"} of a single number.
class ValuePrinter final : public client::ByteConsumer {
 public:
  // `progress`, if there is one, ends with the first byte.
  explicit ValuePrinter(Context& context, std::shared_ptr<ComputationProgress> progress = {});

  // To be called before the first byte where output is JSON.
  void begin(const client::ValueInfo& info);
  // To be called when all has come.
  kj::Promise<void> end();

  kj::Promise<Status> write(std::string_view bytes) override;
  kj::Promise<Status> skip(uint64_t zeros) override;

 private:
  Context& context;
  OutputSink sink;
  std::shared_ptr<ComputationProgress> progress;
  client::ValueInfo info;
  std::string begun;  // a line whose end has not come yet
  std::string ready;  // JSON text that is being written
  bool first = true;

  void endProgress() {
    if (progress != nullptr) progress->end();
  }
  void addAsJson(std::string_view line);
};

// Where a result goes, by the flags of the command.
struct ResultOptions {
  std::optional<std::string> output;  // a remote path; "-": standard output
  bool async = false;
  std::optional<std::string> label;

  void declareJob(OptionTable& table);
  bool isStored() const { return output && *output != "-"; }
  // Why they cannot be; nothing if they can.
  std::optional<std::string> problem() const;
};

// What a file of results is stored with: makes missing folders, replaces what is there.
client::UploadSettings settingsOfResult();

// Submits the computation and prints the job's id.
kj::Promise<int> startJob(Context& context, client::Computation computation, const ResultOptions& options,
                          Encoding encoding);

// How a result that was stored is told: silence, a line with -v, the entry with --json.
int reportStored(Context& context, const Result<Entry>& entry);

}  // namespace capstan::cli
