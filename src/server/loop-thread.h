// One event loop with a thread of its own, and the connections that live on it.
#pragma once

#include <atomic>
#include <thread>

#include <kj/async-io.h>
#include <kj/io.h>

#include <capstan/server/listener.h>
#include <capstan/server/server-state.h>

namespace capstan::server {

// Made and destroyed by the acceptor's thread, which has an event loop of its own.
class LoopThread {
 public:
  // `server` must outlive it.
  explicit LoopThread(ServerState& server);
  // Ends its connections and joins the thread.
  ~LoopThread() noexcept(false);
  KJ_DISALLOW_COPY(LoopThread);

  // Hands over an accepted socket. Resolves when the loop has taken it.
  kj::Promise<void> adopt(kj::AutoCloseFd socket, PeerIdentity peer);

  // Lets every connection answer shuttingDown to new work. Resolves when they do.
  kj::Promise<void> beginDrain();

  // Resolves when the loop has taken a turn: it is not stuck.
  kj::Promise<void> takeTurn();

  // Connections on this loop, those on their way to it included.
  uint32_t load() const { return connections.load(std::memory_order_relaxed); }

 private:
  class Loop;

  ServerState& server;
  std::atomic<uint32_t> connections{0};
  kj::Own<const kj::Executor> executor;
  Loop* loop = nullptr;  // the thread's; touched there only
  kj::Own<kj::CrossThreadPromiseFulfiller<void>> stop;
  std::thread thread;

  void run(
      std::function<void(Loop&, kj::Own<const kj::Executor>, kj::Own<kj::CrossThreadPromiseFulfiller<void>>)> ready);
};

}  // namespace capstan::server
