#include <capstan/base/blocking-pool.h>

#include <pthread.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

namespace capstan {

struct BlockingPool::Impl {
  // constant after construction
  const size_t queueLimit;

  // protected by mutex
  std::mutex mutex;
  std::condition_variable wakeUp;
  std::deque<std::function<void()>> queue;
  size_t running = 0;
  bool ending = false;

  std::vector<std::thread> threads;

  explicit Impl(size_t queueLimit) : queueLimit(queueLimit) {}

  void work() {
    std::unique_lock lock(mutex);
    while (true) {
      wakeUp.wait(lock, [this] { return ending || !queue.empty(); });
      if (ending) return;
      auto job = std::move(queue.front());
      queue.pop_front();
      ++running;
      lock.unlock();
      job();
      job = nullptr;  // what the job owns is released outside the lock
      lock.lock();
      --running;
    }
  }
};

BlockingPool::BlockingPool(Options options) : impl(std::make_unique<Impl>(options.queueLimit)) {
  for (unsigned i = 0; i < options.threads; ++i) {
    impl->threads.emplace_back([this, options] {
      if (*options.name != '\0') pthread_setname_np(pthread_self(), options.name);
      // On Linux, niceness is each thread's own.
      if (options.niceness != 0 && nice(options.niceness) < 0) {
        // Whatever the reason, the work can be done all the same.
      }
      impl->work();
    });
  }
}

BlockingPool::~BlockingPool() noexcept(false) {
  std::deque<std::function<void()>> dropped;
  {
    std::lock_guard lock(impl->mutex);
    impl->ending = true;
    dropped.swap(impl->queue);
  }
  impl->wakeUp.notify_all();
  for (auto& thread : impl->threads) thread.join();
}

size_t BlockingPool::pending() const {
  std::lock_guard lock(impl->mutex);
  return impl->queue.size() + impl->running;
}

bool BlockingPool::enqueue(std::function<void()> job) {
  {
    std::lock_guard lock(impl->mutex);
    if (impl->ending || impl->queue.size() >= impl->queueLimit) return false;
    impl->queue.push_back(std::move(job));
  }
  impl->wakeUp.notify_one();
  return true;
}

}  // namespace capstan
