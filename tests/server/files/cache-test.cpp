#include <capstan/server/files/cache.h>

#include <gtest/gtest.h>
#include <malloc.h>

#include <random>
#include <thread>
#include <vector>

namespace capstan::server::files {
namespace {

constexpr size_t KIB = 1024;

// A file of this number and size whose last change was long ago.
struct stat statusOf(ino_t number, size_t size, time_t changed = 1000) {
  struct stat status {};
  status.st_ino = number;
  status.st_mode = S_IFREG | 0644;
  status.st_size = off_t(size);
  status.st_ctim = status.st_mtim = {changed, 5};
  return status;
}

bool enter(Cache& cache, const struct stat& status, char fill = 'x') {
  auto room = cache.makeRoom(status);
  if (room == nullptr) return false;
  memset(room->data(), fill, room->size);
  cache.insert(std::move(room), status);
  return true;
}

bool holds(const Cache& cache, const struct stat& status) { return cache.holds(idOf(status), versionOf(status)); }

TEST(Cache, AnswersWhatWasEnteredInTheSameVersionOnly) {
  Cache cache(64 * KIB, CachePolicy::FIFO);
  struct stat file = statusOf(1, 3);
  EXPECT_EQ(cache.find(file), nullptr);
  ASSERT_TRUE(enter(cache, file, 'a'));
  ASSERT_NE(cache.find(file), nullptr);
  EXPECT_EQ(cache.find(file)->view(), "aaa");
  EXPECT_TRUE(holds(cache, file));

  struct stat changed = statusOf(1, 3, 1001);
  EXPECT_FALSE(holds(cache, changed));
  EXPECT_EQ(cache.find(changed), nullptr);
  // The stale content is gone, also for those who come with the old version.
  EXPECT_EQ(cache.figures().entries, 0u);
  EXPECT_EQ(cache.figures().bytes, 0u);
  EXPECT_EQ(cache.find(file), nullptr);
  EXPECT_EQ(cache.figures().hits, 2u);
  EXPECT_EQ(cache.figures().misses, 3u);
}

TEST(Cache, DoesNotEnterWhatChangedWhileItWasRead) {
  Cache cache(64 * KIB, CachePolicy::FIFO);
  auto room = cache.makeRoom(statusOf(1, 3));
  cache.insert(std::move(room), statusOf(1, 3, 1001));
  EXPECT_EQ(cache.figures().entries, 0u);
  EXPECT_EQ(cache.figures().bytes, 0u);
}

TEST(Cache, DoesNotEnterWhatChangedJustNow) {
  Cache cache(64 * KIB, CachePolicy::FIFO);
  struct stat file = statusOf(1, 3);
  clock_gettime(CLOCK_REALTIME, &file.st_ctim);
  EXPECT_EQ(cache.makeRoom(file), nullptr);
}

TEST(Cache, NeverEntersAFileLargerThanAnEighthOfItOrAnEmptyOne) {
  Cache cache(64 * KIB, CachePolicy::FIFO);
  EXPECT_FALSE(enter(cache, statusOf(1, 8 * KIB + 1)));
  EXPECT_TRUE(enter(cache, statusOf(2, 8 * KIB)));
  EXPECT_FALSE(enter(cache, statusOf(3, 0)));
  EXPECT_EQ(cache.find(statusOf(1, 100 * KIB)), nullptr);
  EXPECT_EQ(cache.figures().misses, 0u) << "what can never enter is no miss";
  Cache none(0, CachePolicy::LRU);
  EXPECT_FALSE(enter(none, statusOf(1, 1)));
}

TEST(Cache, FifoEvictsWhatCameFirst) {
  Cache cache(64 * KIB, CachePolicy::FIFO);
  for (ino_t i = 1; i <= 8; ++i) ASSERT_TRUE(enter(cache, statusOf(i, 7 * KIB)));
  ASSERT_NE(cache.find(statusOf(1, 7 * KIB)), nullptr);
  ASSERT_TRUE(enter(cache, statusOf(9, 7 * KIB)));
  EXPECT_FALSE(holds(cache, statusOf(1, 7 * KIB)));
  EXPECT_TRUE(holds(cache, statusOf(2, 7 * KIB)));
  EXPECT_EQ(cache.figures().evictions, 1u);
  EXPECT_EQ(cache.figures().policy, CachePolicy::FIFO);
}

TEST(Cache, LruEvictsWhatWasUsedLongestAgo) {
  Cache cache(64 * KIB, CachePolicy::LRU);
  for (ino_t i = 1; i <= 8; ++i) ASSERT_TRUE(enter(cache, statusOf(i, 7 * KIB)));
  ASSERT_NE(cache.find(statusOf(1, 7 * KIB)), nullptr);
  EXPECT_TRUE(holds(cache, statusOf(2, 7 * KIB))) << "looking is not using";
  ASSERT_TRUE(enter(cache, statusOf(9, 7 * KIB)));
  EXPECT_TRUE(holds(cache, statusOf(1, 7 * KIB)));
  EXPECT_FALSE(holds(cache, statusOf(2, 7 * KIB)));
}

TEST(Cache, CountsWhatReadersHoldAndDoesNotEvictIt) {
  Cache cache(64 * KIB, CachePolicy::FIFO);
  std::vector<Cache::Held> held;
  for (ino_t i = 1; i <= 8; ++i) {
    ASSERT_TRUE(enter(cache, statusOf(i, 7 * KIB)));
    held.push_back(cache.find(statusOf(i, 7 * KIB)));
  }
  EXPECT_FALSE(enter(cache, statusOf(9, 7 * KIB))) << "all of it is held";
  EXPECT_EQ(cache.find(statusOf(1, 7 * KIB, 2000)), nullptr);  // makes the first one stale
  EXPECT_EQ(cache.figures().entries, 7u);
  EXPECT_FALSE(enter(cache, statusOf(9, 7 * KIB))) << "stale, but still held";
  held[0] = nullptr;
  EXPECT_TRUE(enter(cache, statusOf(9, 7 * KIB)));
  EXPECT_EQ(held[1]->view(), std::string(7 * KIB, 'x'));
}

TEST(Cache, RoomThatIsNotUsedIsGivenBack) {
  Cache cache(64 * KIB, CachePolicy::FIFO);
  auto room = cache.makeRoom(statusOf(1, 5 * KIB));
  EXPECT_GT(cache.figures().bytes, 5 * KIB);
  room = nullptr;
  EXPECT_EQ(cache.figures().bytes, 0u);
}

TEST(Cache, ContentOutlivesTheCache) {
  Cache::Held held;
  {
    Cache cache(64 * KIB, CachePolicy::FIFO);
    enter(cache, statusOf(1, 3), 'z');
    held = cache.find(statusOf(1, 3));
  }
  EXPECT_EQ(held->view(), "zzz");
}

TEST(Cache, ChargesNoLessThanTheAllocatorGives) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers have an allocator of their own";
#endif
  for (size_t size : {1, 24, 25, 1000, 4096, 100000, 131056, 131072, 140000, 1 << 20}) {
    Cache cache(64 << 20, CachePolicy::FIFO);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    ASSERT_TRUE(enter(cache, statusOf(1, size)));
    size_t taken = mallinfo2().uordblks + mallinfo2().hblkhd - before;
    EXPECT_GE(cache.figures().bytes, taken) << size;
    EXPECT_LE(cache.figures().bytes, taken + 8192) << size;
  }
}

TEST(Cache, StaysBelowItsLimitUnderManyThreads) {
  for (CachePolicy policy : {CachePolicy::FIFO, CachePolicy::LRU}) {
    Cache cache(256 * KIB, policy);
    std::atomic<size_t> wrong = 0, above = 0;
    std::vector<std::thread> threads;
    for (unsigned seed = 0; seed < 8; ++seed) {
      threads.emplace_back([&, seed] {
        std::mt19937 random(seed);
        std::vector<Cache::Held> held(4);
        for (int i = 0; i < 5000; ++i) {
          ino_t number = random() % 100;
          struct stat file = statusOf(number, 1 + number * 331, 1000 + time_t(random() % 2));
          auto found = cache.find(file);
          if (found == nullptr) {
            enter(cache, file, char('a' + number % 26));
          } else if (found->view() != std::string(found->size, char('a' + number % 26))) {
            ++wrong;
          }
          held[random() % held.size()] = std::move(found);
          if (cache.figures().bytes > 256 * KIB) ++above;
        }
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0u);
    EXPECT_EQ(above, 0u);
    EXPECT_GT(cache.figures().hits, 0u);
    EXPECT_GT(cache.figures().evictions, 0u);
  }
}

}  // namespace
}  // namespace capstan::server::files
