// What one capability may do, and the look at it that comes before each call: the only place where rights are compared,
// where ended grants are noticed, and where calls in flight are cut. The objects that are called are in guarded.h.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <capnp/capability.h>
#include <kj/async.h>
#include <kj/function.h>
#include <kj/list.h>
#include <kj/refcount.h>
#include <kj/timer.h>

#include <capstan/server/access/connection-scope.h>
#include <capstan/server/access/grant.h>
#include <capstan/server/access/meter.h>
#include <capstan/server/access/rights.h>

namespace capstan::server {

// One grant on one connection, for all logins with it. Belongs to the connection's loop, and is kept alive by every
// capability that came from it.
class Lease final : public kj::Refcounted {
 public:
  Lease(std::shared_ptr<Grant> grant, kj::Own<ConnectionScope> connection, Meters meters);
  // With the connection's meter alone.
  Lease(std::shared_ptr<Grant> grant, kj::Own<ConnectionScope> connection);
  KJ_DISALLOW_COPY(Lease);

  // constant after construction
  const std::shared_ptr<Grant> grant;
  kj::Own<ConnectionScope> connection;
  const Meters meters;  // at which everything that is held under it is counted
  // owned by the loop
  std::shared_ptr<void> registration;  // destroyed with it: how it is forgotten by whoever knows of it

  // Why nothing under it succeeds any more. Once it was cut there is a reason, whatever the clock says.
  std::optional<Error> ended() const;

  // Resolves when the grant has ended.
  kj::Promise<void> whenCut();

  // Something that holds what is worth nothing once the grant has ended.
  class Holder {
   public:
    virtual ~Holder() noexcept(false) = default;

   protected:
    // To be called once at most, on the loop. It may destroy other holders, and this one.
    virtual void letGo() = 0;

   private:
    friend class Lease;
    kj::ListLink<Holder> link;
  };
  // Lets it let go when the lease is cut, or at once if it was. To be removed before it is destroyed. For the owner's
  // nothing is done.
  void add(Holder& holder);
  void remove(Holder& holder);

  // Every call in flight answers that the grant has ended, which it has, and every holder lets go. Called on the loop
  // when it was revoked; when its time is over, the lease does so by itself.
  void cut();

 private:
  struct Cutting {
    kj::Own<kj::PromiseFulfiller<void>> cutter;
    kj::ForkedPromise<void> done;
    kj::List<Holder, &Holder::link> holders;  // links: what is slow to be cut costs no memory, and no promise each
    bool isOver = false;
    kj::Promise<void> expiring;

    explicit Cutting(Lease& lease) : Cutting(lease, kj::newPromiseAndFulfiller<void>()) {}
    Cutting(Lease& lease, kj::PromiseFulfillerPair<void> pair);
  };
  kj::Maybe<Cutting> cutting;  // nobody ends the owner's: it is on most connections, and does without

  kj::Promise<void> whenExpired();
};

// What one capability may do: a lease, or a part of it. Belongs to the connection's loop; immutable.
class Access final : public kj::Refcounted {
 public:
  // All that the lease's grant gives.
  explicit Access(kj::Own<Lease> lease);
  // A part: the tree at `top`, with rights that are within those of the lease.
  Access(kj::Own<Lease> lease, std::string top, Rights rights);

  // For work of the server's own, which nobody logged in for.
  static kj::Own<Access> ofOwner(kj::Own<ConnectionScope> connection);

  // constant after construction
  kj::Own<Lease> lease;
  const std::string top;  // the path of its tree from the root of the served folder
  const Rights rights;

  ConnectionScope& connection() { return *lease->connection; }
  const Grant& grant() const { return *lease->grant; }

  // The same lease for a tree below this one's, with what `wanted` leaves of the rights.
  kj::Own<Access> narrowed(std::string_view path, const Rights& wanted);

  using Context = capnp::CallContext<capnp::AnyPointer, capnp::AnyPointer>;

  // Calls `dispatch` if the method may be called, and not too many calls are in flight; else answers why not, in its
  // results' `outcome`, with capabilities that answer the same. A call that is in flight when the grant ends is
  // dropped, and answers that; GOES_ON is for calls that end grants, which have to answer that they did. `called` is
  // what is called, and is kept until the call is over.
  enum class InFlight { IS_CUT, GOES_ON };
  kj::Promise<void> guard(const MethodTerms& method, Context context, kj::Own<kj::Refcounted> called,
                          kj::FunctionParam<kj::Promise<void>()> dispatch, InFlight inFlight);

 private:
  std::optional<Error> refusal(const MethodTerms& method) const;
};

}  // namespace capstan::server
