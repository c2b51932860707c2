// Listening sockets that systemd has bound for this process: sd_listen_fds(3)'s protocol, which is three variables of
// the environment and descriptors from 3 on.
#pragma once

#include <vector>

#include <capstan/base/error.h>
#include <capstan/server/server.h>

namespace capstan::server {

// What was handed over, none where nobody did, or where it was meant for another process. Takes the variables out of
// the environment, so that no child believes itself to be meant, and lets no child inherit the descriptors. They are
// told apart by their number and, where systemd names them, the name. Error: the variables are not what systemd writes.
// At most once, before other descriptors are opened.
Result<std::vector<InheritedSocket>> takeSocketsFromSystemd();

}  // namespace capstan::server
