// What a revocation and the end of a share's time do to what goes on under it: streams to slow readers on many
// connections (CAPSTAN_TEST_LONG=1: a thousand), calls that follow each other, uploads, subscriptions and computations.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <future>
#include <thread>

#include "../paused-stream.h"
#include "../sharing.h"

namespace capstan::server {
namespace {

using testing::HasSubstr;
using Clock = std::chrono::steady_clock;

bool isLong() { return getenv("CAPSTAN_TEST_LONG") != nullptr; }

// One connection that a large file is streamed to. Every second one stops to read.
struct StreamReader {
  PausedStream::Switch pausing;
  HeldSink::State sink;
  TestClient client;
  schema::FileStore::Client store = nullptr;
  kj::Maybe<Error> answer;
  kj::Promise<void> streaming = nullptr;

  StreamReader(Sharing& serving, const std::string& token)
      : client(serving.io.waitScope, kj::heap<PausedStream>(serving.dial(), pausing)), store(client.fileStore(token)) {
    sink.held = true;
    auto open = store.openRequest();
    open.setPath(rpc::asData("large"));
    auto request = open.send().getFile().streamRequest();
    request.setSink(kj::heap<HeldSink>(sink));
    request.setCount(UINT64_MAX);
    streaming = request.send().then([this](auto&& response) { answer = errorOf(response); }).eagerlyEvaluate(nullptr);
  }
};

// Revokes from a thread of its own, while all readers rest: what is measured is the server.
struct Revoker {
  ErrorCode code = ErrorCode::IO;
  uint32_t ended = 0;
  unsigned left = 0;  // streams open at the server when it returned
  double milliseconds = 0;

  Revoker(Sharing& serving, const std::string& id) {
    auto token = serving.token();
    std::atomic<bool> isLoggedIn{false};
    std::promise<void> go;
    std::thread thread([&]() {
      auto io = kj::setupAsyncIo();
      auto address = serving.server->addresses()[0].toString();
      auto parsed = io.provider->getNetwork().parseAddress(address).wait(io.waitScope);
      TestClient client(io.waitScope, parsed->connect().wait(io.waitScope));
      auto grants = client.session(token).grantsRequest().send().getGrants();
      grants.currentRequest().send().wait(io.waitScope);
      isLoggedIn = true;
      go.get_future().wait();
      auto request = grants.revokeRequest();
      request.setId(id.c_str());
      auto begin = Clock::now();
      auto answer = request.send().wait(io.waitScope);
      milliseconds = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
      left = serving.server->activity().downloads;
      code = errorOf(answer).code;
      ended = answer.getEnded();
    });
    // Whose loop accepts connections, too.
    EXPECT_TRUE(serving.eventually([&]() { return isLoggedIn.load(); }));
    go.set_value();
    thread.join();
  }
};

class RevocationTest : public testing::Test {
 protected:
  ~RevocationTest() noexcept {}

  Sharing serving;
  std::unique_ptr<TestClient> owner;

