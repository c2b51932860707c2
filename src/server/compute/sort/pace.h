// When to look whether to stop, in loops over lines: some are empty and some are megabytes long, so that counting lines
// says nothing about the time that they take.
#pragma once

#include <cstddef>

#include <capstan/server/compute/work.h>

namespace capstan::server::compute {

// Belongs to one thread.
class Pace {
 public:
  explicit Pace(const Work& work) : work(work) {}

  // After a line of so many bytes was looked at. Asks only after some megabytes, which take some milliseconds.
  bool cancelledAfter(size_t bytes) {
    passed += bytes + LINE_COST;
    if (passed < CHECKED_BYTES) return false;
    passed = 0;
    return work.cancelled();
  }

 private:
  static constexpr size_t CHECKED_BYTES = 4 << 20;
  static constexpr size_t LINE_COST = 64;  // getting at a line takes as long as looking at some of it

  const Work& work;
  size_t passed = 0;
};

}  // namespace capstan::server::compute
