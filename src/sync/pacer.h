// Limits how many bytes pass in a second: whoever wants to send says how much and waits. Belongs to one event loop.
#pragma once

#include <cstdint>

#include <kj/timer.h>

namespace capstan::sync {

class Pacer {
 public:
  // `timer` must outlive it.
  Pacer(kj::Timer& timer, uint64_t bytesPerSecond);

  // Resolves when so many bytes may be sent, in the order of the calls. What is larger than a second's worth is let
  // through in one piece, and the next one waits for as long as that takes. Unused time is kept for a tenth of a
  // second.
  kj::Promise<void> take(uint64_t bytes);

 private:
  kj::Timer& timer;
  const uint64_t bytesPerSecond;
  kj::TimePoint free;  // when all that was let through has passed
};

}  // namespace capstan::sync
