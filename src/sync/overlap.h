// A folder that would be kept in step with itself: where the server runs on this machine, and what it serves and the
// local folder contain each other, each run would find what the one before has made.
#pragma once

#include <string>

#include <kj/async.h>

#include <capstan/client/client.h>

namespace capstan::sync {

// invalidPath if the local folder and the one at the server are the same, or one is in the other. Nothing can be
// said, and ok is answered, of a server on another machine. One round trip. `local` is absolute. Errors: unreachable,
// ...
kj::Promise<Status> checkOverlap(client::Client& client, std::string local, std::string remote);

// The same when it is known what the server serves: pure.
Status checkOverlap(std::string_view local, std::string_view servedRoot, std::string_view remote);

}  // namespace capstan::sync
