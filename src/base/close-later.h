// Closing of descriptors where it may take long: the last one of a large file that has no name any more frees its
// blocks, which takes tens of milliseconds for each GB.
#pragma once

#include <kj/io.h>

namespace capstan {

// From this size on a file is worth closing elsewhere.
inline constexpr uint64_t SLOW_TO_CLOSE_BYTES = 16 << 20;

// Closes it soon, on a thread that does nothing else. Thread-safe; does not wait.
void closeLater(kj::AutoCloseFd fd);

// Blocks until everything that was to be closed is. For tests.
void finishClosing();

}  // namespace capstan
