// A server in this process for one test, with a fake folder, a state folder and listeners of its own; clients of it on
// the test's own event loop; and what the log said.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <kj/async-io.h>

#include <capstan/base/error.h>
#include <capstan/base/log.h>
#include <capstan/rpc/outcome.h>
#include <capstan/rpc/peer-connection.h>
#include <capstan/schema/gateway.capnp.h>
#include <capstan/server/server.h>

#include "../storage/temp-folder.h"

namespace capstan::server {

inline constexpr int PATIENCE_SECONDS = 30;  // until a test gives up on something that should happen at once

// Collects what is logged, of all levels, as long as it lives.
class LogLines {
 public:
  LogLines() {
    log::setLevel(log::Level::DEBUG);
    log::setSink([this](log::Level, std::string_view line) {
      std::lock_guard lock(mutex);
      lines += std::string(line) + "\n";
    });
  }
  ~LogLines() {
    log::setSink({});
    log::setLevel(log::Level::INFO);
  }
  LogLines(const LogLines&) = delete;
  LogLines& operator=(const LogLines&) = delete;

  std::string text() const {
    std::lock_guard lock(mutex);
    return lines;
  }
  bool contains(const std::string& part) const { return text().find(part) != std::string::npos; }

 private:
  mutable std::mutex mutex;
  std::string lines;
};

// Sets a variable of the environment for one test.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name(name) {
    if (const char* old = getenv(name)) before = old;
    setenv(name, value.c_str(), 1);
  }
  ~Variable() { before ? setenv(name, before->c_str(), 1) : unsetenv(name); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name;
  std::optional<std::string> before;
};

// One connection to a server. Belongs to the test's loop.
struct TestClient {
  kj::WaitScope& waitScope;
  kj::Own<rpc::WireCounters> counters = kj::heap<rpc::WireCounters>();
  kj::Own<rpc::PeerConnection> connection;
  schema::Gateway::Client gateway;

  TestClient(kj::WaitScope& waitScope, kj::Own<kj::AsyncIoStream> stream)
      : waitScope(waitScope),
        connection(
            kj::heap<rpc::PeerConnection>(kj::mv(stream), capnp::rpc::twoparty::Side::CLIENT, nullptr, *counters)),
        gateway(connection->bootstrap().castAs<schema::Gateway>()) {}

  auto hello() { return gateway.helloRequest().send().wait(waitScope); }

  auto login(const std::string& token = {}, const std::string& name = "test", uint32_t version = 1) {
    auto request = gateway.loginRequest();
    request.setToken(kj::arrayPtr(reinterpret_cast<const kj::byte*>(token.data()), token.size()));
    request.setClient(name.c_str());
    request.setProtocolVersion(version);
    return request.send();
  }
  // What a login answers: UNSET is success.
  ErrorCode codeOfLogin(const std::string& token = {}, uint32_t version = 1) {
    auto answer = login(token, "test", version).wait(waitScope);
    KJ_IF_MAYBE (error, rpc::errorIn(answer.getOutcome())) {
      return error->code;
    }
    return ErrorCode::UNSET;
  }
  schema::Session::Client session(const std::string& token, const std::string& name = "test") {
    return login(token, name).getSession();
  }
  schema::FileStore::Client fileStore(const std::string& token) {
    return session(token).fileStoreRequest().send().getFileStore();
  }
  // An upload that is open at the server when this returns.
  schema::Upload::Client upload(const std::string& token) {
    return fileStore(token).createRequest().send().wait(waitScope).getUpload();
  }
};

struct Serving {
  storage::TempFolder base;
  Variable stateHome{"XDG_STATE_HOME", base / "user-state"};
  Variable runtimeFolder{"XDG_RUNTIME_DIR", base.path()};
  LogLines log;
  kj::AsyncIoContext io = kj::setupAsyncIo();
  ServerOptions options;
  std::unique_ptr<Server> server;

  // Prepares; start() starts. Listens on 127.0.0.1 with two loops if the test wants nothing else.
  Serving() {
    base.makeFolder("root");
    options.root = base / "root";
    options.stateFolder = base / "state";
    options.threads = 2;
    listenOn({"127.0.0.1:0"});
  }
  ~Serving() { server = nullptr; }

  void listenOn(std::initializer_list<std::string> addresses) {
    options.listen.clear();
    for (auto& text : addresses) {
      auto address = rpc::parseAddress(text);
      KJ_REQUIRE(address.ok(), text.c_str());
      options.listen.push_back(*address);
    }
  }

  void limit(Limit which, uint64_t value) {
    KJ_REQUIRE(options.limits.set(which, value).ok(), rowOf(which).name, value);
  }

  Serving& start() {
    auto started = Server::start(options, io.unixEventPort, io.provider->getTimer());
    KJ_REQUIRE(started.ok(), started.error().message.c_str());
    server = std::move(*started);
    return *this;
  }
  // The error of a start that must fail.
  Error failure() {
    auto started = Server::start(options, io.unixEventPort, io.provider->getTimer());
    if (!started.ok()) return started.error();
    ADD_FAILURE() << "the server started";
    return {};
  }

  // The secret's bytes.
  std::string token() const;

  kj::Own<kj::AsyncIoStream> dial(size_t listener = 0) {
    auto address = server->addresses().at(listener).toString();
    auto& network = io.provider->getNetwork();
    return inTime(network.parseAddress(address).then(
        [](kj::Own<kj::NetworkAddress> parsed) { return parsed->connect().attach(kj::mv(parsed)); }));
  }
  TestClient connect(size_t listener = 0) { return TestClient(io.waitScope, dial(listener)); }

  template <typename T>
  T inTime(kj::Promise<T> promise) {
    auto late = io.provider->getTimer().afterDelay(PATIENCE_SECONDS * kj::SECONDS).then([]() -> kj::Promise<T> {
      return KJ_EXCEPTION(FAILED, "it did not happen in time");
    });
    return promise.exclusiveJoin(kj::mv(late)).wait(io.waitScope);
  }

  // Waits for what happens on the server's threads.
  bool eventually(std::function<bool()> condition) {
    auto& timer = io.provider->getTimer();
    auto deadline = timer.now() + PATIENCE_SECONDS * kj::SECONDS;
    while (!condition()) {
      if (timer.now() > deadline) return false;
      timer.afterDelay(1 * kj::MILLISECONDS).wait(io.waitScope);
    }
    return true;
  }
};

inline std::string Serving::token() const {
  std::string hex = base.read("state/owner.token");
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) bytes += char(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

}  // namespace capstan::server
