// What the threads of a sort do when one of them fails: nobody waits for it for ever.
#include <algorithm>
#include <atomic>
#include <new>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include <capstan/server/compute/sort/in-place-sort.h>
#include <capstan/server/compute/sort/parallel.h>

namespace capstan::server::compute {
namespace {

TEST(InPlaceSort, AnExceptionOfOneThreadEndsAll) {
  std::mt19937_64 random(5);
  for (unsigned threads : {1, 2, 7}) {
    for (unsigned failing : {0, 1}) {
      std::vector<int64_t> keys(100'000);
      for (auto& key : keys) key = int64_t(random());
      Work work;
      std::atomic<unsigned> pieces{0};
      auto piece = [&](int64_t* begin, int64_t*, size_t count) {
        if (pieces.fetch_add(1) == failing) throw std::bad_alloc();
        std::sort(begin, begin + count);
      };
      InPlaceSort<int64_t, decltype(piece)> sort(threads, work, piece);
      EXPECT_THROW(sort.sort(keys.data(), keys.size()), std::bad_alloc);
    }
  }
}

}  // namespace
}  // namespace capstan::server::compute
