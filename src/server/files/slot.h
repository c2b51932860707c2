// Whose a capability is, and the place that it takes in the counts. Internal to src/server/files.
#pragma once

#include <string_view>

#include <capstan/server/access/access.h>

namespace capstan::server::files {

// Taken before anything is done, so that calls in flight count too; given back when it is destroyed. Belongs to the
// connection's loop.
class Slot {
 public:
  // The error (`limit`) says that something cannot be done ("cannot open") with `path`, and why.
  static Result<Slot> take(kj::Own<Access> access, Resource resource, std::string_view doing, std::string_view path) {
    auto charge = access->lease->meters.take(resource);
    if (charge.ok()) return Slot(kj::mv(access), std::move(*charge));
    return errorAt(ErrorCode::LIMIT, path, std::string(doing) + " ", ": " + charge.error().message);
  }
  static Result<Slot> take(kj::Own<Access> access, Resource resource) {
    auto charge = access->lease->meters.take(resource);
    if (!charge.ok()) return charge.error();
    return Slot(kj::mv(access), std::move(*charge));
  }

  Access& access() { return *owner; }
  ConnectionScope& connection() { return owner->connection(); }

  // For more that belongs to the same capability.
  Meters::Charge none(Resource resource) const { return owner->lease->meters.takeAnyway(resource, 0); }

 private:
  kj::Own<Access> owner;
  Meters::Charge place;

  Slot(kj::Own<Access> owner, Meters::Charge place) : owner(kj::mv(owner)), place(std::move(place)) {}
};

}  // namespace capstan::server::files
