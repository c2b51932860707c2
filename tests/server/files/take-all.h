// For tests that run into a limit without holding thousands of things.
#pragma once

#include <capstan/server/access/connection-scope.h>
#include <capstan/server/access/meter.h>

namespace capstan::server::files {

// As if others on the connection had left room for `left` more only.
inline Meters::Charge takeAllBut(ConnectionScope& scope, Resource resource, uint64_t left) {
  return Meters({scope.meter}).takeAnyway(resource, scope.meter->bound(resource) - scope.meter->used(resource) - left);
}

}  // namespace capstan::server::files
