#include <capstan/server/access/access.h>

#include <capnp/dynamic.h>

#include <capstan/base/clock.h>
#include <capstan/base/log.h>
#include <capstan/base/path.h>
#include <capstan/base/text.h>
#include <capstan/rpc/outcome.h>

namespace capstan::server {

namespace {

// A timer may be of a clock that is not set when the wall clock is: looked at this often at least.
constexpr int64_t LONGEST_SLEEP = 60ll * 1'000'000'000;

const char* wordFor(schema::Right right) {
  switch (right) {
    case schema::Right::WRITE: return "what you hold was given for reading only";
    case schema::Right::COMPUTE: return "what you hold was given without computing";
    default: return "only the server's owner may do this";
  }
}

Error lacking(const MethodTerms& method) {
  return {ErrorCode::DENIED,
          std::string(wordFor(method.needs)) + " (it was asked for " + method.name.cStr() +
              "); ask whoever gave it to you for more",
          {}};
}

// What Meters::Charge does, at half the price: every call pays it, and no call leaves its loop.
class CallInFlight {
 public:
  explicit CallInFlight(kj::Own<Lease> lease) : lease(kj::mv(lease)) {}
  CallInFlight(CallInFlight&&) = default;
  ~CallInFlight() {
    if (lease.get() == nullptr) return;
    auto& meters = lease->meters.all();
    for (size_t i = 0; i < counted; ++i) meters[i]->remove(Resource::CALLS, 1);
  }

  // The meter that has too many already; null: it is counted at all of them.
  Meter* begin() {
    for (auto& meter : lease->meters.all()) {
      if (!meter->add(Resource::CALLS, 1)) return meter.get();
      ++counted;
    }
    return nullptr;
  }

 private:
  kj::Own<Lease> lease;
  size_t counted = 0;
};

Error endedError() { return {ErrorCode::REVOKED, "the grant has ended", {}}; }

// What a call answers that is not carried out.
kj::Promise<void> answer(const MethodTerms& method, Access::Context context, const Error& error) {
  if (method.isStreaming) return rpc::exceptionFromError(error);
  auto results = context.getResults().initAs<capnp::DynamicStruct>(method.results);
  return rpc::fillFailure(results, error) ? kj::Promise<void>(kj::READY_NOW) : rpc::exceptionFromError(error);
}

}  // namespace

Lease::Lease(std::shared_ptr<Grant> grantParam, kj::Own<ConnectionScope> connectionParam, Meters metersParam)
    : grant(std::move(grantParam)), connection(kj::mv(connectionParam)), meters(std::move(metersParam)) {
  connection->isOwners |= grant->isOwner();
  if (connection->isOwners) connection->filePlaces = nullptr;
  if (!connection->isOwners && connection->filePlaces == nullptr) connection->filePlaces = grant->filePlaces;
  if (!grant->isOwner()) cutting.emplace(*this);
}

Lease::Lease(std::shared_ptr<Grant> grant, kj::Own<ConnectionScope> connectionParam)
    : Lease(std::move(grant), kj::addRef(*connectionParam), Meters({connectionParam->meter})) {}

Lease::Cutting::Cutting(Lease& lease, kj::PromiseFulfillerPair<void> pair)
    : cutter(kj::mv(pair.fulfiller)),
      done(pair.promise.fork()),
      expiring(lease.whenExpired().then([&lease]() { lease.cut(); }).eagerlyEvaluate(nullptr)) {}

std::optional<Error> Lease::ended() const {
  auto error = grant->ended();
  if (error) return error;
  KJ_IF_MAYBE (c, cutting) {
    if (c->isOver) return endedError();
  }
  return std::nullopt;
}

kj::Promise<void> Lease::whenCut() {
  KJ_IF_MAYBE (c, cutting) {
    return c->done.addBranch();
  }
  return kj::NEVER_DONE;
}

void Lease::add(Holder& holder) {
  KJ_IF_MAYBE (c, cutting) {
    if (c->isOver) return holder.letGo();
    c->holders.add(holder);
  }
}

void Lease::remove(Holder& holder) {
  KJ_IF_MAYBE (c, cutting) {
    if (holder.link.isLinked()) c->holders.remove(holder);
  }
}

void Lease::cut() {
  KJ_IF_MAYBE (c, cutting) {
    if (c->isOver) return;
    auto self = kj::addRef(*this);
    c->isOver = true;
    c->cutter->fulfill();  // a call in flight keeps what it calls until it is dropped, after this
    while (!c->holders.empty()) {
      auto& holder = c->holders.front();
      c->holders.remove(holder);
      auto failure = kj::runCatchingExceptions([&]() { holder.letGo(); });
      KJ_IF_MAYBE (exception, failure) {
        log::error("something could not be let go of: ", rpc::errorFromException(*exception).message.c_str());
      }
    }
    // If nobody has it any more: it may be in a promise of its own here.
    if (!self->isShared()) kj::evalLater([self = kj::mv(self)]() {}).detach([](kj::Exception&&) {});
  }
}

kj::Promise<void> Lease::whenExpired() {
  if (grant->expires == 0 || connection->timer == nullptr) return kj::NEVER_DONE;
  int64_t left = grant->expires - wallClock();
  if (left <= 0) return kj::READY_NOW;
  // `this`: the promise is a member.
  return connection->timer->afterDelay(std::min(left, LONGEST_SLEEP) * kj::NANOSECONDS).then([this]() {
    return whenExpired();
  });
}

Access::Access(kj::Own<Lease> leaseParam)
    : lease(kj::mv(leaseParam)), top(lease->grant->terms.path), rights(lease->grant->terms.rights) {}

Access::Access(kj::Own<Lease> lease, std::string top, Rights rights)
    : lease(kj::mv(lease)), top(std::move(top)), rights(rights) {}

kj::Own<Access> Access::ofOwner(kj::Own<ConnectionScope> connection) {
  return kj::refcounted<Access>(kj::refcounted<Lease>(Grant::newOwner(), kj::mv(connection)));
}

kj::Own<Access> Access::narrowed(std::string_view path, const Rights& wanted) {
  Rights left{rights.write && wanted.write, rights.compute && wanted.compute, rights.own && wanted.own};
  return kj::refcounted<Access>(kj::addRef(*lease), joinPath(top, path), left);
}

std::optional<Error> Access::refusal(const MethodTerms& method) const {
  if (auto ended = lease->ended()) return ended;
  if (!rights.permit(method.needs)) return lacking(method);
  return std::nullopt;
}

kj::Promise<void> Access::guard(const MethodTerms& method, Context context, kj::Own<kj::Refcounted> called,
                                kj::FunctionParam<kj::Promise<void>()> dispatch, InFlight inFlight) {
  if (auto error = refusal(method)) {
    context.releaseParams();
    return answer(method, context, *error);
  }
  CallInFlight counted(kj::addRef(*lease));
  if (Meter* full = counted.begin()) {
    context.releaseParams();
    return answer(method, context, lease->meters.refusalOf(*full, Resource::CALLS));
  }
  auto done = dispatch().attach(kj::mv(counted), kj::mv(called));
  if (grant().isOwner() || inFlight == InFlight::GOES_ON) return done;
  auto cut = lease->whenCut().then([]() { return true; });
  // The call's context keeps the capability, and with it this object.
  return done.then([]() { return false; })
      .exclusiveJoin(kj::mv(cut))
      .then([this, &method, context](bool wasCut) -> kj::Promise<void> {
        if (!wasCut) return kj::READY_NOW;
        return answer(method, context, lease->ended().value_or(endedError()));
      });
}

}  // namespace capstan::server
