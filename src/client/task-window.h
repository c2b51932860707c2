// Many transfers at once, but not too many: a bounded set of tasks that one producer feeds.
#pragma once

#include <kj/async.h>

#include <capstan/base/error.h>

namespace capstan::client {

// Belongs to one event loop and one producer. Destroying it cancels the tasks.
class TaskWindow final : private kj::TaskSet::ErrorHandler {
 public:
  // `maxBytes` bounds the sum of what the tasks were said to hold; one task alone may hold more.
  TaskWindow(unsigned maxTasks, uint64_t maxBytes);
  KJ_DISALLOW_COPY(TaskWindow);

  // Resolves when there is room for one more task of this size. Not to be called again before that.
  kj::Promise<void> room(uint64_t bytes);
  void start(uint64_t bytes, kj::Promise<void> task);
  // Resolves when no task is left. Not to be called while room() has not resolved.
  kj::Promise<void> idle();

  // Ends it all with this error; the first one counts.
  void abort(Error error);
  // Resolves with the error of abort(), or throws what a task threw. To be called once.
  kj::Promise<Error> aborted() { return kj::mv(abortion); }

 private:
  unsigned maxTasks;
  uint64_t maxBytes;
  unsigned running = 0;
  uint64_t held = 0;
  uint64_t wanted = 0;  // what the waiting producer needs; with `wantsIdle`: that all is done
  bool wantsIdle = false;
  kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>> waiting;
  kj::Promise<Error> abortion = nullptr;
  kj::Own<kj::PromiseFulfiller<Error>> aborter;
  kj::TaskSet tasks;

  bool satisfied() const;
  kj::Promise<void> wait();
  void ended(uint64_t bytes);
  void taskFailed(kj::Exception&& exception) override { aborter->reject(kj::mv(exception)); }
};

}  // namespace capstan::client
