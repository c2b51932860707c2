#include <capstan/base/blocking-pool.h>

#include <pthread.h>
#include <unistd.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include <capstan/base/log.h>

namespace capstan {

struct BlockingPool::Impl {
  // constant after construction
  const size_t queueLimit;

  // protected by mutex
  std::mutex mutex;
  std::condition_variable wakeUp;
  std::map<uint64_t, std::function<void()>> queue;  // by number: in the order in which they came
  uint64_t lastNumber = 0;
  size_t running = 0;
  bool ending = false;

  std::vector<std::thread> threads;

  explicit Impl(size_t queueLimit) : queueLimit(queueLimit) {}

  void work() {
    std::unique_lock lock(mutex);
    while (true) {
      wakeUp.wait(lock, [this] { return ending || !queue.empty(); });
      if (ending) return;
      auto job = std::move(queue.begin()->second);
      queue.erase(queue.begin());
      ++running;
      lock.unlock();
      job();
      job = nullptr;  // what the job owns is released outside the lock
      lock.lock();
      --running;
    }
  }
};

BlockingPool::BlockingPool(Options options) : impl(std::make_shared<Impl>(options.queueLimit)) {
  for (unsigned i = 0; i < options.threads; ++i) {
    impl->threads.emplace_back([this, options] {
      if (*options.name != '\0') pthread_setname_np(pthread_self(), options.name);
      // On Linux, niceness is each thread's own.
      // Where it is refused, the work can be done all the same.
      if (options.niceness != 0) [[maybe_unused]]
        int ignored = nice(options.niceness);
      log::LinesOfKj linesOfKj;
      impl->work();
    });
  }
}

BlockingPool::~BlockingPool() noexcept(false) {
  std::map<uint64_t, std::function<void()>> dropped;
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

uint64_t BlockingPool::enqueue(std::function<void()> job) {
  uint64_t number;
  {
    std::lock_guard lock(impl->mutex);
    if (impl->ending || impl->queue.size() >= impl->queueLimit) return 0;
    number = ++impl->lastNumber;
    impl->queue.emplace_hint(impl->queue.end(), number, std::move(job));
  }
  impl->wakeUp.notify_one();
  return number;
}

void BlockingPool::withdraw(const std::weak_ptr<Impl>& weak, uint64_t number) {
  auto impl = weak.lock();
  if (impl == nullptr) return;
  decltype(impl->queue)::node_type withdrawn;  // destroyed outside the lock
  std::lock_guard lock(impl->mutex);
  withdrawn = impl->queue.extract(number);
}

}  // namespace capstan
