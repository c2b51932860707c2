// Measures calls of computing against a running server on 127.0.0.1: sorting a list that the client gives, a chain of
// additions that depend on each other over a line with delay, and how soon `hello` is answered while the server sorts.
// bench/side-by-side runs it beside its peers. Prints figures alone, for a program to read.
//
//   compute-bench PORT TOKEN-FILE sort COUNT          seconds to sort so many doubles, there and back
//   compute-bench PORT TOKEN-FILE chain COUNT DELAY   seconds for so many additions, DELAY milliseconds each way
//   compute-bench PORT TOKEN-FILE ping PATH SORTS     median, 99 % and longest hello in milliseconds, while the stored
//                                                     file PATH of ints is sorted SORTS times at once; then the sorts' seconds
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <future>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <kj/async-io.h>
#include <kj/debug.h>

#include <capstan/base/file.h>
#include <capstan/base/text.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/event-loop.h>
#include <capstan/rpc/outcome.h>
#include <capstan/rpc/peer-connection.h>
#include <capstan/schema/gateway.capnp.h>

namespace capstan {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void check(schema::Outcome::Reader outcome) {
  KJ_IF_MAYBE (error, rpc::errorIn(outcome)) {
    KJ_FAIL_REQUIRE("the server answered an error", error->message.c_str());
  }
}

// One connection that is logged in.
struct Line {
  rpc::WireCounters counters;
  rpc::PeerConnection peer;
  schema::Gateway::Client gateway;
  schema::Session::Client session;
  schema::Compute::Client compute;

  Line(kj::Own<kj::AsyncIoStream> stream, const std::string& token)
      : peer(kj::mv(stream), capnp::rpc::twoparty::Side::CLIENT, nullptr, counters),
        gateway(peer.bootstrap().castAs<schema::Gateway>()),
        session(login(token)),
        compute(session.computeRequest().send().getCompute()) {}

