// What a job does on a thread that may block: its operands become a source, the source a result, and the result is put
// where it survives. Knows neither journal nor event loop.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <capstan/server/compute/computing.h>
#include <capstan/server/compute/jobs/stored-job.h>
#include <capstan/server/compute/work.h>

namespace capstan::server::compute {

// A task whose operands are open. Belongs to one thread at a time.
struct OpenedTask {
  std::vector<Number> numbers;     // ADD
  std::unique_ptr<Source> source;  // all others
  bool isShort = false;            // well under a second
};

// Errors: changed (a served file is of another version than at submit), those of opening files, invalidArgument.
Result<std::unique_ptr<OpenedTask>> openTask(const StoredTask& task, const ComputeContext& context);

struct JobResult {
  ContentInfo info;
  std::optional<std::string> bytes;        // of a small result that is kept
  std::shared_ptr<const Content> content;  // of one that is to be placed
};

// Computes. A result that is kept is small and in `bytes`, or durable in the spool file resultFileOf(id) when this
// returns; after an error there is no such file. Errors: those of sortElements, reduceElements and addNumbers.
Result<JobResult> runTask(const StoredTask& task, OpenedTask& opened, const std::string& id,
                          const ComputeContext& context, Work& work);

// Whether the file at the path holds exactly what was about to be placed there; if so, it is durable when this returns.
// An error says that this cannot be told now: io, denied, overloaded and others; cancelled.
Result<bool> isPlaced(const StoredOutput& output, const Placing& placing, const ComputeContext& context, Work& work);

// A result as it is kept: from the journal's bytes, or from the spool file. Errors: notFound, io.
Result<std::shared_ptr<const Content>> keptResult(const std::string& id, const JobProgress& progress,
                                                  const Spool& spool);

}  // namespace capstan::server::compute
