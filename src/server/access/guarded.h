// The objects that a client can call after its login, and the guard before each of them. What is handed out is the
// guard: it looks at the access before each call, and when the grant ends it lets go of the object, and so of all that
// the object holds (descriptors, staged content, places in the counts), however long the client keeps the capability.
// An object cannot be handed out without it: it is no capability by itself.
#pragma once

#include <capnp/capability.h>
#include <kj/memory.h>
#include <kj/refcount.h>

#include <capstan/server/access/access.h>

namespace capstan::server {

template <typename Interface>
class Guard;

// The base of such an object. Belongs to the connection's loop. It is kept by its guard and by the calls on it that are
// in flight, and is destroyed with the last of them: soon after the grant has ended, if not before.
template <typename Interface>
class Guarded : public kj::Refcounted, protected Interface::Server {
 public:
  using Guards = Interface;

  explicit Guarded(kj::Own<Access> access) : access(kj::mv(access)) {}

 protected:
  kj::Own<Access> access;  // constant

  // What becomes of a call of this method when the grant ends.
  virtual Access::InFlight atTheEnd(uint64_t interfaceId, uint16_t methodId) const {
    (void)interfaceId, (void)methodId;
    return Access::InFlight::IS_CUT;
  }

 private:
  friend class Guard<Interface>;
};

// The capability. Belongs to the connection's loop.
template <typename Interface>
class Guard final : public Interface::Server, private Lease::Holder {
 public:
  explicit Guard(kj::Own<Guarded<Interface>> objectParam)
      : theAccess(kj::addRef(*objectParam->access)), object(kj::mv(objectParam)) {
    theAccess->lease->add(*this);
  }
  ~Guard() noexcept(false) { theAccess->lease->remove(*this); }
  KJ_DISALLOW_COPY(Guard);

  Access& access() { return *theAccess; }
  // Nothing once it was let go of.
  template <typename Object>
  kj::Maybe<Object&> as() {
    if (object.get() == nullptr) return nullptr;
    return kj::downcast<Object>(*object);
  }

  // Never streaming: once a method has thrown that is declared `-> stream`, the library lets every later call on the
  // object throw the same, and commit and end could never answer why. The order of calls, its other service, is kept by
  // the objects.
  capnp::Capability::Server::DispatchCallResult dispatchCall(uint64_t interfaceId, uint16_t methodId,
                                                             Access::Context context) override {
    const MethodTerms* method = termsOf(interfaceId, methodId);
    if (method == nullptr) return Interface::Server::dispatchCall(interfaceId, methodId, context);  // unimplemented
    auto inFlight = Access::InFlight::IS_CUT;
    kj::Own<kj::Refcounted> called;
    if (object.get() != nullptr) {
      inFlight = object->atTheEnd(interfaceId, methodId);
      called = kj::addRef(*object);
    }
    // Without an object the lease has ended, and the access refuses.
    auto dispatch = [&]() { return object->dispatchCall(interfaceId, methodId, context).promise; };
    return {theAccess->guard(*method, context, kj::mv(called), dispatch, inFlight), false};
  }

 private:
  kj::Own<Access> theAccess;           // constant
  kj::Own<Guarded<Interface>> object;  // null once it was let go of

  void letGo() override {
    auto last = kj::mv(object);  // what it holds may hold this guard
  }
};

// An object with its guard, to be handed out.
template <typename Object, typename... Params>
kj::Own<Guard<typename Object::Guards>> newGuarded(Params&&... params) {
  return kj::heap<Guard<typename Object::Guards>>(kj::refcounted<Object>(kj::fwd<Params>(params)...));
}

}  // namespace capstan::server
