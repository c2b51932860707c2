// Sorting of large inputs with several threads, and in steps small enough to stop in between: the elements are moved
// into buckets of at most a few million, which the threads then take one after the other. There is no merging
// afterwards.
#pragma once

#include <atomic>
#include <cstring>
#include <vector>

#include <capstan/server/compute/sort/in-place-sort.h>
#include <capstan/server/compute/sort/parallel.h>
#include <capstan/server/compute/sort/splitters.h>
#include <capstan/server/compute/sort/words.h>

namespace capstan::server::compute {

inline constexpr size_t MOST_AT_ONCE = 4 << 20;  // what is sorted without looking whether to stop
inline constexpr size_t LEAST_FOR_THREADS = 256 << 10;

// Whether it ascends, or did once it was turned round, which is done then. Stops at the first pair that does neither.
template <typename T>
bool isInOrder(T* elements, size_t count, const Work& work) {
  if (count < 2) return true;
  bool descending = Words<T>::less(elements[1], elements[0]);
  for (size_t i = 1; i < count; ++i) {
    if (i % CHECKED_ELEMENTS == 0 && work.cancelled()) return false;
    bool less = Words<T>::less(elements[i], elements[i - 1]);
    if (less == descending) continue;
    // Equal neighbours do not end a descent: elements that are equal cannot be told apart.
    if (!descending || Words<T>::less(elements[i - 1], elements[i])) return false;
  }
  for (size_t i = 0; descending && i < count / 2; ++i) {
    if (i % CHECKED_ELEMENTS == 0 && work.cancelled()) return false;
    std::swap(elements[i], elements[count - 1 - i]);
  }
  return true;
}

// `Piece` sorts up to MOST_AT_ONCE elements: piece(elements, scratch, count).
template <typename T, typename Piece>
class BucketSort {
 public:
  BucketSort(unsigned threads, const Work& work, Piece piece) : threads(threads), work(work), piece(piece) {}

  // Without `scratch` it is done in place, which takes some longer. False if it was stopped.
  bool sort(T* elements, T* scratch, size_t count) {
    if (isInOrder(elements, count, work)) return true;
    if (work.cancelled()) return false;
    if (count <= MOST_AT_ONCE && (threads < 2 || count < LEAST_FOR_THREADS)) {
      piece(elements, scratch, count);
      return true;
    }
    if (scratch == nullptr) return InPlaceSort<T, Piece>(threads, work, piece).sort(elements, count);
    return split<Words<T>::COUNT - 1>(elements, scratch, count, 0);
  }

 private:
  static constexpr size_t WIDTH = 4;
  static constexpr size_t DEEPEST = 12;  // so often a bucket is split again, if the samples happen to be bad

  struct Bucket {
    size_t begin;
    size_t end;
    bool uniform;
  };

  const unsigned threads;
  const Work& work;
  Piece piece;

  template <size_t WORD>
  Splitters sample(const T* elements, size_t count) const {
    size_t aim = std::min(BUCKET_ELEMENTS, count / (4 * threads) + 1);
    size_t buckets = std::clamp<size_t>(std::bit_ceil(count / aim), 4, 256);
    std::vector<uint64_t> words(buckets * Splitters::SAMPLES_PER_BUCKET);
    uint64_t state = count;
    for (auto& word : words) {
      state = state * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX generator
      word = Words<T>::template get<WORD>(elements[(state >> 16) % count]);
    }
    return Splitters(std::move(words));
  }

  // Calls act(elements[i], its bucket) for each in order. False if it was stopped.
  template <size_t WORD, typename Act>
  bool eachBucket(const Splitters& splitters, const T* elements, size_t count, Act act) const {
    for (size_t done = 0; done < count;) {
      if (work.cancelled()) return false;
      size_t end = std::min(count, done + CHECKED_ELEMENTS);
      uint64_t words[WIDTH];
      size_t found[WIDTH];
      for (; done + WIDTH <= end; done += WIDTH) {
        for (size_t k = 0; k < WIDTH; ++k) words[k] = Words<T>::template get<WORD>(elements[done + k]);
        splitters.find(words, found);
        for (size_t k = 0; k < WIDTH; ++k) act(elements[done + k], found[k], k);
      }
      for (; done < end; ++done) {
        uint64_t one[1] = {Words<T>::template get<WORD>(elements[done])};
        size_t bucket[1];
        splitters.find(one, bucket);
        act(elements[done], bucket[0], 0);
      }
    }
    return true;
  }

