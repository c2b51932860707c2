// How many bytes of answers may be in the making at once: what is beyond waits its turn.
#pragma once

#include <deque>

#include <kj/async.h>

namespace capstan::server::files {

// Belongs to one loop. Must outlive its Charges and the promises that it has handed out.
class ByteBudget {
 public:
  explicit ByteBudget(size_t limit) : limit(limit) {}
  KJ_DISALLOW_COPY(ByteBudget);

  // Bytes taken, given back when it is destroyed.
  class Charge {
   public:
    Charge(ByteBudget& budget, size_t bytes) : budget(&budget), bytes(bytes) { budget.used += bytes; }
    Charge(Charge&& other) : budget(other.budget), bytes(other.bytes) { other.budget = nullptr; }
    Charge& operator=(Charge&&) = delete;
    ~Charge() {
      if (budget != nullptr) budget->giveBack(bytes);
    }

   private:
    ByteBudget* budget;
    size_t bytes;
  };

  // Resolves, in the order of the calls, when there is room for more; at once if there is. The bytes may go beyond the
  // limit by one charge.
  kj::Promise<Charge> take(size_t bytes) {
    if (used < limit && waiting.empty()) return Charge(*this, bytes);
    auto paf = kj::newPromiseAndFulfiller<Charge>();
    waiting.push_back({bytes, kj::mv(paf.fulfiller)});
    return kj::mv(paf.promise);
  }

 private:
  struct Waiter {
    size_t bytes;
    kj::Own<kj::PromiseFulfiller<Charge>> fulfiller;
  };
  const size_t limit;
  size_t used = 0;
  std::deque<Waiter> waiting;

  void giveBack(size_t bytes) {
    used -= bytes;
    while (used < limit && !waiting.empty()) {
      auto next = kj::mv(waiting.front());
      waiting.pop_front();
      if (next.fulfiller->isWaiting()) next.fulfiller->fulfill(Charge(*this, next.bytes));
    }
  }
};

}  // namespace capstan::server::files
