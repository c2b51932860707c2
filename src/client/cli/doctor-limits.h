// What `capstan doctor` looks at of the limits that the system sets: open files, and what noticing changes costs.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <capstan/client/cli/doctor-finding.h>

namespace capstan::cli {

// `most`: what a server can raise its limit to. `whose`: "a server started here".
Finding judgeOpenFiles(uint64_t most, std::string_view whose);
// Of a running server's process, or of what this process would hand down.
Finding lookAtOpenFiles(std::optional<pid_t> server);

// The line "Max open files" of /proc/PID/limits: the hard limit. "unlimited" is UINT64_MAX.
std::optional<uint64_t> hardLimitIn(std::string_view limits);

// Of all programs of one user together.
struct InotifyUse {
  uint64_t instances = 0, maxInstances = 0;
  uint64_t watches = 0, maxWatches = 0;
};
Finding judgeInotify(const InotifyUse& use);

// How changes below `root` would be noticed: fanotify, where this process may use it, or inotify.
Finding lookAtWatching(const std::optional<std::string>& root);

}  // namespace capstan::cli
