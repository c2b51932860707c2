// Threads for work that blocks or computes (disk, hashing, sorting), with a bounded queue, so that event loops never
// wait. KJ has no such pool.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include <kj/async.h>
#include <kj/common.h>
#include <kj/debug.h>

#include <capstan/base/error.h>

namespace capstan {

// Thread-safe: run() may be called from any event loop. Destroying it waits for the job in each thread to end, and
// drops what is queued (whose promises are then rejected). It must outlive every promise it has handed out.
class BlockingPool {
 public:
  struct Options {
    unsigned threads = 4;
    size_t queueLimit = 4096;  // jobs waiting; one more is refused
    int niceness = 0;          // what the threads, and those that they make, add to the process's own
    const char* name = "";     // of the threads, for ps and debuggers; at most 15 characters
  };
  explicit BlockingPool(Options options);
  ~BlockingPool() noexcept(false);
  KJ_DISALLOW_COPY(BlockingPool);

  // Runs `job` on a thread of the pool and answers what it returned, on the calling event loop. A full queue answers
  // Error OVERLOADED without having run the job. The job must own all that it touches: dropping the promise does not
  // stop a job that has begun; one that has not is destroyed at once, with all that it owns. A throwing job rejects the
  // promise. The job returns a Result<U>, and the promise is for that.
  template <typename Func>
  auto run(Func&& job) -> kj::Promise<decltype(job())>;

  // Jobs waiting and running now. For status; may be out of date when it returns.
  size_t pending() const;

 private:
  struct Impl;
  const std::shared_ptr<Impl> impl;

  // Answers the job's number; 0 if the queue is full.
  uint64_t enqueue(std::function<void()> job);
  // Destroys the job if no thread has taken it yet.
  static void withdraw(const std::weak_ptr<Impl>& impl, uint64_t number);
};

template <typename Func>
auto BlockingPool::run(Func&& job) -> kj::Promise<decltype(job())> {
  using R = decltype(job());
  auto paf = kj::newPromiseAndCrossThreadFulfiller<R>();
  // std::function wants something copyable: the job and the fulfiller share one heap object.
  struct Pending {
    std::decay_t<Func> job;
    kj::Own<kj::CrossThreadPromiseFulfiller<R>> fulfiller;
  };
  auto pending = std::make_shared<Pending>(Pending{std::forward<Func>(job), kj::mv(paf.fulfiller)});
  uint64_t number = enqueue([pending]() {
    if (!pending->fulfiller->isWaiting()) return;
    kj::Maybe<R> result;
    KJ_IF_MAYBE (exception, kj::runCatchingExceptions([&]() { result = pending->job(); })) {
      pending->fulfiller->reject(kj::mv(*exception));
      return;
    }
    pending->fulfiller->fulfill(kj::mv(KJ_ASSERT_NONNULL(result)));
  });
  if (number == 0) return R(Error{ErrorCode::OVERLOADED, "the server's queue is full; try again later", {}});
  return paf.promise.attach(kj::defer([weak = std::weak_ptr<Impl>(impl), number]() { withdraw(weak, number); }));
}

}  // namespace capstan
