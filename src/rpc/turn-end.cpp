#include <capstan/rpc/turn-end.h>

#include <algorithm>
#include <vector>

namespace capstan::rpc {

namespace {

// All that are due on this thread's loop; the first one holds the callback.
thread_local std::vector<TurnEnd*> dueNow;

thread_local unsigned turn = 0;

}  // namespace

void TurnEnd::schedule() {
  if (due) return;
  due = true;
  dueNow.push_back(this);
  if (dueNow.size() == 1) arm();
}

TurnEnd::~TurnEnd() noexcept(false) {
  if (!due) return;
  bool first = dueNow.front() == this;
  dueNow.erase(std::find(dueNow.begin(), dueNow.end(), this));
  if (first && !dueNow.empty()) arm();
}

void TurnEnd::arm() {
  dueNow.front()->callbacks[turn % 2] = kj::evalLast([]() { runAll(); }).eagerlyEvaluate(nullptr);
}

void TurnEnd::runAll() {
  std::vector<TurnEnd*> now;
  now.swap(dueNow);
  ++turn;
  // What is scheduled from here on is for the next turn, so the flags go first.
  for (TurnEnd* each : now) each->due = false;
  for (TurnEnd* each : now) each->atTurnEnd();
}

}  // namespace capstan::rpc
