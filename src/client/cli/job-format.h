// How jobs look: as JSON, as a line of `job list`, as the block of `job status`. Pure.
#pragma once

#include <string>
#include <string_view>

#include <capstan/client/cli/json.h>
#include <capstan/client/compute.h>

namespace capstan::cli {

// {"id","state","kind","label","submitted","started","ended","expires","progress":{"done","total"},
//  "error":{"code","message"},"output","result":{"type","count","bytes"},"starts"}; null where there is nothing.
void writeJob(JsonWriter& json, const client::JobStatus& job);
std::string jobAsJson(const client::JobStatus& job);

// "running 45 %", "done"; nothing of the progress where it is not known.
std::string stateOf(const client::JobStatus& job);

// "ID  running 45 %  sort   2026-11-21 09:16:55 +0000  label", in columns; the label escaped for a terminal.
std::string jobLine(const client::JobStatus& job);

// What `job status` prints: the state, and a line for each thing that is known.
std::string jobBlock(const client::JobStatus& job);

}  // namespace capstan::cli
