// As many lines as fit in memory, sorted: either all there are, or one run of a sort that goes to disk.
#pragma once

#include <mutex>
#include <optional>
#include <span>
#include <string>

#include <capstan/server/compute/sort/in-turns.h>
#include <capstan/server/compute/sort/line-order.h>
#include <capstan/server/compute/sort/line-reader.h>
#include <capstan/server/compute/sort/refine.h>
#include <capstan/server/compute/sort/region.h>

namespace capstan::server::compute {

// How a line is written into a run, unless its text is the key: what the merge compares first, and its length.
struct LineHeader {
  uint64_t key;
  uint32_t length;
} __attribute__((packed));

class LineRun {
 public:
  // `sourceName` is for sentences. Slices of output are of about `sliceBytes`, or one line. All must outlive it.
  LineRun(const Region& region, const LineOrder& order, unsigned threads, size_t sliceBytes, std::string sourceName,
          Work& work)
      : region(region), order(order), threads(threads), sliceBytes(sliceBytes), sourceName(sourceName), work(work) {}

  // Empties it, and takes lines as long as there are and they fit. Errors: those of the reader, invalidArgument.
  Status fill(LineReader& reader);
  bool empty() const { return count == 0; }
  size_t longestLine() const { return longest; }

  // False if it was stopped.
  bool sort();
  // Writes the sorted lines, as they are or with what a merge needs to know.
  Status write(const Append& append, bool asRun);
  // Whether runs have a LineHeader before each line, or its length alone.
  static bool hasHeaders(const LineOrder& order) { return order.type != ElementType::TEXT || order.field != 0; }

 private:
  struct Slice {
    size_t begin;
    size_t end;
    size_t bytes;
  };
  struct Filling;

  const Region& region;
  const LineOrder& order;
  const unsigned threads;
  const size_t sliceBytes;
  const std::string sourceName;
  Work& work;

  // Text grows from the front of the region, pairs from its end: the last line's come first.
  size_t textBytes = 0;
  size_t count = 0;
  size_t longest = 0;

  KeyValue* pairs() const { return reinterpret_cast<KeyValue*>(region.end()) - count; }
  std::string_view line(const KeyValue& pair) const {
    return {region.begin() + lineOffset(pair.value), lineLength(pair.value)};
  }
  void takeChunks(LineReader& reader, Filling& filling);
  std::optional<Error> parse(const Lines& lines, size_t first, size_t& longestHere) const;
  void dropRepeated();
  bool takeSlice(size_t& at, Slice& slice, size_t headerBytes) const;
  char* copyLines(const Slice& slice, char* to) const;
  char* copyRecords(const Slice& slice, char* to) const;
};

}  // namespace capstan::server::compute
