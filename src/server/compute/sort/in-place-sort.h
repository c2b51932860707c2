// Sorting of large inputs where there is no memory for a copy: a quicksort that threads share, down to pieces which are
// then sorted at once. Slower than BucketSort, because its first step is one thread's.
#pragma once

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <mutex>
#include <vector>

#include <capstan/server/compute/sort/parallel.h>
#include <capstan/server/compute/sort/words.h>

namespace capstan::server::compute {

inline constexpr size_t BUCKET_ELEMENTS = 1 << 20;     // what is aimed at
inline constexpr size_t CHECKED_ELEMENTS = 256 << 10;  // passed over between looks at whether to stop

// `Piece` sorts up to BUCKET_ELEMENTS elements: piece(elements, scratch, count), called with no scratch.
template <typename T, typename Piece>
class InPlaceSort {
 public:
  InPlaceSort(unsigned threads, const Work& work, Piece piece) : threads(threads), work(work), piece(piece) {}

  // False if it was stopped.
  bool sort(T* elements, size_t count) {
    largest = std::min(BUCKET_ELEMENTS, count / (2 * threads) + 1);
    parts.push_back({elements, count, Words<T>::COUNT - 1});
    inParallel(threads, [this](unsigned) { takeParts(); });
    return !work.cancelled();
  }

 private:
  // What agrees in all words above `word`.
  struct Part {
    T* elements;
    size_t count;
    size_t word;
  };

  // constant after construction
  const unsigned threads;
  const Work& work;
  Piece piece;
  size_t largest = 0;

  // protected by mutex
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Part> parts;
  unsigned busy = 0;
  bool broken = false;  // by an exception

  void takeParts() {
    std::unique_lock lock(mutex);
    try {
      while (takePart(lock)) {
      }
    } catch (...) {
      // Others may be waiting for this thread, and need not go on.
      if (!lock.owns_lock()) lock.lock();
      broken = true;
      changed.notify_all();
      throw;
    }
  }

  // With the lock, which it gives up in between. False if there are no more.
  bool takePart(std::unique_lock<std::mutex>& lock) {
    changed.wait(lock, [this] { return broken || !parts.empty() || busy == 0; });
    if (broken || parts.empty()) return false;
    Part part = parts.back();
    parts.pop_back();
    ++busy;
    lock.unlock();
    std::vector<Part> smaller;
    if (part.count > largest && !work.cancelled()) {
      smaller = part.word == 0 ? split<0>(part) : split<Words<T>::COUNT - 1>(part);
    } else if (!work.cancelled()) {
      piece(part.elements, nullptr, part.count);
    }
    lock.lock();
    --busy;
    if (!work.cancelled()) parts.insert(parts.end(), smaller.begin(), smaller.end());
    changed.notify_all();
    return true;
  }

  // Two parts, or one whose words are all the same: that is sorted by the next word, if there is one.
  template <size_t WORD>
  std::vector<Part> split(const Part& part) {
    uint64_t pivot = sample<WORD>(part);
    size_t less = partition<WORD>(part, pivot);
    if (less != 0) return {{part.elements, less, WORD}, {part.elements + less, part.count - less, WORD}};
    // Nothing is less than the pivot: what equals it goes to the front.
    bool greatest = pivot == std::numeric_limits<uint64_t>::max();
    size_t equal = greatest ? part.count : partition<WORD>(part, pivot + 1);
    std::vector<Part> result;
    if (WORD > 0) result.push_back({part.elements, equal, WORD - 1});
    if (equal < part.count) result.push_back({part.elements + equal, part.count - equal, WORD});
    return result;
  }

  template <size_t WORD>
  uint64_t sample(const Part& part) const {
    std::array<uint64_t, 63> words;
    uint64_t state = part.count;
    for (auto& word : words) {
      state = state * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX generator
      word = Words<T>::template get<WORD>(part.elements[(state >> 16) % part.count]);
    }
    std::nth_element(words.begin(), words.begin() + words.size() / 2, words.end());
    return words[words.size() / 2];
  }

  // Lomuto's partition without branches; answers how many are less than `bound`.
  template <size_t WORD>
  size_t partition(const Part& part, uint64_t bound) const {
    T* elements = part.elements;
    size_t less = 0;
    for (size_t done = 0; done < part.count && !work.cancelled();) {
      size_t end = std::min(part.count, done + CHECKED_ELEMENTS);
      for (; done < end; ++done) {
        T element = elements[done];
        elements[done] = elements[less];
        elements[less] = element;
        less += size_t(Words<T>::template get<WORD>(element) < bound);
      }
    }
    return less;
  }
};

}  // namespace capstan::server::compute
