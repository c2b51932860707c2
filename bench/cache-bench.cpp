// What the memory cache buys over the kernel's page cache, measured on the storage classes themselves, without RPC:
// opening, looking at and reading a whole file the way a server does, with the cache and without, from a warm page
// cache and from the disk. The folder is made in TMPDIR, or /tmp: put it on the file system that is of interest.
//
//   cache-bench --benchmark_min_time=1
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <capstan/base/file.h>
#include <capstan/server/files/cache.h>
#include <capstan/storage/root.h>
#include <capstan/storage/version.h>
#include <kj/debug.h>

namespace capstan::server::files {
namespace {

constexpr size_t CACHE_BYTES = 64 << 20;
constexpr size_t WORKING_SET_BYTES = 32 << 20;
constexpr size_t MAX_FILES = 1024;

enum class Way { PAGE_CACHE, CACHE, DISK };

// Files of one size, all of them settled.
class Folder {
 public:
  explicit Folder(size_t size) {
    const char* parent = getenv("TMPDIR");
    path = std::string(parent == nullptr ? "/tmp" : parent) + "/cache-bench-XXXXXX";
    KJ_REQUIRE(mkdtemp(path.data()) != nullptr);
    std::filesystem::create_directories(path + "/a/b");
    for (size_t i = 0; i < std::min(MAX_FILES, WORKING_SET_BYTES / size); ++i) {
      names.push_back("a/b/file" + std::to_string(i));
      std::ofstream(path + "/" + names.back(), std::ios::binary) << std::string(size, char('a' + i % 26));
    }
    sync();
    root = std::move(Root::open(path).value());
    while (!isSettled(root->stat(names.back()).value())) sched_yield();
  }
  ~Folder() { std::filesystem::remove_all(path); }

  std::string path;
  std::vector<std::string> names;
  std::unique_ptr<Root> root;
};

kj::AutoCloseFd openNow(const Root& root, const std::string& name) {
  KJ_IF_MAYBE (opened, root.tryOpenNow(name, O_RDONLY)) return std::move(*opened).value();
  return std::move(root.open(name, O_RDONLY, Follow::YES)).value();
}

// As FileServer::read does it.
void readWhole(int fd, Cache* cache, std::vector<char>& to) {
  struct stat status;
  KJ_SYSCALL(fstat(fd, &status));
  if (cache != nullptr) {
    if (auto held = cache->find(status)) {
      memcpy(to.data(), held->view().data(), held->size);
      return;
    }
  }
  auto room = cache == nullptr ? nullptr : cache->makeRoom(status);
  if (readCachedAt(fd, to.data(), to.size(), 0) != ssize_t(to.size())) {
    KJ_ASSERT(readAt(fd, to.data(), to.size(), 0) == ssize_t(to.size()));
  }
  if (room == nullptr) return;
  memcpy(room->data(), to.data(), to.size());
  KJ_SYSCALL(fstat(fd, &status));
  cache->insert(std::move(room), status);
}

void forgetPages(const Root& root, const std::string& name) {
  posix_fadvise(openNow(root, name), 0, 0, POSIX_FADV_DONTNEED);
}

void openAndRead(benchmark::State& state, Way way) {
  size_t size = size_t(state.range(0));
  Folder folder(size);
  Cache cache(CACHE_BYTES, CachePolicy::FIFO);
  Cache* used = way == Way::CACHE ? &cache : nullptr;
  std::vector<char> to(size);
  for (auto& name : folder.names) readWhole(openNow(*folder.root, name), used, to);
  size_t i = 0;
  for (auto _ : state) {
    const std::string& name = folder.names[i++ % folder.names.size()];
    if (way == Way::DISK) {
      state.PauseTiming();
      forgetPages(*folder.root, name);
      state.ResumeTiming();
    }
    readWhole(openNow(*folder.root, name), used, to);
  }
  state.SetBytesProcessed(int64_t(state.iterations() * size));
  state.counters["cached"] = double(cache.figures().entries);
}

void readOpenFile(benchmark::State& state, Way way) {
  size_t size = size_t(state.range(0));
  Folder folder(size);
  Cache cache(CACHE_BYTES, CachePolicy::FIFO);
  Cache* used = way == Way::CACHE ? &cache : nullptr;
  std::vector<char> to(size);
  kj::AutoCloseFd fd = openNow(*folder.root, folder.names[0]);
  readWhole(fd, used, to);
  for (auto _ : state) readWhole(fd, used, to);
  state.SetBytesProcessed(int64_t(state.iterations() * size));
}

// How much the one lock of the cache costs when loops look things up at once.
void findFromManyThreads(benchmark::State& state) {
  static Cache cache(CACHE_BYTES, CachePolicy::LRU);
  struct stat status {};
  status.st_mode = S_IFREG;
  status.st_size = 4096;
  status.st_ino = ino_t(state.thread_index() + 1);
  cache.insert(cache.makeRoom(status), status);
  for (auto _ : state) benchmark::DoNotOptimize(cache.find(status));
}

BENCHMARK_CAPTURE(openAndRead, page_cache, Way::PAGE_CACHE)->Arg(1 << 10)->Arg(4 << 10)->Arg(64 << 10)->Arg(1 << 20);
BENCHMARK_CAPTURE(openAndRead, cache, Way::CACHE)->Arg(1 << 10)->Arg(4 << 10)->Arg(64 << 10)->Arg(1 << 20);
BENCHMARK_CAPTURE(openAndRead, disk, Way::DISK)->Arg(4 << 10)->Arg(64 << 10)->Arg(1 << 20)->Iterations(500);
BENCHMARK_CAPTURE(readOpenFile, page_cache, Way::PAGE_CACHE)->Arg(1 << 10)->Arg(4 << 10)->Arg(64 << 10)->Arg(1 << 20);
BENCHMARK_CAPTURE(readOpenFile, cache, Way::CACHE)->Arg(1 << 10)->Arg(4 << 10)->Arg(64 << 10)->Arg(1 << 20);
BENCHMARK(findFromManyThreads)->Threads(1)->Threads(2)->Threads(4)->UseRealTime();

}  // namespace
}  // namespace capstan::server::files

BENCHMARK_MAIN();
