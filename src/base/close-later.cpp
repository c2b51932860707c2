#include <capstan/base/close-later.h>

#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace capstan {

namespace {

// One for the process, made when it is first needed; at the end of the program it closes what it has.
class Closer {
 public:
  Closer() : thread([this] { work(); }) {}
  ~Closer() {
    {
      std::lock_guard lock(mutex);
      ending = true;
    }
    changed.notify_all();
    thread.join();
  }

  void add(kj::AutoCloseFd fd) {
    {
      std::lock_guard lock(mutex);
      waiting.push_back(kj::mv(fd));
    }
    changed.notify_all();
  }

  void finish() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return waiting.empty() && !busy; });
  }

 private:
  // protected by mutex
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<kj::AutoCloseFd> waiting;
  bool busy = false;
  bool ending = false;

  std::thread thread;  // last: it uses all of the above

  void work() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return ending || !waiting.empty(); });
      if (waiting.empty()) return;
      auto closing = std::exchange(waiting, {});
      busy = true;
      lock.unlock();
      closing.clear();
      lock.lock();
      busy = false;
      changed.notify_all();
    }
  }
};

Closer& closer() {
  static Closer only;
  return only;
}

}  // namespace

void closeLater(kj::AutoCloseFd fd) { closer().add(kj::mv(fd)); }
void finishClosing() { closer().finish(); }

}  // namespace capstan
