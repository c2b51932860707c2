// Threads for what takes as long as there are files, and which nobody may wait for on a thread: it is done in slices, a
// slice of each in turn, and ends when the server does.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include <kj/common.h>

namespace capstan::server::files {

// Thread-safe.
class MeasuringThreads {
 public:
  static constexpr unsigned THREADS = 2;

  struct Task {
    std::function<bool()> step;     // blocks for some milliseconds; true when done
    std::function<void()> givenUp;  // called instead of any further step when it is stopped before
  };

  MeasuringThreads();
  ~MeasuringThreads() { end(); }
  KJ_DISALLOW_COPY(MeasuringThreads);

  void add(Task task);
  // Gives up what is not done, and all that comes. Does not block.
  void stop();
  // Waits for the threads too; not called on one of them.
  void end();

 private:
  std::atomic<bool> stopped{false};  // seen by threads that do not let others have the mutex

  // protected by mutex
  std::mutex mutex;
  std::condition_variable wakeUp;
  std::deque<Task> tasks;

  std::vector<std::thread> threads;

  void work();
};

}  // namespace capstan::server::files
