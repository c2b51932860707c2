// Where to cut a large input into buckets of about the same size that can be sorted one by one: words found by sampling
// (Frazer and McKellar, Samplesort, 1970), kept as a search tree without branches. A word that takes up a large part of
// the sample gets a bucket of its own, so that few distinct values do no harm.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace capstan::server::compute {

class Splitters {
 public:
  static constexpr size_t SAMPLES_PER_BUCKET = 32;

  // `sample` has SAMPLES_PER_BUCKET words for each wanted bucket; there may be up to twice as many in the end.
  explicit Splitters(std::vector<uint64_t> sample) {
    std::sort(sample.begin(), sample.end());
    for (size_t i = SAMPLES_PER_BUCKET; i < sample.size(); i += SAMPLES_PER_BUCKET) {
      uint64_t word = sample[i];
      bool frequent = word == sample[i - SAMPLES_PER_BUCKET];
      if (bounds.empty() || bounds.back() < word) bounds.push_back(word);
      if (frequent && word != MAX && bounds.back() == word) bounds.push_back(word + 1);
    }
    levels = std::bit_width(bounds.size());
    // What fills up the tree are bounds that nothing lies between, but for MAX itself behind the last one.
    bounds.resize((size_t(1) << levels) - 1, MAX);
    tree.resize(size_t(1) << levels);
    fill(1, 0, bounds.size());
  }

  size_t buckets() const { return bounds.size() + 1; }
  // All words in this bucket are the same.
  bool isUniform(size_t bucket) const {
    if (bucket == 0) return false;
    uint64_t least = bounds[bucket - 1];
    return least == MAX || (bucket < bounds.size() && bounds[bucket] == least + 1);
  }

  // The buckets of WIDTH words at once: their searches do not wait for each other.
  template <size_t WIDTH>
  void find(const uint64_t (&words)[WIDTH], size_t (&found)[WIDTH]) const {
    const uint64_t* nodes = tree.data();
    for (size_t k = 0; k < WIDTH; ++k) found[k] = 1;
    for (unsigned level = 0; level < levels; ++level) {
      for (size_t k = 0; k < WIDTH; ++k) found[k] = 2 * found[k] + size_t(words[k] >= nodes[found[k]]);
    }
    for (size_t k = 0; k < WIDTH; ++k) found[k] -= size_t(1) << levels;
  }

 private:
  static constexpr uint64_t MAX = std::numeric_limits<uint64_t>::max();

  unsigned levels = 0;
  std::vector<uint64_t> bounds;  // ascending; bucket i holds what is at least bounds[i - 1] and less than bounds[i]
  std::vector<uint64_t> tree;    // the same; the children of node i are 2i and 2i + 1

  void fill(size_t node, size_t begin, size_t end) {
    if (node >= tree.size()) return;
    size_t middle = begin + (end - begin) / 2;
    tree[node] = bounds[middle];
    fill(2 * node, begin, middle);
    fill(2 * node + 1, middle + 1, end);
  }
};

}  // namespace capstan::server::compute
