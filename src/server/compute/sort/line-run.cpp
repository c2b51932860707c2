#include <capstan/server/compute/sort/line-run.h>

#include <algorithm>
#include <limits>

#include <capstan/server/compute/line-error.h>
#include <capstan/server/compute/sort/pace.h>
#include <capstan/server/compute/sort/sort-kernel.h>

namespace capstan::server::compute {

namespace {

constexpr size_t PREFETCHED = 16;  // lines ahead of the one that is copied

// What a line takes besides its text: its pair, and what the kernel cannot do without.
size_t bytesPerLine() { return bestSortKernel() == SortKernel::VECTOR ? sizeof(KeyValue) : 2 * sizeof(KeyValue); }

// May write up to 31 bytes more.
char* copyText(char* to, const char* from, size_t length) {
  if (length > 32) return static_cast<char*>(mempcpy(to, from, length));
  memcpy(to, from, 32);
  return to + length;
}

}  // namespace

// Between the texts of two threads: a key is read eight bytes at a time, also behind the end of its line.
constexpr size_t GAP_BYTES = sizeof(uint64_t);

// What the threads that fill a run share.
struct LineRun::Filling {
  std::mutex mutex;
  // protected by mutex
  bool ended = false;
  std::optional<Error> readError;
  std::optional<Error> lineError;
  uint64_t badLine = std::numeric_limits<uint64_t>::max();
};

Status LineRun::fill(LineReader& reader) {
  textBytes = count = longest = 0;
  Filling filling;
  inParallel(threads, [&](unsigned) { takeChunks(reader, filling); });
  // Lines come before what could not be read any more.
  if (filling.lineError) return *filling.lineError;
  if (filling.readError) return *filling.readError;
  return work.cancelled() ? Status(cancelledError()) : okStatus();
}

void LineRun::takeChunks(LineReader& reader, Filling& filling) {
  std::unique_lock lock(filling.mutex);
  while (!filling.ended && !work.cancelled()) {
    size_t pairBytes = count * bytesPerLine();
    if (textBytes + reader.room() + GAP_BYTES + pairBytes > region.size()) {
      // A region always has room for a line, unless there is more input than there was said to be.
      if (count == 0) filling.readError = Error{ErrorCode::CHANGED, "the input grew while it was sorted", sourceName};
      break;
    }
    auto lines = reader.next(region.begin() + textBytes);
    if (!lines) {
      filling.readError = lines.error();
      break;
    }
    if (lines->count == 0) {
      if (reader.atEnd()) break;
      continue;
    }
    if (textBytes + lines->bytes() + GAP_BYTES + pairBytes + lines->count * bytesPerLine() > region.size()) {
      reader.putBack(*lines);
      break;
    }
    size_t first = count;
    count += lines->count;
    textBytes += lines->bytes() + GAP_BYTES;
    lock.unlock();
    size_t longestHere = 0;
    auto error = parse(*lines, first, longestHere);
    lock.lock();
    longest = std::max(longest, longestHere);
    if (error) {
      filling.ended = true;
      if (lines->firstNumber < filling.badLine) {
        filling.lineError = error;
        filling.badLine = lines->firstNumber;
      }
    }
  }
  filling.ended = true;
}

std::optional<Error> LineRun::parse(const Lines& lines, size_t first, size_t& longestHere) const {
  KeyValue* to = reinterpret_cast<KeyValue*>(region.end()) - first;
  const bool plainInts = order.type == ElementType::INT && order.field == 0;
  uint64_t number = lines.firstNumber;
  for (const char* at = lines.begin; at < lines.end; ++number) {
    const char* begin = at;
    size_t offset = size_t(begin - region.begin());
    if (int64_t value; plainInts && takeCanonicalInt(at, value)) {
      *--to = {packLine(offset, size_t(at - begin) - 1), order.keyOfInt(value)};
      continue;
    }
    size_t length = size_t(static_cast<const char*>(memchr(begin, '\n', size_t(lines.end - begin))) - begin);
    std::string_view text(begin, length);
    auto key = order.key(text);
    if (!key) return lineError(sourceName, number, order.keyText(text), order.type);
    *--to = {packLine(offset, length), *key};
    longestHere = std::max(longestHere, length);
    at = begin + length + 1;
  }
  return std::nullopt;
}

bool LineRun::sort() {
  std::span<KeyValue> sorted(pairs(), count), scratch;
  size_t free = (textBytes + alignof(KeyValue) - 1) / alignof(KeyValue) * alignof(KeyValue);
  if (free + 2 * count * sizeof(KeyValue) <= region.size()) {
    scratch = {reinterpret_cast<KeyValue*>(region.begin() + free), count};
  }
  if (!sortKeyValues(sorted, scratch, threads, work)) return false;
  if (!Refiner(order, region.begin(), sorted, scratch, threads, work).run()) return false;
  if (order.unique) dropRepeated();
  return !work.cancelled();
}

// Keeps the first of each: what is equal to the one before it goes. From the end, where the pairs that stay have to be.
void LineRun::dropRepeated() {
  KeyValue* begin = pairs();
  KeyValue* end = begin + count;
  KeyValue* to = end;
  Pace pace(work);
  for (KeyValue* from = end; from-- > begin;) {
    if (pace.cancelledAfter(lineLength(from->value))) return;
    if (from > begin && from->key == from[-1].key && order.compareTies(line(*from), line(from[-1])) == 0) continue;
    *--to = *from;
  }
  count = size_t(end - to);
}

bool LineRun::takeSlice(size_t& at, Slice& slice, size_t headerBytes) const {
  if (at == count) return false;
  slice = {at, at, 0};
  for (const KeyValue* pair = pairs() + at; slice.end < count; ++pair, ++slice.end) {
    size_t bytes = lineLength(pair->value) + headerBytes;
    if (slice.end > at && slice.bytes + bytes > sliceBytes) break;
    slice.bytes += bytes;
  }
  at = slice.end;
  return true;
}

char* LineRun::copyLines(const Slice& slice, char* to) const {
  const KeyValue* begin = pairs();
  for (size_t i = slice.begin; i < slice.end; ++i) {
    __builtin_prefetch(region.begin() + lineOffset(begin[std::min(i + PREFETCHED, count - 1)].value));
    to = copyText(to, region.begin() + lineOffset(begin[i].value), lineLength(begin[i].value) + 1);
  }
  return to;
}

char* LineRun::copyRecords(const Slice& slice, char* to) const {
  const KeyValue* begin = pairs();
  const bool headers = hasHeaders(order);
  for (size_t i = slice.begin; i < slice.end; ++i) {
    __builtin_prefetch(region.begin() + lineOffset(begin[std::min(i + PREFETCHED, count - 1)].value));
    size_t length = lineLength(begin[i].value);
    LineHeader header{begin[i].key, uint32_t(length)};
    to = headers ? static_cast<char*>(mempcpy(to, &header, sizeof(header)))
                 : static_cast<char*>(mempcpy(to, &header.length, sizeof(header.length)));
    to = copyText(to, region.begin() + lineOffset(begin[i].value), length);
  }
  return to;
}

Status LineRun::write(const Append& append, bool asRun) {
  size_t at = 0;
  auto take = [&](Slice& slice) { return takeSlice(at, slice, asRun ? sizeof(LineHeader) : 1); };
  auto make = [&](const Slice& slice, Buffer& buffer) -> std::string_view {
    char* begin = buffer.reserve(std::max(sliceBytes, slice.bytes) + 32);
    char* end = asRun ? copyRecords(slice, begin) : copyLines(slice, begin);
    return {begin, size_t(end - begin)};
  };
  return writeInTurns<Slice>(threads, work, append, take, make);
}

}  // namespace capstan::server::compute
