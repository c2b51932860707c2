// Lets whoever is about to be destroyed wait for those who still use it on other threads.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>

namespace capstan {

// Thread-safe. Must outlive its Holds: whoever owns it calls wait() before it goes.
class Holds {
 public:
  class Hold {
   public:
    explicit Hold(Holds& holds) : holds(&holds) {
      std::lock_guard lock(holds.mutex);
      ++holds.count;
    }
    Hold(const Hold& other) : Hold(*other.holds) {}
    Hold& operator=(const Hold&) = delete;
    ~Hold() {
      // Notified under the lock: once it is free, who waits may go on, and destroy it.
      std::lock_guard lock(holds->mutex);
      if (--holds->count == 0) holds->released.notify_all();
    }

   private:
    Holds* holds;
  };

  Holds() = default;
  Holds(const Holds&) = delete;
  Holds& operator=(const Holds&) = delete;

  // Until there is no Hold.
  void wait() {
    std::unique_lock lock(mutex);
    released.wait(lock, [this] { return count == 0; });
  }

 private:
  std::mutex mutex;
  std::condition_variable released;
  size_t count = 0;  // protected by mutex
};

}  // namespace capstan
