// What `sync` tells: operations, cycles and events as lines for people and as JSON objects, and the exit status that a
// cycle comes to. Pure.
#pragma once

#include <string>

#include <capstan/sync/service.h>

namespace capstan::cli {

inline constexpr int SAFETY_STOP = 5;
inline constexpr const char* SAFETY_STOP_CODE = "safety-stop";

// Whether an operation does something that people want to hear of: not what only has to be noted.
bool isVisible(const sync::Operation& operation);

// "send docs/a.txt (1.2 KiB): it is new here". Names are ready for the terminal.
std::string operationLine(const sync::Operation& operation);
// {"event":"planned"|"operation","operation":"send","side":"server","path",...}; `error` null where it succeeded.
std::string operationAsJson(const char* event, const sync::Operation& operation, const Error* error);

// "3 files sent (1.2 MiB), 1 moved in 40 ms; undo with: capstan undo 0f..."; what stopped it is told elsewhere. Only
// what was done at the server can be undone there.
std::string cycleLine(const sync::CycleReport& report, sync::Mode mode);
std::string cycleAsJson(const sync::CycleReport& report);

// {"event":NAME,"text",...}.
std::string eventAsJson(const char* name, const std::string& text, const Error* error);

// Of a run that consists of this cycle: an error's own, 5 when safety stopped it, 3 when some of it failed or was put
// off, 4 when conflicts are open.
int exitStatusOf(const sync::CycleReport& report);

// "12:01:07", in the reader's own time zone.
std::string timeOfDay(int64_t nanoseconds);

}  // namespace capstan::cli
