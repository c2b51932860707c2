// What a server pays for clients that are there and do nothing: opens many connections, logs in on each with messages
// that were made beforehand, and tells the server's resident memory for each of them, and its processor time meanwhile.
// The client is raw sockets, so that it is not what is measured.
//
//   idle-connections [--tls] [--count N] [--seconds N] [--token FILE] [HOST:PORT | unix:PATH]
//
// Without an address, at a server that it starts in a process of its own, over a Unix socket, 127.0.0.1, and there with
// TLS. A server that runs already has to allow as many (--max-connections). Both processes need that many descriptors
// (ulimit -n).
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <capnp/rpc.capnp.h>
#include <capnp/serialize.h>
#include <kj/async-io.h>
#include <kj/debug.h>
#include <kj/io.h>
#include <openssl/ssl.h>

#include <capstan/base/log.h>
#include <capstan/base/text.h>
#include <capstan/rpc/address.h>
#include <capstan/rpc/event-loop.h>
#include <capstan/schema/gateway.capnp.h>
#include <capstan/server/server.h>

namespace capstan {
namespace {

namespace wire = capnp::rpc;

constexpr int PATIENCE_SECONDS = 60;
constexpr size_t AT_ONCE = 64;  // on their way: fewer than a listener's backlog

enum Question : uint32_t { BOOTSTRAP, HELLO, LOGIN };

struct Settings {
  std::optional<rpc::Address> address;  // none: a server of our own
  std::string token;
  size_t count = 10'000;
  unsigned seconds = 10;
  bool tls = false;
};

// What makes up a message, as it goes over the wire.
template <typename Fill>
std::string frame(Fill fill) {
  capnp::MallocMessageBuilder message;
  fill(message.initRoot<wire::Message>());
  auto words = capnp::messageToFlatArray(message);
  auto bytes = words.asBytes();
  return {reinterpret_cast<const char*>(bytes.begin()), bytes.size()};
}

wire::Call::Builder callGateway(wire::Message::Builder message, Question question, uint16_t method) {
  auto call = message.initCall();
  call.setQuestionId(question);
  call.setInterfaceId(capnp::typeId<schema::Gateway>());
  call.setMethodId(method);
  call.initTarget().initPromisedAnswer().setQuestionId(BOOTSTRAP);
  return call;
}

std::string opening(const std::string& token) {
  constexpr uint16_t HELLO_METHOD = 0, LOGIN_METHOD = 1;
  std::string bytes = frame([](wire::Message::Builder message) { message.initBootstrap().setQuestionId(BOOTSTRAP); });
  bytes += frame([](wire::Message::Builder message) {
    callGateway(message, HELLO, HELLO_METHOD).initParams().initContent().initAs<schema::Gateway::HelloParams>();
  });
  bytes += frame([&](wire::Message::Builder message) {
    auto call = callGateway(message, LOGIN, LOGIN_METHOD);
    auto params = call.initParams().initContent().initAs<schema::Gateway::LoginParams>();
    params.setToken(kj::arrayPtr(reinterpret_cast<const kj::byte*>(token.data()), token.size()));
    params.setProtocolVersion(schema::PROTOCOL_VERSION);
    params.setClient("idle-connections");
  });
  return bytes;
}

// As every client does: the answers are not needed any more, what came in them is.
std::string finishes() {
  std::string bytes;
  for (uint32_t question : {BOOTSTRAP, HELLO, LOGIN}) {
    bytes += frame([&](wire::Message::Builder message) {
      auto finish = message.initFinish();
      finish.setQuestionId(question);
      finish.setReleaseResultCaps(false);
    });
  }
  return bytes;
}

class Connection {
 public:
  Connection(const Settings& settings, SSL_CTX* context) : fd(connectTo(*settings.address)) {
    timeval patience{PATIENCE_SECONDS, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (context == nullptr) return;
    tls.reset(SSL_new(context));
    SSL_set_fd(tls.get(), fd);
    KJ_REQUIRE(SSL_connect(tls.get()) == 1, "no TLS with this server");
  }

  void send(const std::string& bytes) {
    for (size_t at = 0; at < bytes.size();) {
      ssize_t n = tls != nullptr ? SSL_write(tls.get(), bytes.data() + at, int(bytes.size() - at))
                                 : write(fd, bytes.data() + at, bytes.size() - at);
      KJ_REQUIRE(n > 0, "the server does not take what is sent", strerror(errno));
      at += size_t(n);
    }
  }

  // Reads until the answer to the login is there, which is the last one; notes the server's process.
  void awaitLogin(uint32_t& serverProcess) {
    InputStream input(*this);
    for (;;) {
      capnp::InputStreamMessageReader reader(input);
      auto message = reader.getRoot<wire::Message>();
      KJ_REQUIRE(message.isReturn() && message.getReturn().isResults(), "the server answered something else");
      auto content = message.getReturn().getResults().getContent();
      if (message.getReturn().getAnswerId() == HELLO) {
        serverProcess = content.getAs<schema::Gateway::HelloResults>().getInfo().getProcessId();
      }
      if (message.getReturn().getAnswerId() != LOGIN) continue;
      auto outcome = content.getAs<schema::Gateway::LoginResults>().getOutcome();
      KJ_REQUIRE(!outcome.isError(), "the server refused the login", outcome.getError().getMessage());
      return;
    }
  }

 private:
  struct Free {
    void operator()(SSL* object) const { SSL_free(object); }
  };
  kj::AutoCloseFd fd;
  std::unique_ptr<SSL, Free> tls;

  struct InputStream final : kj::InputStream {
    Connection& connection;
    explicit InputStream(Connection& connection) : connection(connection) {}
    size_t tryRead(void* buffer, size_t minBytes, size_t) override {
      // No more than is asked for: what is behind a message belongs to the next reader.
      size_t done = 0;
      while (done < minBytes) {
        char* to = static_cast<char*>(buffer) + done;
        ssize_t n = connection.tls != nullptr ? SSL_read(connection.tls.get(), to, int(minBytes - done))
                                              : ::read(connection.fd, to, minBytes - done);
        KJ_REQUIRE(n > 0, "the server ended the connection, or said nothing for a minute");
        done += size_t(n);
      }
      return done;
    }
  };

  static kj::AutoCloseFd connectUnix(const std::string& path) {
    sockaddr_un raw{};
    raw.sun_family = AF_UNIX;
    KJ_REQUIRE(path.size() < sizeof(raw.sun_path), "the path is too long for a socket");
    memcpy(raw.sun_path, path.data(), path.size());
    kj::AutoCloseFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    KJ_SYSCALL(fd.get(), "ulimit -n");
    KJ_SYSCALL(connect(fd, reinterpret_cast<sockaddr*>(&raw), sizeof(raw)), path.c_str());
    return fd;
  }

  static kj::AutoCloseFd connectTo(const rpc::Address& address) {
    if (address.kind == rpc::Address::Kind::UNIX) return connectUnix(address.path);
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    KJ_REQUIRE(getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found) == 0);
    KJ_DEFER(freeaddrinfo(found));
    kj::AutoCloseFd fd(socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    KJ_SYSCALL(fd.get(), "ulimit -n");
    KJ_SYSCALL(connect(fd, found->ai_addr, found->ai_addrlen), address.host.c_str(), address.port);
    return fd;
  }
};

// What /proc tells of another process of this user.
struct Figures {
  double resident = 0;   // KiB
  double processor = 0;  // seconds
  uint64_t switches = 0;

