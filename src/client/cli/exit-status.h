// The exit statuses that scripts rely on, and which of them a failure becomes. Pure.
#pragma once

#include <vector>

#include <capstan/base/error.h>

namespace capstan::cli {

inline constexpr int DONE = 0;
inline constexpr int FAILED = 1;
inline constexpr int USAGE = 2;
inline constexpr int PARTLY_DONE = 3;
inline constexpr int CONFLICT = 4;
inline constexpr int DENIED = 6;
inline constexpr int UNREACHABLE = 7;
inline constexpr int TIMED_OUT = 8;
inline constexpr int NOT_FOUND = 9;
inline constexpr int EXISTS = 10;
inline constexpr int INTERRUPTED = 130;
inline constexpr int TERMINATED = 143;

// Never DONE.
int exitStatusOf(ErrorCode code);

// Of a command with several operands, from the status of each: DONE if all are, PARTLY_DONE if some are; if none is,
// what they have in common, else FAILED. One operand's own status is the command's.
int exitStatusOfAll(const std::vector<int>& statuses);

}  // namespace capstan::cli
