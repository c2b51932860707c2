// The time that people and files know.
#pragma once

#include <cstdint>
#include <ctime>

namespace capstan {

// Nanoseconds since the epoch. Steps when somebody sets the clock: not for measuring how long something takes.
inline int64_t wallClock() {
  timespec time{};
  clock_gettime(CLOCK_REALTIME, &time);
  return int64_t(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

}  // namespace capstan