  static Figures of(uint32_t process) {
    Figures result;
    std::string folder = "/proc/" + std::to_string(process);
    readStatus(folder + "/status", result);
    for (auto& thread : std::filesystem::directory_iterator(folder + "/task")) {
      result.switches += switchesIn(thread.path().string() + "/status");
    }
    std::ifstream stat(folder + "/stat");
    std::string text((std::istreambuf_iterator<char>(stat)), std::istreambuf_iterator<char>());
    unsigned long user = 0, system = 0;
    size_t behindName = text.rfind(')');
    KJ_REQUIRE(behindName != std::string::npos, "the server's process cannot be looked at");
    sscanf(text.c_str() + behindName + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    result.processor = double(user + system) / double(sysconf(_SC_CLK_TCK));
    return result;
  }

 private:
  static void readStatus(const std::string& path, Figures& result) {
    std::ifstream status(path);
    for (std::string name; status >> name;) {
      if (name == "VmRSS:") status >> result.resident;
    }
  }
  static uint64_t switchesIn(const std::string& path) {
    std::ifstream status(path);
    uint64_t switches = 0;
    for (std::string name; status >> name;) {
      if (name == "voluntary_ctxt_switches:") status >> switches;
    }
    return switches;
  }
};

void raiseDescriptorLimit(size_t wanted) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  KJ_REQUIRE(limit.rlim_cur > wanted + 16, "too few descriptors: ulimit -n", limit.rlim_cur);
}

void sleepFor(unsigned seconds) { poll(nullptr, 0, int(seconds) * 1000); }

void run(const Settings& settings) {
  raiseDescriptorLimit(settings.count);
  SSL_CTX* context = nullptr;
  if (settings.tls) {
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nullptr);  // it is memory that is measured
  }
  std::string first = opening(settings.token), last = finishes();
  uint32_t process = 0;
  auto open = [&](std::vector<std::unique_ptr<Connection>>& all, size_t count) {
    size_t before = all.size();
    for (size_t i = 0; i < count; ++i) {
      all.push_back(std::make_unique<Connection>(settings, context));
      all.back()->send(first);
    }
    for (size_t i = before; i < all.size(); ++i) {
      all[i]->awaitLogin(process);
      all[i]->send(last);
    }
  };

