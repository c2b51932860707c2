// Tells systemd how the service is, where it asked for that: sd_notify(3)'s protocol, one datagram to $NOTIFY_SOCKET,
// and how often it wants to hear that the service is alive (sd_watchdog_enabled(3)).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace capstan::server {

// "READY=1", "STOPPING=1", "STATUS=..."; lines may be joined by newlines. Does nothing where nobody asked; failures are
// of no consequence.
void notifySystemd(std::string_view state);

// Nanoseconds between two "WATCHDOG=1", half the time after which systemd takes the service for dead; nothing where it
// does not watch this process.
std::optional<uint64_t> watchdogInterval();

}  // namespace capstan::server
