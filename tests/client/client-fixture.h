// What most tests of the client start with: an event loop, a fake server, a client of it, and a temporary folder.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>

#include <capstan/client/client.h>

#include "fake-server.h"

namespace capstan::client {

class ClientTest : public testing::Test {
 protected:
  ClientTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "capstan-client-XXXXXX";
    local = mkdtemp(pattern.data());
    options.address = {rpc::Address::Kind::TCP, "server.example", 4457, {}};
    options.security.kind = rpc::Security::Kind::PLAIN;
    options.connectTimeout = 10'000'000'000;
    options.onRetry = [this](const std::string& reason, uint64_t wait) {
      retries.push_back(reason);
      waits.push_back(wait);
    };
  }
  ~ClientTest() noexcept override = default;
  void TearDown() override {
    clientOwn = nullptr;
    std::filesystem::remove_all(local);
  }

  // Made with the options as they are at the first use.
  Client& client() {
    if (clientOwn.get() == nullptr) clientOwn = kj::heap<Client>(server, server.timer, options);
    return *clientOwn;
  }
  template <typename T>
  T run(kj::Promise<T> promise) {
    return server.run(kj::mv(promise), waitScope);
  }
  TransferSummary upload(const std::string& from, const std::string& to, UploadSettings settings = {}) {
    return expectOk(run(client().upload(from, to, settings)));
  }
  TransferSummary download(const std::string& from, const std::string& to, DownloadSettings settings = {}) {
    return expectOk(run(client().download(from, to, settings)));
  }
  template <typename T>
  T expectOk(Result<T> result) {
    if (result.ok()) return std::move(*result);
    ADD_FAILURE() << kebabCase(result.error().code) << ": " << result.error().message;
    return T{};
  }
  template <typename T>
  Error expectError(const Result<T>& result, ErrorCode code) {
    if (result.ok()) {
      ADD_FAILURE() << "it worked";
      return {};
    }
    EXPECT_EQ(kebabCase(result.error().code), kebabCase(code)) << result.error().message;
    return result.error();
  }

  std::string path(const std::string& name) const { return local + "/" + name; }
  std::string writeLocal(const std::string& name, const std::string& content) {
    std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
    std::ofstream(path(name), std::ios::binary) << content;
    return path(name);
  }
  std::string readLocal(const std::string& name) const {
    std::ifstream in(path(name), std::ios::binary);
    std::stringstream all;
    all << in.rdbuf();
    return in ? all.str() : "(not there)";
  }
  // The names in the temporary folder, hidden ones too.
  std::vector<std::string> localNames(const std::string& folder = "") const {
    std::vector<std::string> names;
    for (auto& entry : std::filesystem::directory_iterator(path(folder))) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  static std::string randomContent(size_t size, unsigned seed = 1) {
    std::mt19937_64 random(seed);
    std::string content(size, '\0');
    for (size_t i = 0; i < size; i += 7) content[i] = char(random());
    return content;
  }

  // KJ's destructors may throw, GoogleTest's may not: what is thrown here ends the test program.
  struct World {
    kj::EventLoop loop;
    kj::WaitScope waitScope{loop};
    FakeServer server;
    kj::Own<Client> client;
  };
  World world;
  kj::WaitScope& waitScope = world.waitScope;
  FakeServer& server = world.server;
  kj::Own<Client>& clientOwn = world.client;
  Options options;
  std::string local;
  std::vector<std::string> retries;
  std::vector<uint64_t> waits;
};

// Gathers what is read.
class StringConsumer final : public ByteConsumer {
 public:
  std::string content;
  uint64_t skipped = 0;
  kj::Promise<Status> write(std::string_view bytes) override {
    content += bytes;
    return okStatus();
  }
  kj::Promise<Status> skip(uint64_t zeros) override {
    content.append(zeros, '\0');
    skipped += zeros;
    return okStatus();
  }
};

class StringProducer final : public ByteProducer {
 public:
  explicit StringProducer(std::string content, size_t step = 70'000) : content(std::move(content)), step(step) {}
  kj::Promise<Result<size_t>> read(char* buffer, size_t size) override {
    size_t count = std::min({size, step, content.size() - position});
    memcpy(buffer, content.data() + position, count);
    position += count;
    return Result<size_t>(count);
  }

 private:
  std::string content;
  size_t step;
  size_t position = 0;
};

}  // namespace capstan::client
