// The blocking client, over a real socket against the fake server's tree on a thread of its own.
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <thread>

#include <capstan/client/blocking-client.h>

#include "client-fixture.h"

namespace capstan::client {
namespace {

using testing::HasSubstr;

// Serves a FakeTree on a port of 127.0.0.1 that the system picks, until it is destroyed.
class FakeListener {
 public:
  FakeListener() {
    KJ_SYSCALL(pipe(stopPipe));
    std::promise<uint16_t> listening;
    auto ready = listening.get_future();
    thread = std::thread([this, &listening]() { serve(listening); });
    port = ready.get();
  }
  ~FakeListener() {
    close(stopPipe[1]);
    thread.join();
    close(stopPipe[0]);
  }

  uint16_t port = 0;

 private:
  int stopPipe[2];
  std::thread thread;

  void serve(std::promise<uint16_t>& listening) {
    auto io = kj::setupAsyncIo();
    FakeTree tree;
    rpc::WireCounters counters;
    std::vector<kj::Own<rpc::PeerConnection>> peers;
    auto address = io.provider->getNetwork().parseAddress("127.0.0.1", 0).wait(io.waitScope);
    auto receiver = address->listen();
    listening.set_value(receiver->getPort());
    auto stopped = io.lowLevelProvider->wrapInputFd(stopPipe[0]);
    char byte;
    acceptNext(*receiver, tree, counters, peers)
        .exclusiveJoin(stopped->tryRead(&byte, 1, 1).ignoreResult())
        .wait(io.waitScope);
  }

  static kj::Promise<void> acceptNext(kj::ConnectionReceiver& receiver, FakeTree& tree, rpc::WireCounters& counters,
                                      std::vector<kj::Own<rpc::PeerConnection>>& peers) {
    return receiver.accept().then([&](kj::Own<kj::AsyncIoStream>&& stream) {
      peers.push_back(kj::heap<rpc::PeerConnection>(kj::mv(stream), capnp::rpc::twoparty::Side::SERVER,
                                                    capnp::Capability::Client(newFakeGateway(tree)), counters));
      return acceptNext(receiver, tree, counters, peers);
    });
  }
};

class Blocking : public testing::Test {
 protected:
  FakeListener listener;
  Options options() {
    Options options;
    options.address = {rpc::Address::Kind::TCP, "127.0.0.1", listener.port, {}};
    return options;
  }
};

TEST_F(Blocking, StoresReadsBackAndLists) {
  BlockingClient client(options());
  std::string content(3'000'000, 'x');
  UploadSettings ifAbsent;
  ifAbsent.expectation.kind = Expectation::Kind::ABSENT;
  ASSERT_TRUE(client.write(content, "folder/a", ifAbsent).ok());
  EXPECT_EQ(client.write("other", "folder/a", ifAbsent).error().code, ErrorCode::EXISTS);
  auto got = client.read("folder/a");
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_TRUE(*got == content);
  EXPECT_EQ(*client.read("folder/a", 2'999'999), "x");
  EXPECT_EQ(client.read("folder/a", 0, UINT64_MAX, 1000).error().code, ErrorCode::TOO_LARGE);
  auto entries = client.list("", true);
  ASSERT_TRUE(entries.ok());
  EXPECT_EQ(entries->size(), 2u);
  EXPECT_EQ(client.stat("nope").error().code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(client.hello()->name, "capstan");
}

TEST_F(Blocking, ComputesAndLooksAfterJobs) {
  BlockingClient client(options());
  EXPECT_EQ(std::get<int64_t>(*client.add({int64_t(2), int64_t(3)})), 5);
  EXPECT_EQ(*client.sort(std::vector<int64_t>{3, 1, 2}), (std::vector<int64_t>{1, 2, 3}));
  ASSERT_TRUE(client.write("b\na\n", "words").ok());
  std::string sorted;
  auto gather = [&](std::string_view bytes) {
    sorted += bytes;
    return okStatus();
  };
  ASSERT_TRUE(client.compute(Sorting{RemoteInput{"words"}}, gather).ok());
  EXPECT_EQ(sorted, "a\nb\n");
  ASSERT_TRUE(client.computeInto(Sorting{RemoteInput{"words"}}, "sorted").ok());
  EXPECT_EQ(*client.read("sorted"), "a\nb\n");
  auto id = client.submit(Addition{{int64_t(40), int64_t(2)}});
  ASSERT_TRUE(id.ok()) << id.error().message;
  EXPECT_EQ(client.waitForJob(*id)->state, JobState::DONE);
  EXPECT_EQ(std::get<std::vector<int64_t>>(client.jobResult(*id)->elements), std::vector<int64_t>{42});
  EXPECT_EQ(client.listJobs()->size(), 1u);
  EXPECT_EQ(client.cancelJob(*id).error().code, ErrorCode::CONFLICT);
  EXPECT_TRUE(client.forgetJob(*id).ok());
  EXPECT_EQ(client.jobStatus(*id).error().code, ErrorCode::NOT_FOUND);
}

TEST_F(Blocking, SeveralWorkOnSeveralThreads) {
  std::vector<std::thread> threads;
  std::atomic<unsigned> done{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i]() {
      BlockingClient client(options());
      if (client.write("content", std::to_string(i)).ok() && *client.read(std::to_string(i)) == "content") ++done;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(done, 4u);
}

TEST(BlockingWithoutServer, SaysThatNothingListens) {
  Options options;
  options.address = {rpc::Address::Kind::UNIX, "", 0, "/nonexistent/capstan.sock"};
  BlockingClient client(options);
  auto result = client.stat("");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::UNREACHABLE);
  EXPECT_THAT(result.error().message, HasSubstr("unix:/nonexistent/capstan.sock"));
  EXPECT_THAT(result.error().message, HasSubstr("capstan serve"));
}

TEST(BlockingWithoutServer, SaysThatTheHostIsNotKnown) {
  Options options;
  options.address = {rpc::Address::Kind::TCP, "no-such-host.invalid", 4457, ""};
  BlockingClient client(options);
  EXPECT_THAT(client.stat("").error().message, HasSubstr("no-such-host.invalid:4457"));
}

TEST(BlockingWithoutServer, APortThatNobodyListensOnIsToldByName) {
  // Bound, so that nobody else gets it, and not listening.
  int fd = socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  socklen_t size = sizeof(address);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0) GTEST_SKIP() << "no IPv6 here";
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  Options options;
  options.address = {rpc::Address::Kind::TCP, "::1", ntohs(address.sin6_port), ""};
  BlockingClient client(options);
  EXPECT_THAT(client.stat("").error().message, HasSubstr("nothing listens at [::1]:"));
  close(fd);
}

}  // namespace
}  // namespace capstan::client
