// Output that several threads make and that is written in order: each thread takes the next slice of what is to be
// written, turns it into bytes, and waits for its turn to append them.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>

#include <capstan/base/error.h>
#include <capstan/server/compute/sort/parallel.h>
#include <capstan/server/compute/work.h>

namespace capstan::server::compute {

using Append = std::function<Status(std::string_view)>;

// Memory that keeps its size and is not cleared.
class Buffer {
 public:
  // What was in it is lost if it has to grow.
  char* reserve(size_t size) {
    if (size > capacity) {
      bytes.reset(new char[size]);
      capacity = size;
    }
    return bytes.get();
  }

 private:
  std::unique_ptr<char[]> bytes;
  size_t capacity = 0;
};

// bool take(Slice&), called by one thread at a time, gives the next slice or says that there is none;
// std::string_view make(const Slice&, Buffer&) runs at the same time as others. Counts what is written as work done.
// Errors: those of `append`, cancelled.
template <typename Slice, typename Take, typename Make>
Status writeInTurns(unsigned threads, Work& work, const Append& append, Take take, Make make) {
  std::mutex mutex;
  std::condition_variable turn;
  uint64_t taken = 0, written = 0;
  bool stopped = false;
  Status status = okStatus();
  // With the mutex.
  auto stop = [&](Error error) {
    if (!stopped) status = std::move(error);
    stopped = true;
    turn.notify_all();
  };
  auto run = [&](std::unique_lock<std::mutex>& lock) {
    Buffer buffer;
    Slice slice;
    while (!stopped && take(slice)) {
      uint64_t mine = taken++;
      lock.unlock();
      std::string_view bytes = make(slice, buffer);
      lock.lock();
      turn.wait(lock, [&] { return stopped || written == mine; });
      if (stopped) return;
      lock.unlock();
      Status appended = work.cancelled() ? Status(cancelledError()) : append(bytes);
      lock.lock();
      if (!appended.ok()) return stop(std::move(appended.error()));
      work.advance(bytes.size());
      ++written;
      turn.notify_all();
    }
  };
  inParallel(threads, [&](unsigned) {
    std::unique_lock lock(mutex);
    try {
      run(lock);
    } catch (...) {
      if (!lock.owns_lock()) lock.lock();
      stop(cancelledError());  // the exception is what the caller sees
      throw;
    }
  });
  return status;
}

}  // namespace capstan::server::compute
