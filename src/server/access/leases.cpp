#include <capstan/server/access/leases.h>

#include <map>
#include <mutex>
#include <set>

namespace capstan::server {

namespace {

// One cut(), shared by the loops that have to do their part. Whoever waits for it hears when the last of them has let
// go of it, also one that ended before it got to it.
struct Cut {
  std::set<const Grant*> grants;
  std::vector<std::shared_ptr<Grant>> hold;
  kj::Own<kj::CrossThreadPromiseFulfiller<void>> done;

  Cut(std::vector<std::shared_ptr<Grant>> ended, kj::Own<kj::CrossThreadPromiseFulfiller<void>> done)
      : hold(std::move(ended)), done(kj::mv(done)) {
    for (auto& grant : hold) grants.insert(grant.get());
  }
  ~Cut() { done->fulfill(); }
  KJ_DISALLOW_COPY(Cut);
};

}  // namespace

struct Leases::Impl {
  mutable std::mutex mutex;
  // protected by mutex
  std::set<LoopLeases::Impl*> loops;
  std::map<std::string, uint32_t, std::less<>> counts;  // by grant
};

struct LoopLeases::Impl {
  const std::shared_ptr<Leases::Impl> all;
  // owned by the loop
  std::set<Lease*> leases;
  kj::Promise<void> working = nullptr;

  explicit Impl(std::shared_ptr<Leases::Impl> all) : all(std::move(all)) {}

  // On any thread.
  void post(std::shared_ptr<Cut> cut) {
    std::lock_guard lock(mutex);
    waiting.push_back(std::move(cut));
    KJ_IF_MAYBE (fulfiller, wake) (*fulfiller)->fulfill();
    wake = nullptr;
  }

  // On the loop, as long as this object is.
  kj::Promise<void> work() {
    return next().then([this](std::vector<std::shared_ptr<Cut>> cuts) {
      for (auto& cut : cuts) cutLeases(*cut);
      // Behind all that the cutting has set going: the calls are answered when the cuts are let go.
      return kj::evalLast([this, cuts = std::move(cuts)]() mutable {
        cuts.clear();
        return work();
      });
    });
  }

 private:
  // What is let go of may hold the last capabilities of other leases.
  void cutLeases(const Cut& cut) {
    std::vector<kj::Own<Lease>> ended;
    for (Lease* lease : leases) {
      if (cut.grants.contains(lease->grant.get())) ended.push_back(kj::addRef(*lease));
    }
    for (auto& lease : ended) lease->cut();
  }

  std::mutex mutex;
  // protected by mutex
  std::vector<std::shared_ptr<Cut>> waiting;
  kj::Maybe<kj::Own<kj::CrossThreadPromiseFulfiller<void>>> wake;

  kj::Promise<std::vector<std::shared_ptr<Cut>>> next() {
    std::lock_guard lock(mutex);
    if (!waiting.empty()) return std::exchange(waiting, {});
    auto paf = kj::newPromiseAndCrossThreadFulfiller<void>();
    wake = kj::mv(paf.fulfiller);
    return paf.promise.then([this]() { return next(); });
  }
};

LoopLeases::LoopLeases(Leases& all) : impl(std::make_shared<Impl>(all.impl)) {
  impl->working = impl->work().eagerlyEvaluate(nullptr);
  std::lock_guard lock(impl->all->mutex);
  impl->all->loops.insert(impl.get());
}

LoopLeases::~LoopLeases() noexcept(false) {
  {
    std::lock_guard lock(impl->all->mutex);
    impl->all->loops.erase(impl.get());
  }
  impl->working = nullptr;
}

void LoopLeases::add(Lease& lease) {
  impl->leases.insert(&lease);
  {
    std::lock_guard lock(impl->all->mutex);
    ++impl->all->counts[lease.grant->id];
  }
  lease.registration = std::shared_ptr<void>(nullptr, [impl = impl, &lease, id = lease.grant->id](void*) {
    impl->leases.erase(&lease);
    std::lock_guard lock(impl->all->mutex);
    auto found = impl->all->counts.find(id);
    if (--found->second == 0) impl->all->counts.erase(found);
  });
}

Leases::Leases() : impl(std::make_shared<Impl>()) {}

Leases::~Leases() noexcept(false) {}

kj::Promise<void> Leases::cut(std::vector<std::shared_ptr<Grant>> grants) {
  auto paf = kj::newPromiseAndCrossThreadFulfiller<void>();
  auto cut = std::make_shared<Cut>(std::move(grants), kj::mv(paf.fulfiller));
  std::lock_guard lock(impl->mutex);
  for (auto* loop : impl->loops) loop->post(cut);
  return kj::mv(paf.promise);
}

uint32_t Leases::count(const std::string& grant) const {
  std::lock_guard lock(impl->mutex);
  auto found = impl->counts.find(grant);
  return found == impl->counts.end() ? 0 : found->second;
}

}  // namespace capstan::server
