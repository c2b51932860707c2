// Measures the RPC layer alone, over TCP loopback: the latency of one `hello` beside a raw ping-pong of the same size,
// calls in flight on one connection, and a stream of 256 KiB chunks. bench/rpc-bench.sh runs it together with iperf3.
//
//   rpc-bench [--library] [--fork] [--fill] [--seconds N]
//   --library: Cap'n Proto's own two-party network instead of ours;  --fork: server in another process instead of
//   another thread;
//   --fill: the sender of the stream reads each chunk out of the page cache, as the file server does.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>
#include <kj/debug.h>

#include <capstan/rpc/event-loop.h>
#include <capstan/rpc/peer-connection.h>
#include <capstan/schema/gateway.capnp.h>

namespace capstan {
namespace {

constexpr size_t CHUNK = 256 << 10;
constexpr uint64_t STREAM_BYTES = 1ull << 30;
constexpr unsigned IN_FLIGHT = 1000;

struct Settings {
  bool library = false;
  bool fork = false;
  bool fill = false;
  uint16_t port = 0;  // of a Capstan server on 127.0.0.1, to be asked instead of one of this program's own
  double seconds = 2;
};
Settings settings;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Processor time of the whole process: says more than wall time where the machine is shared.
double processorTime() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return double(time.tv_sec) + double(time.tv_nsec) * 1e-9;
}

// A file of one chunk in memory, for --fill.
int pageCacheFile() {
  static int fd = [] {
    int made;
    KJ_SYSCALL(made = memfd_create("chunk", 0));
    std::string content(CHUNK, 'x');
    KJ_ASSERT(pwrite(made, content.data(), content.size(), 0) == ssize_t(CHUNK));
    return made;
  }();
  return fd;
}

class BenchFile final : public schema::File::Server {
 public:
  kj::Promise<void> stream(StreamContext context) override {
    auto sink = context.getParams().getSink();
    uint64_t count = context.getParams().getCount();
    return sendChunks(sink, count).then([sink]() mutable { return sink.endRequest().send().ignoreResult(); });
  }

 private:
  kj::Promise<void> sendChunks(schema::ByteSink::Client sink, uint64_t left) {
    if (left == 0) return kj::READY_NOW;
    size_t size = kj::min(left, CHUNK);
    auto request = sink.writeRequest(capnp::MessageSize{size / sizeof(capnp::word) + 16, 0});
    auto data = request.initData(size);
    if (settings.fill) {
      KJ_ASSERT(pread(pageCacheFile(), data.begin(), size, 0) == ssize_t(size));
    }
    return request.send().then([this, sink, left, size]() mutable { return sendChunks(kj::mv(sink), left - size); });
  }
};

// Only what the benchmark needs on the way to a file.
class BenchFileStore final : public schema::FileStore::Server {
  kj::Promise<void> open(OpenContext context) override {
    context.getResults().setFile(kj::heap<BenchFile>());
    return kj::READY_NOW;
  }
};

class BenchSession final : public schema::Session::Server {
  kj::Promise<void> fileStore(FileStoreContext context) override {
    context.getResults().setFileStore(kj::heap<BenchFileStore>());
    return kj::READY_NOW;
  }
};

class BenchGateway final : public schema::Gateway::Server {
  kj::Promise<void> hello(HelloContext context) override {
    auto info = context.getResults().initInfo();
    info.setName("capstan");
    info.setVersion("0.1.0");
    info.setProtocolVersion(1);
    info.setProcessId(getpid());
    info.setHost("localhost");
    auto limits = info.initLimits();
    limits.setPath(4096);
    limits.setMessage(8 << 20);
    return kj::READY_NOW;
  }
  kj::Promise<void> login(LoginContext context) override {
    context.getResults().setSession(kj::heap<BenchSession>());
    return kj::READY_NOW;
  }
};

class CountingSink final : public schema::ByteSink::Server {
 public:
  explicit CountingSink(uint64_t& bytes) : bytes(bytes) {}
  kj::Promise<void> write(WriteContext context) override {
    bytes += context.getParams().getData().size();
    return kj::READY_NOW;
  }
  kj::Promise<void> end(EndContext) override { return kj::READY_NOW; }

 private:
  uint64_t& bytes;
};

// Either implementation of a connection.
struct Connection {
  rpc::WireCounters counters;
  kj::Own<rpc::PeerConnection> ours;
  kj::Own<kj::AsyncIoStream> stream;
  kj::Own<capnp::TwoPartyVatNetwork> network;
  kj::Maybe<capnp::RpcSystem<capnp::rpc::twoparty::VatId>> system;

