// Peers that are slow, or do nothing, in numbers: the server's memory is bounded, and does not grow with what goes on
// beside them. Both ends are in this process. 100 of each, and with CAPSTAN_TEST_LONG=1 a thousand.
#include <cstdio>

#include "../paused-stream.h"
#include "../sharing.h"

namespace capstan::server {
namespace {

constexpr uint64_t MIB = 1 << 20;
// What malloc keeps, and what one busy client brings with it.
constexpr uint64_t SLACK = 48 * MIB;

unsigned peers() { return getenv("CAPSTAN_TEST_LONG") != nullptr ? 1000 : 100; }

uint64_t residentMemory() {
  uint64_t size = 0, resident = 0;
  FILE* file = fopen("/proc/self/statm", "re");
  KJ_REQUIRE(file != nullptr && fscanf(file, "%lu %lu", &size, &resident) == 2);
  fclose(file);
  return resident * uint64_t(sysconf(_SC_PAGESIZE));
}

// A watcher that never answers.
class StuckWatcher final : public schema::Watcher::Server {
 public:
  explicit StuckWatcher(unsigned& calls) : calls(calls) {}

 protected:
  kj::Promise<void> notify(NotifyContext) override {
    ++calls;
    return kj::NEVER_DONE;
  }

 private:
  unsigned& calls;
};

class BoundedMemoryTest : public testing::Test {
 protected:
  ~BoundedMemoryTest() noexcept {}

  Sharing serving;
  std::unique_ptr<TestClient> busy;
  kj::Maybe<schema::FileStore::Client> store;
  uint64_t before = 0;

  void start() {
    serving.limit(Limit::SERVER_CONNECTIONS, peers() + 8);
    serving.base.write("root/large", std::string(8 * MIB, 'x'));
    serving.start();
    busy = std::make_unique<TestClient>(serving.connect());
    store = busy->fileStore(serving.token());
    work();
    before = residentMemory();
  }

  schema::FileStore::Client& theStore() { return KJ_ASSERT_NONNULL(store); }

  // What goes on beside: writes, changes and reads.
  void work() {
    for (unsigned i = 0; i < 100; ++i) {
      auto put = theStore().putRequest();
      put.setPath(rpc::asData("changing" + std::to_string(i % 10)));
      put.initContent(256 << 10);
      ASSERT_EQ(errorOf(serving.wait(put.send())).code, ErrorCode::UNSET);
      auto open = theStore().openRequest();
      open.setPath(rpc::asData("large"));
      auto read = open.send().getFile().readRequest();
      read.setCount(MIB);
      ASSERT_EQ(errorOf(serving.wait(read.send())).code, ErrorCode::UNSET);
    }
  }

  void expectFlat(uint64_t bytesForEach) {
    uint64_t held = residentMemory();
    for (int i = 0; i < 3; ++i) work();
    uint64_t later = residentMemory();
    printf("resident: %lu MiB before, %lu MiB with %u peers, %lu MiB after more work\n", before / MIB, held / MIB,
           peers(), later / MIB);
    EXPECT_LE(held, before + peers() * bytesForEach + SLACK);
    EXPECT_LE(later, held + SLACK);
  }
};

TEST_F(BoundedMemoryTest, IsNotMadeToGrowByReadersThatDoNotRead) {
  start();
  struct Reader {
    PausedStream::Switch pausing;
    HeldSink::State sink;
    TestClient client;
    kj::Promise<void> streaming = nullptr;

    explicit Reader(Sharing& serving) : client(serving.io.waitScope, kj::heap<PausedStream>(serving.dial(), pausing)) {
      auto open = client.fileStore(serving.token()).openRequest();
      open.setPath(rpc::asData("large"));
      auto file = serving.wait(open.send()).getFile();
      auto request = file.streamRequest();
      request.setSink(kj::heap<HeldSink>(sink));
      request.setCount(UINT64_MAX);
      pausing.pause();
      streaming = request.send().ignoreResult().eagerlyEvaluate([](kj::Exception&&) {});
    }
  };
  std::vector<std::unique_ptr<Reader>> readers;
  for (unsigned i = 0; i < peers(); ++i) readers.push_back(std::make_unique<Reader>(serving));
  ASSERT_TRUE(serving.eventually([&]() { return serving.server->activity().downloads == peers(); }));
  expectFlat(3 * MIB);  // a stream's window, and what is beside it
}

TEST_F(BoundedMemoryTest, IsNotMadeToGrowByWatchersThatDoNotAnswer) {
  start();
  unsigned calls = 0;
  std::vector<std::unique_ptr<TestClient>> clients;
  std::vector<schema::Subscription::Client> held;
  for (unsigned i = 0; i < peers(); ++i) {
    clients.push_back(std::make_unique<TestClient>(serving.connect()));
    auto request = clients.back()->fileStore(serving.token()).watchRequest();
    request.setWatcher(kj::heap<StuckWatcher>(calls));
    auto answer = serving.wait(request.send());
    ASSERT_EQ(errorOf(answer).code, ErrorCode::UNSET);
    held.push_back(answer.getSubscription());
  }
  work();
  ASSERT_TRUE(serving.eventually([&]() { return calls == peers(); }));
  expectFlat(64 << 10);
  EXPECT_EQ(calls, peers()) << "one call to each is under way, and not more";
}

TEST_F(BoundedMemoryTest, IsNotMadeToGrowByUploadsThatStall) {
  start();
  std::vector<std::unique_ptr<TestClient>> clients;
  std::vector<schema::Upload::Client> held;
  for (unsigned i = 0; i < peers(); ++i) {
    clients.push_back(std::make_unique<TestClient>(serving.connect()));
    auto request = clients.back()->fileStore(serving.token()).createRequest();
    request.setPath(rpc::asData("stalled" + std::to_string(i)));
    auto answer = serving.wait(request.send());
    ASSERT_EQ(errorOf(answer).code, ErrorCode::UNSET);
    held.push_back(answer.getUpload());
    auto write = held.back().writeRequest();
    write.initData(256 << 10);
    serving.wait(write.send());
  }
  ASSERT_EQ(serving.server->activity().uploads, peers());
  expectFlat(64 << 10);
}

}  // namespace
}  // namespace capstan::server
