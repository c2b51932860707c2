// Accepts connections on listening sockets and hands them to the loops. Survives running out of descriptors.
#pragma once

#include <kj/async-unix.h>
#include <kj/timer.h>
#include <kj/vector.h>

#include <capstan/server/listener.h>
#include <capstan/server/loop-thread.h>

namespace capstan::server {

// Belongs to one event loop. Stops accepting, and closes its listeners, when it is destroyed.
class Acceptor final : private kj::TaskSet::ErrorHandler {
 public:
  // All but `listeners` must outlive it.
  Acceptor(ServerState& server, std::vector<Listener> listeners, std::vector<kj::Own<LoopThread>>& loops,
           kj::UnixEventPort& port, kj::Timer& timer);

 private:
  ServerState& server;
  std::vector<kj::Own<LoopThread>>& loops;
  kj::UnixEventPort& port;
  kj::Timer& timer;
  // A descriptor held back: without any, a peer could be neither served nor turned away, and the loop would spin.
  kj::AutoCloseFd reserve;
  kj::TimePoint lastComplaint;
  kj::Vector<kj::Own<Listener>> listeners;
  kj::TaskSet tasks;

  kj::Promise<void> acceptOn(const Listener& listener, kj::UnixEventPort::FdObserver& readable);
  enum class Attempt { ONE, NOBODY_WAITS, NO_ROOM };
  kj::Promise<void> acceptAll(const Listener& listener);
  bool loopsAreBehind(const Listener& listener) const;
  Attempt acceptOne(const Listener& listener);
  Attempt turnAwayOne(const Listener& listener);
  void handOver(kj::AutoCloseFd socket);
  void complain(int reason);
  void taskFailed(kj::Exception&& exception) override;
};

}  // namespace capstan::server