  Connection(kj::Own<kj::AsyncIoStream> streamParam, capnp::rpc::twoparty::Side side,
             kj::Maybe<capnp::Capability::Client> bootstrap) {
    if (settings.library) {
      stream = kj::mv(streamParam);
      network = kj::heap<capnp::TwoPartyVatNetwork>(*stream, side);
      system = capnp::RpcSystem<capnp::rpc::twoparty::VatId>(*network, kj::mv(bootstrap));
    } else {
      ours = kj::heap<rpc::PeerConnection>(kj::mv(streamParam), side, kj::mv(bootstrap), counters);
    }
  }

  kj::Promise<void> onDisconnect() { return settings.library ? network->onDisconnect() : ours->onDisconnect(); }

  schema::Gateway::Client gateway() {
    if (!settings.library) return ours->bootstrap().castAs<schema::Gateway>();
    capnp::MallocMessageBuilder message(4);
    auto vatId = message.initRoot<capnp::rpc::twoparty::VatId>();
    vatId.setSide(capnp::rpc::twoparty::Side::SERVER);
    return KJ_ASSERT_NONNULL(system).bootstrap(vatId).castAs<schema::Gateway>();
  }
};

int connectTo(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  int fd;
  KJ_SYSCALL(fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  KJ_SYSCALL(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)));
  int on = 1;
  KJ_SYSCALL(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
  return fd;
}

struct Listener {
  int fd = -1;
  uint16_t port = 0;
  Listener() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    KJ_SYSCALL(fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    KJ_SYSCALL(bind(fd, reinterpret_cast<sockaddr*>(&address), size));
    KJ_SYSCALL(listen(fd, 8));
    KJ_SYSCALL(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size));
    port = ntohs(address.sin_port);
  }
  ~Listener() { close(fd); }
  int accept() {
    int accepted;
    KJ_SYSCALL(accepted = ::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC));
    int on = 1;
    KJ_SYSCALL(setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
    return accepted;
  }
};

// Serves one connection to its end.
void serveOne(Listener& listener) {
  auto io = kj::setupAsyncIo();
  rpc::setUpEventLoop(io.waitScope);
  auto stream = io.lowLevelProvider->wrapSocketFd(listener.accept(), kj::LowLevelAsyncIoProvider::TAKE_OWNERSHIP);
  Connection connection(kj::mv(stream), capnp::rpc::twoparty::Side::SERVER,
                        capnp::Capability::Client(kj::heap<BenchGateway>()));
  connection.onDisconnect().wait(io.waitScope);
}

bool readAll(int fd, char* to, size_t size) {
  while (size > 0) {
    ssize_t n = read(fd, to, size);
    if (n <= 0) return false;
    to += n;
    size -= size_t(n);
  }
  return true;
}

// The least that a question and an answer of these sizes can cost: blocking system calls, nothing else.
double rawRoundTrip(size_t question, size_t answer) {
  Listener listener;
  std::thread peer([&]() {
    int fd = listener.accept();
    std::string in(question, 0), out(answer, 'x');
    while (readAll(fd, in.data(), in.size())) KJ_ASSERT(write(fd, out.data(), out.size()) == ssize_t(out.size()));
    close(fd);
  });
  int fd = connectTo(listener.port);
  std::string out(question, 'x'), in(answer, 0);
  double start = now();
  uint64_t rounds = 0;
  while (now() - start < settings.seconds) {
    for (unsigned i = 0; i < 100; ++i, ++rounds) {
      KJ_ASSERT(write(fd, out.data(), out.size()) == ssize_t(out.size()));
      KJ_ASSERT(readAll(fd, in.data(), in.size()));
    }
  }
  double each = (now() - start) / double(rounds);
  close(fd);
  peer.join();
  return each;
}

struct Client {
  kj::AsyncIoContext io = kj::setupAsyncIo();
  kj::Own<Connection> connection;

  explicit Client(uint16_t port) {
    rpc::setUpEventLoop(io.waitScope);
    auto stream = io.lowLevelProvider->wrapSocketFd(connectTo(port), kj::LowLevelAsyncIoProvider::TAKE_OWNERSHIP);
    connection = kj::heap<Connection>(kj::mv(stream), capnp::rpc::twoparty::Side::CLIENT, nullptr);
  }
};

