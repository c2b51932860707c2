// What `put` and `get` have in common: several sources to one target at once, what is told about it, and how it ends.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <kj/async.h>

#include <capstan/client/cli/context.h>
#include <capstan/client/cli/targets.h>
#include <capstan/client/transfer-types.h>

namespace capstan::cli {

// One source, where it goes, and why not where that is an error.
struct Transfer {
  std::string source;
  Result<std::string> target;
};

// The sources with their targets; two that would go to the same place are an error of the second. Errors: those of
// targetFor().
Result<std::vector<Transfer>> planTransfers(const std::vector<Source>& sources, std::string_view target, bool asFolder,
                                            TargetKind kind);

// Files that each of `count` transfers may have in flight, so that together they stay within a connection's limits.
unsigned filesInFlight(size_t count);

using RunTransfer =
    std::function<kj::Promise<Result<client::TransferSummary>>(const Transfer& transfer, client::Progress& progress)>;

// Runs all of them with progress; prints each failure, with -v each file, with --json the sum. `verb` is "stored" or
// "fetched". Answers the exit status.
kj::Promise<int> runTransfers(Context& context, std::vector<Transfer> transfers, const char* verb, RunTransfer run);

// {"files","folders","symlinks","bytes","bytesMoved","failures":[{"path","code","message"}]}
std::string summaryAsJson(const client::TransferSummary& summary);

}  // namespace capstan::cli
