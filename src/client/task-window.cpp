#include <capstan/client/task-window.h>

namespace capstan::client {

TaskWindow::TaskWindow(unsigned maxTasks, uint64_t maxBytes)
    : maxTasks(maxTasks == 0 ? 1 : maxTasks), maxBytes(maxBytes), tasks(*this) {
  auto paf = kj::newPromiseAndFulfiller<Error>();
  abortion = kj::mv(paf.promise);
  aborter = kj::mv(paf.fulfiller);
}

bool TaskWindow::satisfied() const {
  if (wantsIdle) return running == 0;
  return running == 0 || (running < maxTasks && held + wanted <= maxBytes);
}

kj::Promise<void> TaskWindow::wait() {
  if (satisfied()) return kj::READY_NOW;
  auto paf = kj::newPromiseAndFulfiller<void>();
  waiting = kj::mv(paf.fulfiller);
  return kj::mv(paf.promise);
}

kj::Promise<void> TaskWindow::room(uint64_t bytes) {
  wanted = bytes;
  wantsIdle = false;
  return wait();
}

kj::Promise<void> TaskWindow::idle() {
  wantsIdle = true;
  return wait();
}

void TaskWindow::start(uint64_t bytes, kj::Promise<void> task) {
  ++running;
  held += bytes;
  tasks.add(task.then([this, bytes]() { ended(bytes); }));
}

void TaskWindow::ended(uint64_t bytes) {
  --running;
  held -= bytes;
  if (!satisfied()) return;
  KJ_IF_MAYBE (fulfiller, waiting) {
    (*fulfiller)->fulfill();
    waiting = nullptr;
  }
}

void TaskWindow::abort(Error error) { aborter->fulfill(kj::mv(error)); }

}  // namespace capstan::client
