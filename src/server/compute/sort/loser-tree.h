// Which of several sorted inputs has the least element, with one comparison for each level when that has moved on.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace capstan::server::compute {

// `Less` answers for two inputs, by their indexes, whether the first one's element comes before the second one's; ended
// inputs come last.
template <typename Less>
class LoserTree {
 public:
  LoserTree(size_t inputs, Less less) : less(less), inputs(inputs), losers(inputs) {
    std::vector<size_t> winners(2 * inputs);
    for (size_t i = 0; i < inputs; ++i) winners[inputs + i] = i;
    for (size_t node = inputs - 1; node > 0; --node) {
      size_t a = winners[2 * node], b = winners[2 * node + 1];
      if (less(b, a)) std::swap(a, b);
      winners[node] = a;
      losers[node] = b;
    }
    first = inputs == 1 ? 0 : winners[1];
  }

  size_t winner() const { return first; }
  // After the winner moved on to its next element.
  void replay() {
    size_t current = first;
    for (size_t node = (first + inputs) / 2; node > 0; node /= 2) {
      if (less(losers[node], current)) std::swap(losers[node], current);
    }
    first = current;
  }

 private:
  Less less;
  const size_t inputs;
  std::vector<size_t> losers;
  size_t first = 0;
};

}  // namespace capstan::server::compute