  void start() {
    kj::AutoCloseFd large(::open((serving.base / "root/large").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    KJ_SYSCALL(ftruncate(large, 64 << 20));
    KJ_REQUIRE(writeAt(large, "x", 1, (64 << 20) - 1));
    std::string bytes(8 << 20, 'x');  // no holes: they would be skipped
    KJ_REQUIRE(writeAt(large, bytes.data(), bytes.size(), 0));
    serving.start();
    owner = std::make_unique<TestClient>(serving.connect());
    ownersGrants = serving.grantsOf(*owner, serving.token());
  }
  schema::Grants::Client ownersGrants = nullptr;
};

TEST_F(RevocationTest, EndsAllStreamsToSlowReadersAndNothingSucceedsAfterIt) {
  const unsigned count = isLong() ? 1000 : 100;
  serving.limit(Limit::SERVER_CONNECTIONS, count + 8);
  for (auto limit : {Limit::SERVER_NEWCOMERS, Limit::SERVER_NETWORK_NEWCOMERS}) serving.limit(limit, count + 8);
  serving.limit(Limit::GRANT_CONNECTIONS, count);
  start();
  auto made = serving.share(*owner, {.write = true, .label = "to many"});
  std::vector<std::unique_ptr<StreamReader>> readers;
  for (unsigned i = 0; i < count; ++i) readers.push_back(std::make_unique<StreamReader>(serving, made.token));
  for (unsigned i = 0; i < count; ++i) {
    ASSERT_TRUE(serving.eventually([&]() { return readers[i]->sink.bytes > 0; })) << i;
    if (i % 2 == 1) readers[i]->pausing.pause();
  }
  ASSERT_EQ(serving.server->activity().downloads, count);

  Revoker revoker(serving, made.id);
  EXPECT_EQ(revoker.code, ErrorCode::UNSET);
  EXPECT_EQ(revoker.ended, 1u);
  EXPECT_EQ(revoker.left, 0u) << "streams are still open at the server";
  unsigned successes = 0;
  // All at once: the server ends their connections some seconds after the grant.
  for (auto& reader : readers) {
    reader->pausing.resume();
    reader->sink.release();
  }
  for (auto& reader : readers) {
    EXPECT_TRUE(serving.eventually([&]() { return reader->answer != nullptr; }));
    auto& error = KJ_ASSERT_NONNULL(reader->answer);
    successes += error.code == ErrorCode::UNSET;
    successes += reader->sink.ended;
    EXPECT_EQ(error.code, ErrorCode::REVOKED) << error.message;
    EXPECT_THAT(error.message, HasSubstr("to many"));
    successes += serving.statError(reader->store).code != ErrorCode::REVOKED;
  }
  EXPECT_EQ(successes, 0u);
  printf("%u streams to slow readers: revoke had cut them all and returned after %.1f ms\n", count,
         revoker.milliseconds);
  if (isLong()) EXPECT_LT(revoker.milliseconds, 100);
}

TEST_F(RevocationTest, NoCallThatIsMadeAfterItSucceeds) {
  start();
  auto made = serving.share(*owner, {.label = "busy"});
  auto guest = serving.connect();
  auto store = guest.fileStore(made.token);
  unsigned before = 0, after = 0, refused = 0;
  bool isRevoked = false, over = false;
  std::function<kj::Promise<void>()> loop = [&]() -> kj::Promise<void> {
    bool begunAfter = isRevoked;
    return store.statRequest().send().then([&, begunAfter](auto&& response) -> kj::Promise<void> {
      bool ok = errorOf(response).code == ErrorCode::UNSET;
      ++(!ok ? refused : begunAfter ? after : before);
      if (over) return kj::READY_NOW;
      return loop();
    });
  };
  kj::Vector<kj::Promise<void>> loops;
  for (int i = 0; i < 16; ++i) loops.add(loop().eagerlyEvaluate(nullptr));
  ASSERT_TRUE(serving.eventually([&]() { return before > 100; }));
  EXPECT_EQ(serving.revoke(ownersGrants, made.id).ended, 1u);
  isRevoked = true;
  unsigned refusedBefore = refused;
  ASSERT_TRUE(serving.eventually([&]() { return refused > refusedBefore + 100; }));
  over = true;
  serving.inTime(kj::joinPromises(loops.releaseAsArray()));
  EXPECT_EQ(after, 0u);
}

TEST_F(RevocationTest, KeepsUploadsFromBeingCommitted) {
  start();
  auto made = serving.share(*owner, {.write = true});
  auto guest = serving.connect();
  auto create = guest.fileStore(made.token).createRequest();
  create.setPath(rpc::asData("new"));
  auto upload = serving.wait(create.send()).getUpload();
  EXPECT_EQ(serving.server->activity().uploads, 1u);
  serving.revoke(ownersGrants, made.id);
  EXPECT_EQ(errorOf(serving.wait(upload.commitRequest().send())).code, ErrorCode::REVOKED);
  EXPECT_FALSE(std::filesystem::exists(serving.base / "root/new"));
}

// A value that is never there.
class HangingValue final : public schema::Value::Server {
 protected:
  kj::Promise<void> describe(DescribeContext) override { return kj::NEVER_DONE; }
  kj::Promise<void> read(ReadContext) override { return kj::NEVER_DONE; }
  kj::Promise<void> stream(StreamContext) override { return kj::NEVER_DONE; }
};

TEST_F(RevocationTest, EndsComputationsThoughTheirValuesAreHeld) {
  start();
  auto made = serving.share(*owner, {.compute = true, .label = "computed"});
  auto guest = serving.connect();
  auto request = guest.session(made.token).computeRequest().send().getCompute().addRequest();
  auto operands = request.initOperands(2);
  operands[0].setInt(1);
  operands[1].setValue(kj::heap<HangingValue>());
  auto value = request.send().getValue();
  auto computations = [&]() {
    auto status = serving.wait(owner->session(serving.token()).statusRequest().send());
    return status.getStatus().getComputations();
  };
  auto described = value.describeRequest().send().eagerlyEvaluate(nullptr);
  ASSERT_TRUE(serving.eventually([&]() { return computations() == 1; }));
  serving.revoke(ownersGrants, made.id);
  EXPECT_EQ(computations(), 0u);
  auto error = errorOf(serving.wait(kj::mv(described)));
  EXPECT_EQ(error.code, ErrorCode::REVOKED);
  EXPECT_THAT(error.message, HasSubstr("computed"));
}

TEST_F(RevocationTest, ASharesTimeEndsWhatGoesOnUnderItByItself) {
  start();
  auto made = serving.share(*owner, {.label = "short", .lifetime = 1'000'000'000});
  StreamReader reader(serving, made.token);
  ASSERT_TRUE(serving.eventually([&]() { return reader.answer != nullptr; }));
  auto& error = KJ_ASSERT_NONNULL(reader.answer);
  EXPECT_EQ(error.code, ErrorCode::EXPIRED) << error.message;
  EXPECT_THAT(error.message, HasSubstr("short"));
  EXPECT_EQ(serving.loginError(reader.client, made.token).code, ErrorCode::EXPIRED);
  EXPECT_TRUE(serving.eventually([&]() { return serving.server->activity().downloads == 0; }));
}

}  // namespace
}  // namespace capstan::server
