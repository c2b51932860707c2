// Blocking work for one connection, in its turn: so much of it is on the threads at once, and the rest waits on the
// connection's loop, not in the queue before others' work.
#pragma once

#include <type_traits>
#include <utility>

#include <kj/async.h>

#include <capstan/base/error.h>
#include <capstan/server/access/connection-scope.h>

namespace capstan::server {

// What work answers whose connection has ended before its turn; nobody hears it.
inline Error connectionGoneError() { return {ErrorCode::CANCELLED, "the connection has ended", {}}; }

// A part of one of the connection's budgets, which stays as long.
struct Turn {
  kj::Own<ConnectionScope> scope;
  Budget::Charge charge;  // destroyed first
};

// Calls `start`, which answers the promise of a Result, when `budget`, of this connection, has room for it; its part is
// given back with that promise. It is not called if the connection has ended until then, or the promise is dropped (as
// that of a call is which is cut). On the connection's loop.
template <typename Start>
auto inTurn(ConnectionScope& scope, Budget& budget, Start start) -> decltype(start()) {
  using Answer = decltype(start());
  KJ_IF_MAYBE (charge, budget.tryTake(1)) {
    return start().attach(Turn{kj::addRef(scope), kj::mv(*charge)});
  }
  return budget.take(1)
      .then([&scope, start = std::move(start)](Budget::Charge charge) mutable -> Answer {
        if (scope.gone) return kj::evalNow([]() -> Answer { return {connectionGoneError()}; });
        return start().attach(Turn{kj::addRef(scope), kj::mv(charge)});
      })
      .attach(kj::addRef(scope));
}

// The same for a job on the threads for files: of those, a share has so many at once on all its connections together.
template <typename Start>
auto inFileTurn(ConnectionScope& scope, Start start) -> decltype(start()) {
  using Answer = decltype(start());
  return inTurn(scope, scope.fileJobs, [&scope, start = std::move(start)]() mutable -> Answer {
    if (scope.filePlaces == nullptr) return start();
    KJ_IF_MAYBE (charge, scope.filePlaces->tryTake()) {
      return start().attach(kj::mv(*charge));
    }
    auto places = scope.filePlaces;
    auto taken = places->take();
    return taken.attach(kj::mv(places))
        .then([&scope, start = std::move(start)](Places::Charge charge) mutable -> Answer {
          if (scope.gone) return kj::evalNow([]() -> Answer { return {connectionGoneError()}; });
          return start().attach(kj::mv(charge));
        });
  });
}

}  // namespace capstan::server