  schema::Session::Client login(const std::string& token) {
    auto request = gateway.loginRequest();
    request.setToken(rpc::asData(token));
    return request.send().getSession();
  }
};

kj::Own<kj::AsyncIoStream> dial(kj::AsyncIoContext& io, uint16_t port) {
  auto address = io.provider->getNetwork().parseAddress("127.0.0.1", port).wait(io.waitScope);
  auto stream = address->connect().wait(io.waitScope);
  int on = 1;
  stream->setsockopt(IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return stream;
}

// Passes bytes on after a delay, as many as come.
kj::Promise<void> passOn(kj::Timer& timer, kj::AsyncIoStream& from, kj::AsyncIoStream& to, kj::Duration delay,
                         kj::TaskSet& writes, kj::ForkedPromise<void> before) {
  auto buffer = kj::heapArray<kj::byte>(64 << 10);
  kj::byte* room = buffer.begin();
  size_t most = buffer.size();
  return from.tryRead(room, 1, most)
      .then([&timer, &from, &to, delay, &writes, buffer = kj::mv(buffer),
             before = kj::mv(before)](size_t size) mutable -> kj::Promise<void> {
        if (size == 0) return kj::READY_NOW;
        auto sent = timer.afterDelay(delay)
                        .then([previous = before.addBranch()]() mutable { return kj::mv(previous); })
                        .then([&to, buffer = kj::mv(buffer), size]() mutable {
                          const kj::byte* bytes = buffer.begin();
                          return to.write(bytes, size).attach(kj::mv(buffer));
                        })
                        .fork();
        writes.add(sent.addBranch());
        return passOn(timer, from, to, delay, writes, kj::mv(sent));
      });
}

// A line with delay, on a thread of its own, for one connection.
class DelayedLine final : private kj::TaskSet::ErrorHandler {
 public:
  DelayedLine(uint16_t target, kj::Duration delay) {
    std::promise<uint16_t> listening;
    auto port = listening.get_future();
    thread = std::thread([this, target, delay, &listening]() { run(target, delay, listening); });
    listenPort = port.get();
  }
  ~DelayedLine() { thread.join(); }
  uint16_t port() const { return listenPort; }

 private:
  std::thread thread;
  uint16_t listenPort = 0;

  void taskFailed(kj::Exception&&) override {}

  void run(uint16_t target, kj::Duration delay, std::promise<uint16_t>& listening) {
    auto io = kj::setupAsyncIo();
    auto listener = io.provider->getNetwork().parseAddress("127.0.0.1", 0).wait(io.waitScope)->listen();
    listening.set_value(uint16_t(listener->getPort()));
    auto client = listener->accept().wait(io.waitScope);
    int on = 1;
    client->setsockopt(IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    auto server = dial(io, target);
    kj::TaskSet writes(*this);
    auto& timer = io.provider->getTimer();
    auto there = passOn(timer, *client, *server, delay, writes, kj::Promise<void>(kj::READY_NOW).fork());
    auto back = passOn(timer, *server, *client, delay, writes, kj::Promise<void>(kj::READY_NOW).fork());
    there.exclusiveJoin(kj::mv(back)).wait(io.waitScope);
  }
};

void sortList(kj::AsyncIoContext& io, Line& line, uint count) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> between(-1e9, 1e9);
  std::vector<double> values(count);
  for (double& value : values) value = between(random);
  line.gateway.helloRequest().send().wait(io.waitScope);

  double start = now();
  auto request = line.compute.sortRequest(capnp::MessageSize{count + 64, 0});
  auto floats = request.initInput().initElements().initFloats(count);
  for (uint i = 0; i < count; ++i) floats.set(i, values[i]);
  auto response = request.send().getValue().readRequest().send().wait(io.waitScope);
  check(response.getOutcome());
  auto sorted = response.getElements().getFloats();
  std::vector<double> result(sorted.size());
  for (uint i = 0; i < sorted.size(); ++i) result[i] = sorted[i];
  double seconds = now() - start;
  KJ_REQUIRE(result.size() == count && std::is_sorted(result.begin(), result.end()));
  printf("%.6f\n", seconds);
}

void addChain(kj::AsyncIoContext& io, uint16_t port, const std::string& token, uint count, uint delay) {
  DelayedLine delayed(port, int64_t(delay) * kj::MILLISECONDS);
  Line line(dial(io, delayed.port()), token);
  // Logged in, as a program is that computes.
  check(line.session.statusRequest().send().wait(io.waitScope).getOutcome());
  double start = now();
  kj::Maybe<schema::Value::Client> value;
  for (uint i = 0; i < count; ++i) {
    auto request = line.compute.addRequest();
    auto operands = request.initOperands(2);
    KJ_IF_MAYBE (before, value) {
      operands[0].setValue(kj::mv(*before));
    } else {
      operands[0].setInt(0);
    }
    operands[1].setInt(1);
    value = request.send().getValue();
  }
  auto response = KJ_ASSERT_NONNULL(value).readRequest().send().wait(io.waitScope);
  double seconds = now() - start;
  check(response.getOutcome());
  KJ_REQUIRE(response.getElements().getInts()[0] == count);
  printf("%.6f\n", seconds);
}

kj::Promise<void> askAgainAndAgain(Line& line, kj::Timer& timer, std::vector<double>& times, const bool& enough) {
  if (enough) return kj::READY_NOW;
  return timer.afterDelay(1 * kj::MILLISECONDS)
      .then([&line]() {
        double start = now();
        return line.gateway.helloRequest().send().then([start](auto&&) { return now() - start; });
      })
      .then([&line, &timer, &times, &enough](double seconds) {
        times.push_back(seconds);
        return askAgainAndAgain(line, timer, times, enough);
      });
}

void pingUnderSorts(kj::AsyncIoContext& io, uint16_t port, const std::string& token, const std::string& path,
                    uint sorts) {
  Line asking(dial(io, port), token);
  Line sorting(dial(io, port), token);
  auto store = sorting.session.fileStoreRequest().send().getFileStore();
  check(asking.session.statusRequest().send().wait(io.waitScope).getOutcome());
  double start = now();
  std::vector<kj::Promise<void>> ends;
  for (uint i = 0; i < sorts; ++i) {
    auto open = store.openRequest();
    open.setPath(rpc::asData(path));
    auto request = sorting.compute.sortRequest();
    auto file = request.initInput().initFile();
    file.setFile(open.send().getFile());
    file.setType(schema::ElementType::INT);
    auto value = request.send().getValue();
    auto done = value.describeRequest().send().then([](auto&& response) { check(response.getOutcome()); });
    ends.push_back(done.attach(kj::mv(value)));
  }
  auto all = kj::heapArrayBuilder<kj::Promise<void>>(ends.size());
  for (auto& end : ends) all.add(kj::mv(end));
  bool enough = false;
  std::vector<double> times;
  auto asked = askAgainAndAgain(asking, io.provider->getTimer(), times, enough).eagerlyEvaluate(nullptr);
  kj::joinPromises(all.finish()).wait(io.waitScope);
  double seconds = now() - start;
  enough = true;
  asked.wait(io.waitScope);
  std::sort(times.begin(), times.end());
  printf("%.3f %.3f %.3f %.3f %zu\n", times[times.size() / 2] * 1e3, times[times.size() * 99 / 100] * 1e3,
         times.back() * 1e3, seconds, times.size());
}

int run(int argc, char** argv) {
  if (argc < 5) {
    fprintf(stderr, "compute-bench: PORT TOKEN-FILE sort|chain|ping ...; see the head of its source\n");
    return 2;
  }
  rpc::setUpMalloc();
  auto io = kj::setupAsyncIo();
  rpc::setUpEventLoop(io.waitScope);
  auto port = uint16_t(atoi(argv[1]));
  auto text = readFile(argv[2]);
  KJ_REQUIRE(text.ok(), text.error().message.c_str());
  auto token = fromHex(text->substr(0, text->find('\n')));
  KJ_REQUIRE(token.has_value(), "the token file does not hold a token");
  std::string what = argv[3];
  if (what == "sort") {
    Line line(dial(io, port), *token);
    sortList(io, line, uint(atoi(argv[4])));
  } else if (what == "chain" && argc == 6) {
    addChain(io, port, *token, uint(atoi(argv[4])), uint(atoi(argv[5])));
  } else if (what == "ping" && argc == 6) {
    pingUnderSorts(io, port, *token, argv[4], uint(atoi(argv[5])));
  } else {
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace capstan

int main(int argc, char** argv) { return capstan::run(argc, argv); }
