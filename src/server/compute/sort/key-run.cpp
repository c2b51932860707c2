#include <capstan/server/compute/sort/key-run.h>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include <capstan/base/text.h>
#include <capstan/server/compute/sort/line-order.h>

namespace capstan::server::compute {

namespace {

constexpr size_t READ_BYTES = 1 << 20;
constexpr size_t CHECKED_KEYS = 1 << 20;  // passed over between looks at whether to stop

Error cutElement(const std::string& name) {
  std::string sentence = name.empty() ? "the input" : escapeForTerminal(name);
  return {ErrorCode::INVALID_ARGUMENT, sentence + " does not end with a whole element of 8 bytes", name};
}

}  // namespace

void KeyCode::encode(std::span<int64_t> elements) const {
  if (isFloat) orderDoubles(elements);
  if (!isFloat && flip == 0) return;
  const int64_t nan = orderedFromDouble(std::numeric_limits<double>::quiet_NaN());
  for (auto& one : elements) one = isFloat && one == nan ? LAST : one ^ flip;
}

void KeyCode::decode(std::span<int64_t> keys) const {
  if (!isFloat && flip == 0) return;
  const int64_t nan = orderedFromDouble(std::numeric_limits<double>::quiet_NaN());
  for (auto& one : keys) one = isFloat && one == LAST ? nan : one ^ flip;
  if (isFloat) unorderDoubles(keys);
}

// What the threads that fill a run share.
struct KeyRun::Filling {
  std::mutex mutex;
  std::condition_variable turn;
  // protected by mutex
  bool ended = false;
  bool broken = false;   // by an exception
  size_t confirmed = 0;  // keys that are known to stay
  std::optional<Error> error;
  std::map<size_t, std::pair<Lines, Buffer>> refused;  // chunks, by where their keys would have been
};

size_t KeyRun::capacity() const {
  return region.size() / sizeof(int64_t) / (bestSortKernel() == SortKernel::VECTOR ? 1 : 2);
}

Status KeyRun::fillBinary(Source& source) {
  const size_t room = capacity() * sizeof(int64_t);
  size_t bytes = 0, encoded = 0;
  others = ended = false;
  while (bytes < room) {
    if (work.cancelled()) return cancelledError();
    auto read = source.read(region.begin() + bytes, std::min(READ_BYTES, room - bytes));
    if (!read) return read.error();
    if (*read == 0) {
      ended = true;
      break;
    }
    bytes += *read;
    work.advance(*read);
    count = bytes / sizeof(int64_t);
    code.encode({keys() + encoded, count - encoded});
    encoded = count;
  }
  count = bytes / sizeof(int64_t);
  if (bytes % sizeof(int64_t) != 0) return cutElement(source.name);
  return okStatus();
}

Status KeyRun::fillLines(LineReader& reader) {
  count = 0;
  others = ended = false;
  Filling filling;
  inParallel(threads, [&](unsigned) { takeChunks(reader, filling); });
  if (work.cancelled()) return cancelledError();
  if (!filling.refused.empty()) {
    others = true;
    count = filling.refused.begin()->first;
    for (auto& [at, chunk] : filling.refused) reader.putBack(chunk.first);
  } else if (filling.error) {
    return *filling.error;
  }
  ended = reader.atEnd();
  return okStatus();
}

void KeyRun::takeChunks(LineReader& reader, Filling& filling) {
  std::unique_lock lock(filling.mutex);
  Buffer buffer;
  try {
    while (!filling.ended && !work.cancelled() && takeChunk(reader, filling, buffer, lock)) {
    }
  } catch (...) {
    if (!lock.owns_lock()) lock.lock();
    filling.ended = filling.broken = true;
    filling.turn.notify_all();
    throw;
  }
  filling.ended = true;
}

bool KeyRun::takeChunk(LineReader& reader, Filling& filling, Buffer& buffer, std::unique_lock<std::mutex>& lock) {
  auto lines = reader.next(buffer.reserve(reader.room()));
  if (!lines) {
    filling.error = lines.error();
    return false;
  }
  if (lines->count == 0) return !reader.atEnd();
  if (count + lines->count > capacity()) {
    reader.putBack(*lines);
    return false;
  }
  size_t first = count;
  count += lines->count;
  lock.unlock();
  int64_t* to = keys() + first;
  const char* at = lines->begin;
  int64_t value;
  while (at < lines->end && takeCanonicalInt(at, value)) *to++ = code.keyOfInt(value);
  lock.lock();
  // The text may only be forgotten when no chunk before it has been refused: all that follow have to be read again.
  if (at == lines->end) {
    filling.turn.wait(lock, [&] { return filling.broken || filling.confirmed == first || !filling.refused.empty(); });
  }
  if (at < lines->end || !filling.refused.empty()) {
    filling.refused.emplace(first, std::make_pair(*lines, std::move(buffer)));
    filling.turn.notify_all();
    return false;
  }
  filling.confirmed = first + lines->count;
  filling.turn.notify_all();
  return !filling.broken;
}

bool KeyRun::sort() {
  std::span<int64_t> sorted(keys(), count), scratch;
  if (2 * count * sizeof(int64_t) <= region.size()) scratch = {keys() + count, count};
  if (!sortKeys(sorted, scratch, threads, work)) return false;
  if (!unique) return true;
  int64_t* to = keys();
  for (size_t i = 0; i < count; ++i) {
    if (i % CHECKED_KEYS == 0 && work.cancelled()) return false;
    if (i == 0 || sorted[i] != to[-1]) *to++ = sorted[i];
  }
  count = size_t(to - keys());
  return true;
}

Status KeyRun::write(const Append& append, KeyForm form) {
  struct Slice {
    size_t begin;
    size_t end;
  };
  const size_t most = sliceBytes / (form == KeyForm::LINES ? MAX_INT_TEXT + 1 : sizeof(int64_t));
  size_t at = 0;
  auto take = [&](Slice& slice) {
    slice = {at, std::min(count, at + most)};
    at = slice.end;
    return slice.begin < slice.end;
  };
  auto make = [&](const Slice& slice, Buffer& buffer) -> std::string_view {
    std::span<int64_t> part(keys() + slice.begin, slice.end - slice.begin);
    if (form != KeyForm::KEYS) code.decode(part);  // nobody needs the keys any more
    if (form != KeyForm::LINES) return {reinterpret_cast<const char*>(part.data()), part.size_bytes()};
    char* begin = buffer.reserve(sliceBytes);
    char* end = begin;
    for (int64_t value : part) {
      end = formatInt(value, end);
      *end++ = '\n';
    }
    return {begin, size_t(end - begin)};
  };
  return writeInTurns<Slice>(threads, work, append, take, make);
}

}  // namespace capstan::server::compute
