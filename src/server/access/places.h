// How many jobs may be under way at once for all connections of a share together, and for all shares: what is beyond
// waits its turn on its loop, so that the threads' queue has room for the owner and for other shares.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <utility>

#include <kj/async.h>
#include <kj/common.h>

namespace capstan::server {

// Jobs on the threads for files, or in their queue: of one share, with all that were made from it, and of all shares.
// Enough that the threads are never idle for want of work, and a small part of their queue.
inline constexpr size_t FILE_JOBS_OF_SHARE = 64;
inline constexpr size_t FILE_JOBS_OF_SHARES = 256;

// Thread-safe. `take` is called on loops.
class Places final : public std::enable_shared_from_this<Places> {
 public:
  // Whoever has a place here has one of the outer ones (if there are any) too.
  explicit Places(size_t limit, std::shared_ptr<Places> outer = nullptr) : limit(limit), outer(std::move(outer)) {}
  KJ_DISALLOW_COPY(Places);

  // A place, given back when it is destroyed, on any thread.
  class Charge {
   public:
    Charge(Charge&&) = default;
    Charge& operator=(Charge&&) = delete;
    ~Charge() {
      if (places == nullptr) return;
      outside = nullptr;
      places->giveBack();
    }

   private:
    friend class Places;
    explicit Charge(std::shared_ptr<Places> places) : places(std::move(places)) {}
    std::shared_ptr<Places> places;
    std::unique_ptr<Charge> outside;  // of the outer ones
  };

  // Resolves, in the order of the calls, when there is one.
  kj::Promise<Charge> take() {
    auto mine = takeHere();
    if (outer == nullptr) return mine;
    return mine.then([this](Charge charge) {
      return outer->take().then([charge = kj::mv(charge)](Charge outside) mutable {
        charge.outside = std::make_unique<Charge>(kj::mv(outside));
        return kj::mv(charge);
      });
    });
  }
  // Nothing: there is none, or others wait.
  kj::Maybe<Charge> tryTake() {
    {
      std::lock_guard lock(mutex);
      if (used >= limit) return nullptr;
      ++used;
    }
    Charge charge(shared_from_this());
    if (outer != nullptr) {
      KJ_IF_MAYBE (outside, outer->tryTake()) {
        charge.outside = std::make_unique<Charge>(kj::mv(*outside));
      }
      else {
        return nullptr;
      }
    }
    return kj::mv(charge);
  }

 private:
  using Waiter = kj::Own<kj::CrossThreadPromiseFulfiller<Charge>>;

  const size_t limit;
  const std::shared_ptr<Places> outer;

  // protected by mutex
  std::mutex mutex;
  size_t used = 0;
  std::deque<Waiter> waiting;  // only when all are used

  kj::Promise<Charge> takeHere() {
    std::lock_guard lock(mutex);
    if (used < limit) {
      ++used;
      return Charge(shared_from_this());
    }
    auto paf = kj::newPromiseAndCrossThreadFulfiller<Charge>();
    waiting.push_back(kj::mv(paf.fulfiller));
    return kj::mv(paf.promise);
  }

  void giveBack() {
    while (true) {
      Waiter next;
      {
        std::lock_guard lock(mutex);
        if (waiting.empty()) {
          --used;
          return;
        }
        next = kj::mv(waiting.front());
        waiting.pop_front();
      }
      if (!next->isWaiting()) continue;
      next->fulfill(Charge(shared_from_this()));  // should nobody wait after all, it comes back
      return;
    }
  }
};

}  // namespace capstan::server
