// A line with a chosen delay in each direction between a Unix socket and another, so that round trips can be counted by
// the clock. For the demo; not for anything that matters.
#pragma once

#include <string>

#include <kj/async-io.h>

namespace capstan::cli {

// Belongs to one event loop. Serves until it is destroyed.
class DelayLine final : private kj::TaskSet::ErrorHandler {
 public:
  // Accepts at `from`, goes on to `to`; both are paths of Unix sockets.
  DelayLine(kj::AsyncIoContext& io, std::string from, std::string to, kj::Duration eachWay);
  ~DelayLine() noexcept(false);

  // Resolves when connections are accepted.
  kj::Promise<void> open();

 private:
  struct Direction;
  kj::AsyncIoContext& io;
  const std::string from, to;
  const kj::Duration eachWay;
  kj::Own<kj::ConnectionReceiver> receiver;
  kj::TaskSet tasks;

  kj::Promise<void> acceptLoop();
  kj::Promise<void> connect(kj::Own<kj::AsyncIoStream> inner);
  kj::Promise<void> carry(kj::Own<Direction> direction);
  void taskFailed(kj::Exception&& exception) override;
};

}  // namespace capstan::cli
