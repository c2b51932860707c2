// Tells systemd how the service is, where it asked for that: sd_notify(3)'s protocol, one datagram to $NOTIFY_SOCKET.
#pragma once

#include <string_view>

namespace capstan::server {

// "READY=1", "STOPPING=1", "STATUS=..."; lines may be joined by newlines. Does nothing where nobody asked; failures are
// of no consequence.
void notifySystemd(std::string_view state);

}  // namespace capstan::server
