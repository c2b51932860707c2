// Work that is due when the event loop of this thread has nothing else to do, just before it would wait for the
// outside: writes and reads of all connections of the loop, together.
//
// kj::evalLast() alone does not do: its callbacks run in LIFO order, and not before everything that the ones before
// them started is done, so that one busy connection could keep the answers of the others from being written. Here one
// callback serves all.
#pragma once

#include <kj/async.h>

namespace capstan::rpc {

// Something to be run once per turn. Belongs to one event loop, and has to be destroyed before it.
class TurnEnd {
 public:
  TurnEnd() = default;
  KJ_DISALLOW_COPY(TurnEnd);

  // Asks for atTurnEnd() to be called. Does nothing if that is due already.
  void schedule();

 protected:
  ~TurnEnd() noexcept(false);

  // Called by the loop. May call schedule(), for the end of the next turn. Must not destroy any TurnEnd, nor throw.
  virtual void atTurnEnd() = 0;

 private:
  bool due = false;
  // Held by the one among those due that was first. Two, because the one that is running must not be replaced.
  kj::Promise<void> callbacks[2] = {nullptr, nullptr};

  static void arm();
  static void runAll();
};

}  // namespace capstan::rpc
