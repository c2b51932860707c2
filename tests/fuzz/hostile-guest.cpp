#include "hostile-guest.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include <capstan/base/log.h>

namespace capstan::fuzz {

namespace {

namespace fs = std::filesystem;

constexpr const char* SECRET = "nobody may read, change or remove this\n";
constexpr kj::Duration PATIENCE = 20 * kj::SECONDS;

// So that the disk is not filled by a few calls that make large sparse files: what is larger fails like on a full disk.
constexpr rlim_t MAX_FILE_BYTES = 16 << 20;

void limitFiles() {
  signal(SIGXFSZ, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  rlimit limit{MAX_FILE_BYTES, MAX_FILE_BYTES};
  setrlimit(RLIMIT_FSIZE, &limit);
}

void write(const std::string& path, std::string_view content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

std::string read(const std::string& path) {
  std::stringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

unsigned numberIn(const char* variable, unsigned otherwise) {
  const char* text = getenv(variable);
  return text == nullptr ? otherwise : unsigned(strtoul(text, nullptr, 10));
}

// The log is a way out too: no line of it may hold what would make two of it.
void checkLine(log::Level, std::string_view line) {
  for (unsigned char c : line) {
    if (c < 0x20 || c == 0x7f) fail("a line of the log holds no control characters", __FILE__, __LINE__);
  }
}

// Keeps what is sent, as an input of fuzz-rpc: FUZZ_RECORD is the folder.
class Recording final : public kj::AsyncIoStream {
 public:
  Recording(kj::Own<kj::AsyncIoStream> inner, const std::string& file)
      : inner(kj::mv(inner)), record(file, std::ios::binary) {
    record << '\0';  // the form: bytes as they are
  }

  kj::Promise<size_t> tryRead(void* buffer, size_t minBytes, size_t maxBytes) override {
    return inner->tryRead(buffer, minBytes, maxBytes);
  }
  kj::Promise<void> write(const void* buffer, size_t size) override {
    record.write(static_cast<const char*>(buffer), std::streamsize(size)).flush();
    return inner->write(buffer, size);
  }
  kj::Promise<void> write(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> pieces) override {
    for (auto piece : pieces) record.write(piece.asChars().begin(), std::streamsize(piece.size()));
    record.flush();
    return inner->write(pieces);
  }
  kj::Promise<void> whenWriteDisconnected() override { return inner->whenWriteDisconnected(); }
  void shutdownWrite() override { inner->shutdownWrite(); }

 private:
  kj::Own<kj::AsyncIoStream> inner;
  std::ofstream record;
};

}  // namespace

Guest::Guest(kj::Own<kj::AsyncIoStream> stream)
    : connection(kj::heap<rpc::PeerConnection>(kj::mv(stream), capnp::rpc::twoparty::Side::CLIENT, nullptr, counters)) {
}

House& House::get() {
  // Ends before what the server's own code keeps for each thread, which is made when the first connection is.
  static House* house = [] {
    auto* made = new House;
    made->open();
    thread_local std::unique_ptr<House> owner(made);
    return owner.get();
  }();
  return *house;
}

House::House() : inputsPerServer(numberIn("FUZZ_INPUTS_PER_SERVER", 200)) {
  limitFiles();
  log::setLevel(log::Level::DEBUG);
  log::setSink(&checkLine);
  const char* parent = getenv("TMPDIR");
  folder = std::string(parent != nullptr ? parent : fs::exists("/dev/shm") ? "/dev/shm" : "/tmp") + "/fuzz-XXXXXX";
  KJ_REQUIRE(mkdtemp(folder.data()) != nullptr, "cannot make a folder for the server");
  setenv("XDG_STATE_HOME", (folder + "/user-state").c_str(), 1);
  setenv("XDG_RUNTIME_DIR", folder.c_str(), 1);
  fs::create_directory(folder + "/outside");
  write(folder + "/outside/secret", SECRET);
}

House::~House() {
  close();
  log::setSink({});
  std::error_code ignored;
  fs::remove_all(folder, ignored);
}

void House::open() {
  server::ServerOptions options;
  options.root = folder + "/root";
  options.stateFolder = folder + "/state";
  options.threads = 1;
  options.cacheBytes = 1 << 20;
  options.listen.push_back({.kind = rpc::Address::Kind::UNIX, .host = {}, .port = 0, .path = folder + "/socket"});
  options.listen.push_back({.kind = rpc::Address::Kind::TCP, .host = "127.0.0.1", .port = 0, .path = {}});
  fs::create_directories(options.root);
  auto started = server::Server::start(options, async.unixEventPort, async.provider->getTimer());
  KJ_REQUIRE(started.ok(), started.error().message.c_str());
  server = std::move(*started);
  honest = kj::heap<Guest>(dial());
  honest->gateway().helloRequest().send().wait(async.waitScope);
}

void House::close() {
  honest = nullptr;
  server = nullptr;
  std::error_code ignored;
  fs::remove_all(folder + "/root", ignored);
}

void House::tidy() {
  if (++inputs > inputsPerServer) {
    inputs = 1;
    close();
    open();
  }
  std::string root = folder + "/root/";
  std::error_code ignored;
  for (auto& entry : fs::directory_iterator(root)) {
    if (entry.path().filename() == ".capstan") continue;
    fs::permissions(entry.path(), fs::perms::owner_all, fs::perm_options::add | fs::perm_options::nofollow, ignored);
    fs::remove_all(entry.path(), ignored);
  }
  fs::create_directory(root + "d", ignored);
  write(root + "a", "one\ntwo\n3\n");
  write(root + "d/f", std::string(100'000, 'x') + "\n");
  fs::create_symlink("d/f", root + "in", ignored);
  fs::create_symlink("../outside", root + "out", ignored);
  fs::create_symlink(folder + "/outside/secret", root + "abs", ignored);
}

kj::Own<kj::AsyncIoStream> House::dial(Door door) {
  auto name = server->addresses().at(size_t(door)).toString();
  auto address = async.provider->getNetwork().parseAddress(name).wait(async.waitScope);
  auto stream = address->connect().wait(async.waitScope);
  const char* records = getenv("FUZZ_RECORD");
  if (records == nullptr) return stream;
  static unsigned number = 0;
  return kj::heap<Recording>(kj::mv(stream), std::string(records) + "/connection-" + std::to_string(number++));
}

bool House::finishes(kj::Promise<void> promise, kj::Duration patience) {
  auto late = async.provider->getTimer().afterDelay(patience).then([]() { return false; });
  return promise.then([]() { return true; }, [](kj::Exception&&) { return true; })
      .exclusiveJoin(kj::mv(late))
      .wait(async.waitScope);
}

void House::check() {
  auto& timer = async.provider->getTimer();
  auto deadline = timer.now() + PATIENCE;
  while (server->activity().connections > 1) {
    FUZZ_CHECK(timer.now() < deadline);  // the server notices that a connection is closed
    timer.afterDelay(50 * kj::MICROSECONDS).wait(async.waitScope);
  }
  auto answered = honest->gateway().helloRequest().send().then(
      [](auto&& answer) { FUZZ_CHECK(answer.getInfo().getName() == "capstan"); },
      [](kj::Exception&& exception) {
        fail("hello() is answered", __FILE__, __LINE__, exception.getDescription().cStr());
      });
  FUZZ_CHECK(finishes(kj::mv(answered), PATIENCE));

  FUZZ_CHECK(read(folder + "/outside/secret") == SECRET);
  size_t names = 0;
  for (auto& entry : fs::directory_iterator(folder + "/outside")) names += entry.exists();
  FUZZ_CHECK(names == 1);
  for (auto& entry : fs::directory_iterator(folder)) {
    std::string name = entry.path().filename();
    FUZZ_CHECK(name == "outside" || name == "root" || name == "state" || name == "socket" || name == "user-state");
  }
}

}  // namespace capstan::fuzz
