#include <capstan/server/compute/sort/refine.h>

#include <algorithm>
#include <atomic>

#include <capstan/server/compute/sort/pace.h>
#include <capstan/server/compute/sort/parallel.h>

namespace capstan::server::compute {

namespace {

constexpr size_t SMALL = 24;               // so many lines are sorted by comparing them
constexpr size_t LARGE = 128 << 10;        // ranges of so many are sorted by all threads together
constexpr size_t SLICE = 16 << 10;         // what a thread takes at a time
constexpr size_t CHECKED_PAIRS = 1 << 20;  // passed over between looks at whether to stop, without their lines
constexpr size_t PREFETCHED = 16;          // lines ahead of the one that is looked at
constexpr size_t LINES_AT_ONCE = 8 << 10;  // that a thread gives new keys
constexpr size_t SMALL_BYTES = 512 << 10;  // and so long in all

// Where two texts begin to differ, at `from` or behind it, or `end`.
size_t sameUpTo(const char* a, const char* b, size_t from, size_t end) {
  for (; from + 8 <= end; from += 8) {
    uint64_t wordA, wordB;
    memcpy(&wordA, a + from, 8);
    memcpy(&wordB, b + from, 8);
    if (wordA != wordB) return from + size_t(std::countr_zero(wordA ^ wordB)) / 8;
  }
  while (from < end && a[from] == b[from]) ++from;
  return from;
}

}  // namespace

bool Refiner::less(const KeyValue& a, const KeyValue& b, Part part, size_t depth) const {
  std::string_view lineA = line(a), lineB = line(b);
  int result = part == Part::KEY ? order.compareTexts(order.keyText(lineA), order.keyText(lineB), depth)
                                 : order.compareTexts(lineA, lineB, depth);
  if (result == 0 && part == Part::KEY && order.ordersTies()) result = order.compareTexts(lineA, lineB, 0);
  return result != 0 ? result < 0 : a.value < b.value;
}

size_t Refiner::endOfEqual(size_t begin, size_t end) const {
  size_t i = begin + 1;
  for (uint64_t key = pairs[begin].key; i < end && pairs[i].key == key; ++i) {
    if (i % CHECKED_PAIRS == 0 && work.cancelled()) return end;
  }
  return i;
}

template <typename Found>
void Refiner::eachEqual(size_t begin, size_t end, const Range& sorted, Found found) const {
  while (begin < end) {
    size_t next = endOfEqual(begin, sorted.end);
    if (next - begin > 1) found(Range{begin, next, sorted.part, sorted.depth});
    begin = next;
  }
}

bool Refiner::run() {
  if (order.type != ElementType::TEXT && !order.ordersTies()) return true;
  // Ranges that are sorted by their keys, and large.
  std::vector<Range> sorted{{0, pairs.size(), Part::KEY, 0}};
  std::vector<Saved> saved;
  while (!sorted.empty()) {
    Range next = sorted.back();
    sorted.pop_back();
    std::vector<Range> large;
    findLarge(next, large);
    for (auto& range : large) {
      if (work.cancelled()) return false;
      saved.push_back({range.begin, range.end, pairs[range.begin].key});
      std::vector<Range> unsorted;
      advance(range, unsorted);
      for (auto& part : unsorted) {
        if (sortAtOnce(part)) continue;
        if (!sortByNext(part, threads)) return false;
        sorted.push_back(part);
      }
    }
  }
  // The outermost were saved first.
  for (size_t i = saved.size(); i-- > 0;) {
    for (size_t k = saved[i].begin; k < saved[i].end; ++k) {
      if (k % CHECKED_PAIRS == 0 && work.cancelled()) return false;
      pairs[k].key = saved[i].key;
    }
  }
  return !work.cancelled();
}

void Refiner::findLarge(const Range& sorted, std::vector<Range>& large) {
  // Where slices begin has to be known before keys are changed.
  std::vector<size_t> cuts{sorted.begin};
  for (size_t cut = sorted.begin + SLICE; cut < sorted.end; cut += SLICE) {
    cut = std::max(cut, cuts.back());
    cut = endOfEqual(cut - 1, sorted.end);
    if (cut < sorted.end) cuts.push_back(cut);
  }
  cuts.push_back(sorted.end);
  std::atomic<size_t> taken{0};
  std::mutex mutex;
  inParallel(cuts.size() > 4 ? threads : 1, [&](unsigned) {
    for (size_t i; (i = taken.fetch_add(1)) + 1 < cuts.size() && !work.cancelled();) {
      refineSlice(cuts[i], cuts[i + 1], sorted, large, mutex);
    }
  });
}

void Refiner::refineSlice(size_t begin, size_t end, const Range& sorted, std::vector<Range>& large, std::mutex& mutex) {
  Range slice{begin, end, sorted.part, sorted.depth};
  eachEqual(begin, end, slice, [&](const Range& range) {
    if (work.cancelled()) return;
    if (range.size() >= LARGE) {
      std::lock_guard lock(mutex);
      large.push_back(range);
    } else {
      refineAlone(range);
    }
  });
}

void Refiner::refineAlone(Range range) {
  const uint64_t key = pairs[range.begin].key;
  std::vector<Range> equal{range}, unsorted;
  bool changed = false;
  while (!equal.empty() && !work.cancelled()) {
    unsorted.clear();
    Range next = equal.back();
    equal.pop_back();
    changed |= advance(next, unsorted);
    for (auto& part : unsorted) {
      if (sortAtOnce(part)) continue;
      changed = true;
      if (!sortByNext(part, 1)) return;
      eachEqual(part.begin, part.end, part, [&](const Range& found) { equal.push_back(found); });
    }
  }
  if (!changed) return;
  for (size_t i = range.begin; i < range.end; ++i) pairs[i].key = key;
}

void Refiner::settle(size_t begin, size_t end, Part part, std::vector<Range>& unsorted) {
  if (end - begin > 1 && part == Part::KEY && order.ordersTies()) unsorted.push_back({begin, end, Part::LINE, 0});
}

bool Refiner::advance(const Range& range, std::vector<Range>& unsorted) {
  if (range.part == Part::KEY && order.type != ElementType::TEXT) {
    settle(range.begin, range.end, Part::KEY, unsorted);
    return false;
  }
  if (isSmall(range)) {
    unsorted.push_back(range);
    return false;
  }
  size_t longest = 0, shortest = SIZE_MAX;
  Pace pace(work);
  for (size_t i = range.begin; i < range.end; ++i) {
    if (pace.cancelledAfter(lineLength(pairs[i].value))) return false;
    size_t left = partOf(pairs[i], range.part).size() - range.depth;
    longest = std::max(longest, left);
    shortest = std::min(shortest, left);
  }
  if (shortest > 8) {
    unsorted.push_back({range.begin, range.end, range.part, range.depth + 8});
    return false;
  }
  if (shortest == longest) {
    settle(range.begin, range.end, range.part, unsorted);
    return false;
  }
  sortByLength(range, unsorted);
  return true;
}

void Refiner::sortByLength(const Range& range, std::vector<Range>& unsorted) {
  const uint64_t goesOn = order.descending ? 0 : 9;
  Pace pace(work);
  for (size_t i = range.begin; i < range.end; ++i) {
    if (pace.cancelledAfter(lineLength(pairs[i].value))) return;
    uint64_t left = std::min<uint64_t>(partOf(pairs[i], range.part).size() - range.depth, 9);
    pairs[i].key = order.descending ? 9 - left : left;
  }
  if (!sortKeyValues(pairs.subspan(range.begin, range.size()), scratchFor(range), 1, work)) return;
  for (size_t begin = range.begin; begin < range.end;) {
    size_t end = endOfEqual(begin, range.end);
    if (pairs[begin].key != goesOn) {
      settle(begin, end, range.part, unsorted);
    } else if (end - begin > 1) {
      unsorted.push_back({begin, end, range.part, range.depth + 8});
    }
    begin = end;
  }
}

bool Refiner::isSmall(const Range& range) const {
  if (range.size() > SMALL) return false;
  size_t bytes = 0;
  for (size_t i = range.begin; i < range.end; ++i) bytes += lineLength(pairs[i].value);
  return bytes < SMALL_BYTES;
}

bool Refiner::sortAtOnce(const Range& range) {
  auto isLess = [&](const KeyValue& a, const KeyValue& b) { return less(a, b, range.part, range.depth); };
  auto begin = pairs.begin() + ptrdiff_t(range.begin), end = pairs.begin() + ptrdiff_t(range.end);
  if (isSmall(range)) {
    std::sort(begin, end, isLess);
    return true;
  }
  // In order already? Looking ends at the first pair that is not.
  Pace pace(work);
  for (auto at = begin + 1; at != end; ++at) {
    if (isLess(*at, at[-1])) return false;
    if (pace.cancelledAfter(lineLength(at->value))) return true;
  }
  return true;
}

size_t Refiner::commonPrefix(const Range& range) const {
  std::string_view first = partOf(pairs[range.begin], range.part);
  size_t common = first.size();
  Pace pace(work);
  for (size_t i = range.begin + 1; i < range.end && common > range.depth; ++i) {
    std::string_view other = partOf(pairs[i], range.part);
    common = sameUpTo(first.data(), other.data(), range.depth, std::min(common, other.size()));
    // Also where little is in common: the field may begin late in its line.
    if (pace.cancelledAfter(lineLength(pairs[i].value))) break;
  }
  return common;
}

bool Refiner::sortByNext(Range& range, unsigned wanted) {
  range.depth = commonPrefix(range);
  std::atomic<size_t> taken{range.begin};
  inParallel(range.size() >= LARGE ? wanted : 1, [&](unsigned) {
    Pace pace(work);
    for (size_t begin; (begin = taken.fetch_add(LINES_AT_ONCE)) < range.end && !work.cancelled();) {
      size_t end = std::min(range.end, begin + LINES_AT_ONCE);
      for (size_t i = begin; i < end; ++i) {
        __builtin_prefetch(text + lineOffset(pairs[std::min(i + PREFETCHED, range.end - 1)].value) + range.depth);
        pairs[i].key = order.prefix(partOf(pairs[i], range.part), range.depth);
        if (pace.cancelledAfter(lineLength(pairs[i].value))) return;
      }
    }
  });
  return sortKeyValues(pairs.subspan(range.begin, range.size()), scratchFor(range), wanted, work);
}

}  // namespace capstan::server::compute
