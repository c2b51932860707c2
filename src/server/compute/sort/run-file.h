// Sorted runs on disk, and reading them one element at a time for a merge.
//
// A run of keys is an array of int64 that ascends (KeyCode). A run of lines is a sequence of LineHeader (or, where the
// text of the line is its key, just its length as uint32) and the line without newline. Host byte order: no run
// outlives the process that wrote it.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include <capstan/server/compute/sort/line-order.h>
#include <capstan/server/compute/sort/line-run.h>
#include <capstan/server/compute/spool.h>
#include <capstan/server/compute/work.h>

namespace capstan::server::compute {

struct Run {
  std::unique_ptr<SpoolFile> file;
  bool hasLines = false;   // else keys
  size_t longestLine = 0;  // in bytes
  unsigned level = 0;      // through so many merges it has come
};

// The part of a run that is in memory, and the element that is at its front.
class RunCursor {
 public:
  // Reads `bufferBytes` at a time, which is more than the longest element. What it is given must outlive it.
  RunCursor(const Run& run, const LineOrder& order, size_t bufferBytes, Work& work);

  // Moves to the next element, the first one at first. False at the end, and if error() is not empty.
  bool next() { return run.hasLines ? nextLine() : nextKey(); }
  const std::optional<Error>& error() const { return failure; }

  bool ended() const { return atEnd; }
  // Valid until next(). Compared as unsigned numbers.
  uint64_t key() const { return currentKey; }
  int64_t signedKey() const { return int64_t(currentKey ^ (uint64_t(1) << 63)); }
  // The line; of a run of keys the int as text.
  std::string_view line() {
    if (!run.hasLines && current.data() == nullptr) writeInt();
    return current;
  }

 private:
  const Run& run;
  const LineOrder& order;
  const size_t bufferBytes;
  const size_t headerBytes;
  Work& work;

  std::unique_ptr<char[]> buffer;
  size_t begin = 0;  // of what was not given out yet, in the buffer
  size_t end = 0;
  uint64_t offset = 0;  // of what was not read yet, in the file
  uint64_t currentKey = 0;
  std::string_view current;
  char intText[MAX_INT_TEXT + TEXT_SLACK];
  bool atEnd = false;
  std::optional<Error> failure;

  bool nextKey() {
    if (end - begin < sizeof(int64_t) && !fill(sizeof(int64_t))) return false;
    int64_t key;
    memcpy(&key, buffer.get() + begin, sizeof(key));
    begin += sizeof(key);
    currentKey = uint64_t(key) ^ (uint64_t(1) << 63);
    current = {};
    return true;
  }
  bool nextLine();
  // Until at least so many bytes are in the buffer. False at the end or after an error.
  bool fill(size_t wanted);
  void writeInt();
};

}  // namespace capstan::server::compute
