#include <capstan/server/access/newcomers.h>

#include <algorithm>
#include <map>
#include <mutex>

namespace capstan::server {

struct Newcomers::Shared {
  using Queue = std::list<std::weak_ptr<Entry::Place>>;  // the oldest first

  const uint64_t most, mostOfNetwork;
  mutable std::mutex mutex;
  // protected by mutex
  std::map<std::string, Queue> networks;
  uint64_t count = 0;

  Shared(uint64_t most, uint64_t mostOfNetwork) : most(most), mostOfNetwork(mostOfNetwork) {}

  using Network = std::map<std::string, Queue>::iterator;
  Network largest() {
    return std::max_element(networks.begin(), networks.end(),
                            [](auto& a, auto& b) { return a.second.size() < b.second.size(); });
  }
};

struct Newcomers::Entry::Place {
  const std::shared_ptr<Shared> shared;
  const std::string network;
  // protected by the mutex of `shared`
  Shared::Queue::iterator position;
  bool isIn = true;  // else it was crowded out
  kj::Maybe<kj::Own<kj::CrossThreadPromiseFulfiller<void>>> wake;

  Place(std::shared_ptr<Shared> shared, const std::string& network) : shared(std::move(shared)), network(network) {}

  void leave() {
    if (!isIn) return;
    isIn = false;
    --shared->count;
    auto found = shared->networks.find(network);
    found->second.erase(position);
    if (found->second.empty()) shared->networks.erase(found);
  }
};

Newcomers::Newcomers(uint64_t most, uint64_t mostOfNetwork) : shared(std::make_shared<Shared>(most, mostOfNetwork)) {}

Newcomers::~Newcomers() = default;

std::unique_ptr<Newcomers::Entry> Newcomers::enter(const std::string& network) {
  auto place = std::make_shared<Entry::Place>(shared, network);
  std::optional<Limit> crowding;
  std::lock_guard lock(shared->mutex);
  auto crowdOut = [&](Shared::Network from, Limit limit) {
    auto oldest = from->second.front().lock();
    oldest->leave();
    KJ_IF_MAYBE (wake, oldest->wake) (*wake)->fulfill();
    crowding = limit;
  };
  auto own = shared->networks.find(network);
  if (own != shared->networks.end() && own->second.size() >= shared->mostOfNetwork) {
    crowdOut(own, Limit::SERVER_NETWORK_NEWCOMERS);
  } else if (shared->count >= shared->most) {
    crowdOut(shared->largest(), Limit::SERVER_NEWCOMERS);
  }
  auto& queue = shared->networks[network];
  place->position = queue.insert(queue.end(), place);
  ++shared->count;
  return std::unique_ptr<Entry>(new Entry(std::move(place), crowding));
}

uint64_t Newcomers::count() const {
  std::lock_guard lock(shared->mutex);
  return shared->count;
}

uint64_t Newcomers::mostOfOne() const {
  std::lock_guard lock(shared->mutex);
  return shared->networks.empty() ? 0 : shared->largest()->second.size();
}

Newcomers::Entry::Entry(std::shared_ptr<Place> place, std::optional<Limit> crowding)
    : crowding(crowding), place(std::move(place)) {}

Newcomers::Entry::~Entry() {
  std::lock_guard lock(place->shared->mutex);
  place->leave();
  place->wake = nullptr;
}

kj::Promise<void> Newcomers::Entry::whenCrowdedOut() {
  std::lock_guard lock(place->shared->mutex);
  if (!place->isIn) return kj::READY_NOW;
  auto paf = kj::newPromiseAndCrossThreadFulfiller<void>();
  place->wake = kj::mv(paf.fulfiller);
  // Its end without a word is that of the entry.
  return paf.promise.catch_([](kj::Exception&&) -> kj::Promise<void> { return kj::NEVER_DONE; });
}

}  // namespace capstan::server
