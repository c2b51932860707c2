// As many plain numbers as fit in memory, without any text: binary elements, or lines of ints that are written the way
// formatInt() writes them, so that they can be written again.
#pragma once

#include <limits>
#include <mutex>
#include <span>

#include <capstan/server/compute/sort/in-turns.h>
#include <capstan/server/compute/sort/line-reader.h>
#include <capstan/server/compute/sort/region.h>
#include <capstan/server/compute/sort/sort-kernel.h>

namespace capstan::server::compute {

// Between 8-byte elements and keys that ascend in the order that is wanted.
class KeyCode {
 public:
  KeyCode(ElementType type, bool descending)
      : isFloat(type == ElementType::FLOAT), flip(descending ? ~int64_t(0) : 0) {}

  int64_t keyOfInt(int64_t value) const { return value ^ flip; }
  // In place, from and to the bits of elements.
  void encode(std::span<int64_t> elements) const;
  void decode(std::span<int64_t> keys) const;

 private:
  static constexpr int64_t LAST = std::numeric_limits<int64_t>::max();  // a NaN

  const bool isFloat;
  const int64_t flip;
};

// How keys are written.
enum class KeyForm { KEYS, ELEMENTS, LINES };

class KeyRun {
 public:
  // All must outlive it.
  KeyRun(const Region& region, const KeyCode& code, bool unique, unsigned threads, size_t sliceBytes, Work& work)
      : region(region), code(code), unique(unique), threads(threads), sliceBytes(sliceBytes), work(work) {}

  // How many elements it takes.
  size_t capacity() const;
  // Empties it, and takes binary elements as long as there are and they fit. Errors: those of the source,
  // invalidArgument (the last element is cut).
  Status fillBinary(Source& source);
  // The same with lines. Ends early at one that is no int, or not written as formatInt() does: it, and all that follow,
  // are still to be had from the reader; sawOthers() is true then.
  Status fillLines(LineReader& reader);
  bool sawOthers() const { return others; }
  // The source has no more.
  bool atEnd() const { return ended; }
  bool empty() const { return count == 0; }

  // False if it was stopped.
  bool sort();
  Status write(const Append& append, KeyForm form);

 private:
  struct Filling;

  const Region& region;
  const KeyCode& code;
  const bool unique;
  const unsigned threads;
  const size_t sliceBytes;
  Work& work;

  size_t count = 0;
  bool others = false;
  bool ended = false;

  int64_t* keys() const { return reinterpret_cast<int64_t*>(region.begin()); }
  void takeChunks(LineReader& reader, Filling& filling);
  // With the lock, which it gives up in between. False if there are no more for this thread.
  bool takeChunk(LineReader& reader, Filling& filling, Buffer& buffer, std::unique_lock<std::mutex>& lock);
};

}  // namespace capstan::server::compute
