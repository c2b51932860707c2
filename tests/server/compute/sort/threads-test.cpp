// What the threads of a sort do when one of them fails: nobody waits for it for ever.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <new>
#include <random>
#include <thread>
#include <vector>

#include <kj/debug.h>

#include <capstan/server/compute/sort/in-place-sort.h>
#include <capstan/server/compute/sort/parallel.h>

#include "sorting.h"

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

TEST(InParallel, AnExceptionIsThrownWhenAllHaveEnded) {
  std::atomic<unsigned> ended{0};
  auto run = [&](unsigned index) {
    if (index == 2) throw std::bad_alloc();
    ++ended;
  };
  EXPECT_THROW(inParallel(5, run), std::bad_alloc);
  EXPECT_EQ(ended, 4u);
}

// No memory for the stacks of more threads, as long as it lives.
class NoMoreThreads {
 public:
  NoMoreThreads() {
    KJ_SYSCALL(getrlimit(RLIMIT_AS, &before));
    rlimit limit = before;
    limit.rlim_cur = kibibytesOf("VmSize") << 10;
    KJ_SYSCALL(setrlimit(RLIMIT_AS, &limit));
  }
  ~NoMoreThreads() { setrlimit(RLIMIT_AS, &before); }
  NoMoreThreads(const NoMoreThreads&) = delete;
  NoMoreThreads& operator=(const NoMoreThreads&) = delete;

 private:
  rlimit before;
};

TEST(InParallel, WhereThereAreNoMoreThreadsFewerDoEverything) {
  if (SANITIZED) GTEST_SKIP() << "sanitizers take memory of their own";
  constexpr unsigned THREADS = 64;
  std::vector<unsigned> runs(THREADS);
  std::vector<std::thread::id> ids(THREADS);
  {
    NoMoreThreads limit;
    inParallel(THREADS, [&](unsigned index) {
      ++runs[index];
      ids[index] = std::this_thread::get_id();
    });
  }
  EXPECT_EQ(runs, std::vector<unsigned>(THREADS, 1));
  EXPECT_GT(std::count(ids.begin(), ids.end(), std::this_thread::get_id()), 1) << "threads were to be had";
}

}  // namespace
}  // namespace capstan::server::compute