void measureLatency(Client& client) {
  auto gateway = client.connection->gateway();
  auto& counters = client.connection->counters;
  for (unsigned i = 0; i < 100; ++i) gateway.helloRequest().send().wait(client.io.waitScope);
  uint64_t sent = counters.bytesSent, received = counters.bytesReceived;
  uint64_t rounds = 0;
  double start = now(), processor = processorTime();
  while (now() - start < settings.seconds) {
    for (unsigned i = 0; i < 100; ++i, ++rounds) gateway.helloRequest().send().wait(client.io.waitScope);
  }
  double each = (now() - start) / double(rounds);
  processor = (processorTime() - processor) / double(rounds);
  size_t question = settings.library ? 128 : (counters.bytesSent - sent) / rounds;
  size_t answer = settings.library ? 288 : (counters.bytesReceived - received) / rounds;
  double raw = rawRoundTrip(question, answer);
  printf(
      "hello, one after the other: %.1f us (%.1f us of processor); raw TCP of the same %zu + %zu bytes: %.1f us; ratio "
      "%.2f\n",
      each * 1e6, processor * 1e6, question, answer, raw * 1e6, each / raw);
}

// Keeps IN_FLIGHT calls going until the time is over.
kj::Promise<void> callAgain(schema::Gateway::Client gateway, double end, uint64_t& calls) {
  return gateway.helloRequest().send().then([gateway, end, &calls](auto&&) mutable -> kj::Promise<void> {
    if (++calls % 128 == 0 && now() > end) end = 0;
    if (end == 0 || (calls % 16 == 0 && now() > end)) return kj::READY_NOW;
    return callAgain(kj::mv(gateway), end, calls);
  });
}

void measureCallsInFlight(Client& client) {
  auto gateway = client.connection->gateway();
  uint64_t calls = 0;
  double start = now(), processor = processorTime();
  while (now() - start < settings.seconds) {
    auto all = kj::heapArrayBuilder<kj::Promise<void>>(IN_FLIGHT);
    double end = start + settings.seconds;
    for (unsigned i = 0; i < IN_FLIGHT; ++i) all.add(callAgain(gateway, end, calls));
    kj::joinPromises(all.finish()).wait(client.io.waitScope);
  }
  double elapsed = now() - start;
  processor = processorTime() - processor;
  printf("hello, %u in flight: %.0f calls/s (%.2f us of processor each, client%s)\n", IN_FLIGHT,
         double(calls) / elapsed, processor * 1e6 / double(calls), settings.fork ? "" : " and server");
}

void measureStream(Client& client) {
  auto file = client.connection->gateway()
                  .loginRequest()
                  .send()
                  .getSession()
                  .fileStoreRequest()
                  .send()
                  .getFileStore()
                  .openRequest()
                  .send()
                  .getFile();
  uint64_t bytes = 0;
  for (unsigned round = 0; round < 3; ++round) {
    bytes = 0;
    auto request = file.streamRequest();
    request.setSink(kj::heap<CountingSink>(bytes));
    request.setCount(STREAM_BYTES);
    double start = now(), processor = processorTime();
    request.send().wait(client.io.waitScope);
    double elapsed = now() - start;
    KJ_ASSERT(bytes == STREAM_BYTES);
    printf("stream of 1 GiB%s: %.2f GB/s (%.2f s of processor%s)\n", settings.fill ? " out of the page cache" : "",
           double(bytes) / elapsed / 1e9, processorTime() - processor, settings.fork ? ", client" : "");
  }
}

void runClient(uint16_t port) {
  Client client(port);
  measureLatency(client);
  measureCallsInFlight(client);
  measureStream(client);
}

int run(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::string_view word = argv[i];
    if (word == "--library")
      settings.library = true;
    else if (word == "--fork")
      settings.fork = true;
    else if (word == "--fill")
      settings.fill = true;
    else if (word == "--seconds" && i + 1 < argc)
      settings.seconds = atof(argv[++i]);
    else if (word == "--port" && i + 1 < argc)
      settings.port = uint16_t(atoi(argv[++i]));
    else
      return fprintf(stderr, "usage: rpc-bench [--library] [--fork] [--fill] [--seconds N] | --port N\n"), 2;
  }
  setvbuf(stdout, nullptr, _IOLBF, 0);
  rpc::setUpMalloc();
  if (settings.port != 0) {
    settings.fork = true;
    Client client(settings.port);
    measureLatency(client);
    measureCallsInFlight(client);
    return 0;
  }
  Listener listener;
  if (settings.fork) {
    pid_t child = fork();
    if (child == 0) {
      serveOne(listener);
      _exit(0);
    }
    runClient(listener.port);
    waitpid(child, nullptr, 0);
  } else {
    std::thread server([&]() { serveOne(listener); });
    runClient(listener.port);
    server.join();
  }
  return 0;
}

}  // namespace
}  // namespace capstan

int main(int argc, char** argv) { return capstan::run(argc, argv); }
