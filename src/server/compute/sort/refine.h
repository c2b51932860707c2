// Puts lines in order whose 64-bit keys are the same, after all were sorted by those: texts by their next eight bytes
// and so on, numbers by the bytes of their lines. A multikey quicksort's idea (Bentley and Sedgewick 1997) with keys of
// eight bytes; without recursion, whatever the lines are.
#pragma once

#include <mutex>
#include <span>
#include <vector>

#include <capstan/server/compute/sort/line-order.h>
#include <capstan/server/compute/sort/sort-kernel.h>
#include <capstan/server/compute/work.h>

namespace capstan::server::compute {

// Where a line is, as the value that belongs to its key: a place before another in the input is the smaller number.
inline constexpr unsigned LENGTH_BITS = 25;
inline constexpr size_t LONGEST_LINE = 16 << 20;
inline uint64_t packLine(size_t offset, size_t length) { return uint64_t(offset) << LENGTH_BITS | length; }
inline size_t lineOffset(uint64_t value) { return size_t(value >> LENGTH_BITS); }
inline size_t lineLength(uint64_t value) { return size_t(value & ((uint64_t(1) << LENGTH_BITS) - 1)); }

class Refiner {
 public:
  // `scratch` is empty or as large as `pairs`; offsets count from `text`. All must outlive it.
  Refiner(const LineOrder& order, const char* text, std::span<KeyValue> pairs, std::span<KeyValue> scratch,
          unsigned threads, const Work& work)
      : order(order), text(text), pairs(pairs), scratch(scratch), threads(threads), work(work) {}

  // Pairs are sorted; afterwards so are the lines. Keys stay what they were. Lines that count as equal are in the order
  // of the input. False if it was stopped.
  bool run();

 private:
  enum class Part { KEY, LINE };  // what is compared: what the key is made of, then the whole line
  // Pairs with the same key, made of what follows after `depth`; before that they are the same too.
  struct Range {
    size_t begin;
    size_t end;
    Part part;
    size_t depth;
    size_t size() const { return end - begin; }
  };
  struct Saved {
    size_t begin;
    size_t end;
    uint64_t key;
  };

  const LineOrder& order;
  const char* const text;
  const std::span<KeyValue> pairs;
  const std::span<KeyValue> scratch;
  const unsigned threads;
  const Work& work;

  std::string_view line(const KeyValue& pair) const { return {text + lineOffset(pair.value), lineLength(pair.value)}; }
  std::string_view partOf(const KeyValue& pair, Part part) const {
    return part == Part::KEY ? order.keyText(line(pair)) : line(pair);
  }
  std::span<KeyValue> scratchFor(const Range& range) const {
    return scratch.empty() ? scratch : scratch.subspan(range.begin, range.size());
  }

  bool less(const KeyValue& a, const KeyValue& b, Part part, size_t depth) const;
  void findLarge(const Range& sorted, std::vector<Range>& large);
  void refineSlice(size_t begin, size_t end, const Range& sorted, std::vector<Range>& large, std::mutex& mutex);
  void refineAlone(Range range);
  // Adds the parts of a range with equal keys that are still to be sorted: texts that end within the key are put in
  // their place, before those that do not, the shorter the earlier. Whether keys were changed for that.
  bool advance(const Range& range, std::vector<Range>& unsorted);
  void sortByLength(const Range& range, std::vector<Range>& unsorted);
  bool isSmall(const Range& range) const;
  // Of texts that are the same to their ends.
  void settle(size_t begin, size_t end, Part part, std::vector<Range>& unsorted);
  // True if that was possible: few lines, or they are in order.
  bool sortAtOnce(const Range& range);
  size_t commonPrefix(const Range& range) const;
  // Gives the range's pairs new keys, and sorts by them. `depth` becomes where they are from.
  bool sortByNext(Range& range, unsigned threads);
  // Behind the pairs that have the key of the one at `begin`; `end` if it was stopped.
  size_t endOfEqual(size_t begin, size_t end) const;
  template <typename Found>
  void eachEqual(size_t begin, size_t end, const Range& sorted, Found found) const;
};

}  // namespace capstan::server::compute
