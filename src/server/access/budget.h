// How much of something may be under way at once (bytes of answers, computations): what is beyond waits its turn.
#pragma once

#include <deque>

#include <kj/async.h>

namespace capstan::server {

// Belongs to one loop. Must outlive its Charges and the promises that it has handed out.
class Budget {
 public:
  explicit Budget(size_t limit) : limit(limit) {}
  KJ_DISALLOW_COPY(Budget);

  // A part of it, given back when it is destroyed.
  class Charge {
   public:
    Charge(Budget& budget, size_t amount) : budget(&budget), amount(amount) { budget.used += amount; }
    Charge(Charge&& other) : budget(other.budget), amount(other.amount) { other.budget = nullptr; }
    Charge& operator=(Charge&&) = delete;
    ~Charge() {
      if (budget != nullptr) budget->giveBack(amount);
    }

   private:
    Budget* budget;
    size_t amount;
  };

  // Nothing: there is no room, or others wait.
  kj::Maybe<Charge> tryTake(size_t amount) {
    if (used >= limit || !waiting.empty()) return nullptr;
    return Charge(*this, amount);
  }

  // Resolves, in the order of the calls, when there is room for more; at once if there is. What is taken may go beyond
  // the limit by one charge.
  kj::Promise<Charge> take(size_t amount) {
    KJ_IF_MAYBE (charge, tryTake(amount)) return kj::mv(*charge);
    auto paf = kj::newPromiseAndFulfiller<Charge>();
    waiting.push_back({amount, kj::mv(paf.fulfiller)});
    return kj::mv(paf.promise);
  }

 private:
  struct Waiter {
    size_t amount;
    kj::Own<kj::PromiseFulfiller<Charge>> fulfiller;
  };
  const size_t limit;
  size_t used = 0;
  std::deque<Waiter> waiting;

  void giveBack(size_t amount) {
    used -= amount;
    while (used < limit && !waiting.empty()) {
      auto next = kj::mv(waiting.front());
      waiting.pop_front();
      if (next.fulfiller->isWaiting()) next.fulfiller->fulfill(Charge(*this, next.amount));
    }
  }
};

}  // namespace capstan::server
