#include <capstan/server/files/measuring-threads.h>

#include <pthread.h>

#include <utility>

#include <capstan/base/log.h>

namespace capstan::server::files {

MeasuringThreads::MeasuringThreads() {
  for (unsigned i = 0; i < THREADS; ++i) {
    threads.emplace_back([this] {
      pthread_setname_np(pthread_self(), "capstan-measure");
      log::LinesOfKj linesOfKj;
      work();
    });
  }
}

void MeasuringThreads::end() {
  stop();
  for (auto& thread : threads) thread.join();
  threads.clear();
}

void MeasuringThreads::add(Task task) {
  if (!stopped) {
    std::lock_guard lock(mutex);
    if (!stopped) {
      tasks.push_back(std::move(task));
      wakeUp.notify_one();
      return;
    }
  }
  task.givenUp();
}

void MeasuringThreads::stop() {
  std::deque<Task> left;
  stopped = true;
  {
    std::lock_guard lock(mutex);
    left.swap(tasks);
  }
  wakeUp.notify_all();
  for (auto& task : left) task.givenUp();
}

void MeasuringThreads::work() {
  while (!stopped) {
    std::unique_lock lock(mutex);
    wakeUp.wait(lock, [this] { return stopped || !tasks.empty(); });
    if (stopped) return;
    Task task = std::move(tasks.front());
    tasks.pop_front();
    lock.unlock();
    if (!task.step()) add(std::move(task));
  }
}

}  // namespace capstan::server::files
