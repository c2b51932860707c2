// Names for contents that give way: `report.conflict-20261121-101500-host.txt`. Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace capstan::sync {

// `time`: nanoseconds since the epoch, shown as UTC. What is no letter, digit, '-' or '.' in `host` becomes '-'. A name
// that is taken gets "-2" and so on behind the host; long names are shortened at the end of a UTF-8 character.
std::string conflictPath(std::string_view path, int64_t time, std::string_view host,
                         const std::function<bool(std::string_view)>& isTaken);

// Whether a name has that form, and then the path that it is beside.
bool isConflictName(std::string_view path);

}  // namespace capstan::sync