  // Moves all into `to`, bucket by bucket, stably.
  template <size_t WORD>
  std::vector<Bucket> distribute(const Splitters& splitters, const T* from, T* to, size_t count) {
    size_t buckets = splitters.buckets();
    // Neighbours count into different rows, so that one does not wait for the other's store.
    std::vector<std::vector<size_t>> counts(threads, std::vector<size_t>(buckets * WIDTH));
    std::vector<std::vector<T*>> next(threads, std::vector<T*>(buckets));
    auto part = [&](unsigned index) { return count * index / threads; };
    inParallel(threads, [&](unsigned index) {
      size_t* mine = counts[index].data();
      eachBucket<WORD>(splitters, from + part(index), part(index + 1) - part(index),
                       [mine, buckets](const T&, size_t bucket, size_t k) { ++mine[k * buckets + bucket]; });
    });
    if (work.cancelled()) return {};
    std::vector<Bucket> result;
    size_t at = 0;
    for (size_t bucket = 0; bucket < buckets; ++bucket) {
      size_t begin = at;
      for (unsigned index = 0; index < threads; ++index) {
        next[index][bucket] = to + at;
        for (size_t k = 0; k < WIDTH; ++k) at += counts[index][k * buckets + bucket];
      }
      if (at > begin) result.push_back({begin, at, splitters.isUniform(bucket)});
    }
    inParallel(threads, [&](unsigned index) {
      T** mine = next[index].data();
      eachBucket<WORD>(splitters, from + part(index), part(index + 1) - part(index),
                       [mine](const T& element, size_t bucket, size_t) { *mine[bucket]++ = element; });
    });
    return result;
  }

  template <size_t WORD>
  bool split(T* elements, T* scratch, size_t count, size_t depth) {
    auto buckets = distribute<WORD>(sample<WORD>(elements, count), elements, scratch, count);
    std::vector<Bucket> large;
    std::mutex mutex;
    std::atomic<size_t> taken{0};
    inParallel(threads, [&](unsigned) {
      for (size_t i; (i = taken.fetch_add(1)) < buckets.size() && !work.cancelled();) {
        if (finish<WORD>(buckets[i], elements, scratch, depth)) continue;
        std::lock_guard lock(mutex);
        large.push_back(buckets[i]);
      }
    });
    for (auto& bucket : large) {
      if (work.cancelled()) return false;
      T* begin = elements + bucket.begin;
      size_t size = bucket.end - bucket.begin;
      bool done = false;
      if (isInOrder(begin, size, work)) continue;
      if constexpr (WORD > 0) {
        if (bucket.uniform) done = split<WORD - 1>(begin, scratch + bucket.begin, size, depth + 1);
      }
      if (!done && !split<WORD>(begin, scratch + bucket.begin, size, depth + 1)) return false;
    }
    return !work.cancelled();
  }

  // Brings a bucket back from scratch and sorts it, unless it is too large for that: then false.
  template <size_t WORD>
  bool finish(const Bucket& bucket, T* elements, T* scratch, size_t depth) {
    size_t size = bucket.end - bucket.begin;
    for (size_t at = bucket.begin; at < bucket.end && !work.cancelled(); at += MOST_AT_ONCE) {
      memcpy(elements + at, scratch + at, std::min(MOST_AT_ONCE, bucket.end - at) * sizeof(T));
    }
    if (bucket.uniform && WORD == 0) return true;
    if (size > MOST_AT_ONCE && depth < DEEPEST) return false;
    if (!isInOrder(elements + bucket.begin, size, work) && !work.cancelled()) {
      piece(elements + bucket.begin, scratch + bucket.begin, size);
    }
    return true;
  }
};

}  // namespace capstan::server::compute