  // What the first clients bring with them is not what each one costs.
  std::vector<std::unique_ptr<Connection>> all;
  open(all, AT_ONCE);
  all.clear();
  sleepFor(1);
  Figures before = Figures::of(process);
  while (all.size() < settings.count) open(all, std::min(AT_ONCE, settings.count - all.size()));
  sleepFor(2);
  Figures held = Figures::of(process);
  sleepFor(settings.seconds);
  Figures later = Figures::of(process);
  all.clear();
  sleepFor(2);
  Figures after = Figures::of(process);

  double count = double(settings.count);
  printf("%zu connections to %s%s, logged in\n", settings.count, settings.address->toString().c_str(),
         settings.tls ? ", TLS" : "");
  printf("  resident before        %10.0f KiB\n", before.resident);
  printf("  resident with them     %10.0f KiB, %.2f KiB each\n", later.resident,
         (later.resident - before.resident) / count);
  printf("  resident afterwards    %10.0f KiB\n", after.resident);
  printf("  processor to let in    %10.1f us each\n", (held.processor - before.processor) / count * 1e6);
  printf("  processor while idle   %10.2f ms in %u s\n", (later.processor - held.processor) * 1e3, settings.seconds);
  printf("  its threads woke       %10lu times in %u s\n", static_cast<unsigned long>(later.switches - held.switches),
         settings.seconds);
}

std::string tokenIn(const char* path) {
  std::ifstream file(path);
  std::string hex;
  file >> hex;
  auto token = fromHex(hex);
  KJ_REQUIRE(token.has_value(), "this file holds no token", path);
  return *token;
}

// In another process: its memory and processor time are to be told from the client's.
class OwnServer {
 public:
  explicit OwnServer(size_t connections) {
    char name[] = "/tmp/idle-connections-XXXXXX";
    KJ_REQUIRE(mkdtemp(name) != nullptr);
    folder = name;
    int ends[2];
    KJ_SYSCALL(pipe(ends));
    KJ_SYSCALL(process = fork());
    if (process == 0) serve(connections, ends[1]);
    close(ends[1]);
    kj::AutoCloseFd from(ends[0]);
    std::string lines;
    char byte;
    while (read(from, &byte, 1) == 1 && byte != '\n') lines += byte;
    KJ_REQUIRE(!lines.empty(), "the server did not start");
    tcp = lines;
  }
  ~OwnServer() {
    kill(process, SIGKILL);
    waitpid(process, nullptr, 0);
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }
  KJ_DISALLOW_COPY(OwnServer);

  std::string tcpAddress() const { return tcp; }
  std::string unixAddress() const { return "unix:" + folder + "/sock"; }
  std::string tokenFile() const { return folder + "/state/owner.token"; }

 private:
  std::string folder, tcp;
  pid_t process = 0;

  [[noreturn]] void serve(size_t connections, int toParent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::filesystem::create_directory(folder + "/root");
    log::setLevel(log::Level::WARNING);
    rpc::setUpMalloc();
    signal(SIGPIPE, SIG_IGN);
    auto io = kj::setupAsyncIo();
    server::ServerOptions options;
    options.root = folder + "/root";
    options.stateFolder = folder + "/state";
    options.listen = {*rpc::parseAddress("127.0.0.1:0"), *rpc::parseAddress(unixAddress())};
    auto set = options.limits.set(server::Limit::SERVER_CONNECTIONS, connections + 100);
    KJ_REQUIRE(set.ok(), set.error().message);
    auto server = server::Server::start(std::move(options), io.unixEventPort, io.provider->getTimer());
    KJ_REQUIRE(server.ok(), server.error().message);
    std::string line = (*server)->addresses()[0].toString() + "\n";
    KJ_REQUIRE(write(toParent, line.data(), line.size()) == ssize_t(line.size()));
    close(toParent);
    kj::NEVER_DONE.wait(io.waitScope);
    KJ_UNREACHABLE;
  }
};

void runAtOwnServers(Settings settings) {
  struct Way {
    bool isUnix, tls;
  };
  for (Way way : {Way{true, false}, {false, false}, {false, true}}) {
    OwnServer server(settings.count);
    settings.address = *rpc::parseAddress(way.isUnix ? server.unixAddress() : server.tcpAddress());
    settings.token = way.isUnix ? "" : tokenIn(server.tokenFile().c_str());
    settings.tls = way.tls;
    run(settings);
  }
}

Settings settingsFrom(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    bool more = i + 1 < argc;
    if (word == "--tls") {
      settings.tls = true;
    } else if (word == "--count" && more) {
      settings.count = size_t(atol(argv[++i]));
    } else if (word == "--seconds" && more) {
      settings.seconds = unsigned(atoi(argv[++i]));
    } else if (word == "--token" && more) {
      settings.token = tokenIn(argv[++i]);
    } else {
      auto address = rpc::parseAddress(word);
      KJ_REQUIRE(address.ok(), "see the head of this program's source", word.c_str());
      settings.address = *address;
    }
  }
  return settings;
}

}  // namespace
}  // namespace capstan

int main(int argc, char** argv) {
  auto settings = capstan::settingsFrom(argc, argv);
  if (settings.address) {
    capstan::run(settings);
  } else {
    capstan::runAtOwnServers(settings);
  }
  return 0;
}
