// What `capstan doctor` makes of the share that a login stands on: what it is for, and how long that will last. Pure.
#pragma once

#include <cstdint>

#include <capstan/base/error.h>
#include <capstan/client/cli/doctor-finding.h>
#include <capstan/client/share.h>

namespace capstan::cli {

// Of a share that has let this login in, which counts among its logins. `now`: nanoseconds since the epoch.
Finding judgeShare(const client::Share& share, int64_t now);

// Of one that lets nobody in any more: `error` is what the server said.
Finding judgeEndedShare(const Error& error);

}  // namespace capstan::cli
