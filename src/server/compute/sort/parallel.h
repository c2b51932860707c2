// Threads for the length of one call. Sorting makes them when there is enough to do for them, and never keeps them: a
// thread costs some 20 microseconds, an idle pool would be one more thing to shut down.
#pragma once

#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace capstan::server::compute {

// Calls run(0) ... run(threads - 1), each on a thread of its own, the first one on the calling thread. Returns when all
// have, and throws what one of them threw. Where no more threads are to be had, the calling thread does their part.
template <typename Run>
void inParallel(unsigned threads, Run run) {
  std::mutex mutex;
  std::exception_ptr failure;
  auto guarded = [&](unsigned index) {
    try {
      run(index);
    } catch (...) {
      std::lock_guard lock(mutex);
      failure = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  std::vector<unsigned> left;
  // Nothing but the making of threads may fail from here on: those that run have to be joined.
  others.reserve(threads);
  left.reserve(threads);
  left.push_back(0);
  for (unsigned i = 1; i < threads; ++i) {
    try {
      others.emplace_back(guarded, i);
    } catch (const std::exception&) {  // no more threads, or no memory for one
      left.push_back(i);
    }
  }
  for (unsigned index : left) guarded(index);
  for (auto& thread : others) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace capstan::server::compute
