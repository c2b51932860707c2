// What `capstan doctor` looks at of the clock: certificates, expiry of shares and the names of conflicts rest on it.
#pragma once

#include <cstdint>
#include <optional>

#include <capstan/client/cli/doctor-finding.h>

namespace capstan::cli {

// Seconds since the epoch; nothing where it is not known.
struct ClockFacts {
  int64_t now = 0;
  std::optional<int64_t> programChanged;  // when this program was built or installed: it is later than that
  std::optional<bool> isSynchronised;     // with others' clocks (NTP), as the kernel has it
  std::optional<int64_t> serverChanged;   // when something changed on the server, by its clock: it is later than that
};
Finding judgeClock(const ClockFacts& facts);

// `serverChanged` as above.
Finding lookAtClock(std::optional<int64_t> serverChanged);

}  // namespace capstan::cli
