// What tests of the server's side start with: a real server in this process, the replica of a folder of its tree, and a
// state.
#pragma once

#include <filesystem>
#include <fstream>
#include <random>

#include <capstan/sync/remote-replica.h>

#include "../server/serving.h"
#include "memory-side.h"

namespace capstan::sync {

class RemoteTest : public testing::Test {
 protected:
  server::Serving serving;
  kj::Own<client::Client> client;
  kj::Own<Replica> remote;
  std::unique_ptr<State> state = State::inMemory();
  MemorySide local;
  IgnoreRules ignore{{}, [](std::string_view) -> std::optional<std::string> { return std::nullopt; }};
  Replica::ApplyOptions options;
  uint64_t bytesMoved = 0;

  RemoteTest() {
    serving.start();
    options.run = std::string(16, 'r');
    options.label = "a test";
    options.onMoved = [this](const Operation&, uint64_t bytes) { bytesMoved += bytes; };
    connect("sub", true);
  }
  ~RemoteTest() noexcept override {
    remote = nullptr;
    client = nullptr;
  }

  void connect(const std::string& folder, bool watch) {
    remote = nullptr;
    serving.io.waitScope.poll();  // the loop's clock stood while the test did other things
    client::Options wanted;
    wanted.address = *rpc::parseAddress(serving.server->addresses().at(0).toString());
    wanted.token = serving.token();
    wanted.retryFor = 0;
    client = kj::heap<client::Client>(serving.io.provider->getNetwork(), serving.io.provider->getTimer(), wanted);
    remote = newRemoteReplica(*client, serving.io.provider->getTimer(), {folder, watch, true});
  }

  std::string at(const std::string& path) { return serving.base / ("root/sub/" + path); }
  void write(const std::string& path, const std::string& content) {
    std::filesystem::create_directories(std::filesystem::path(at(path)).parent_path());
    std::ofstream(at(path), std::ios::binary) << content;
  }
  std::string read(const std::string& path) { return serving.base.read("root/sub/" + path); }

  static std::string randomContent(size_t size, unsigned seed = 1) {
    std::mt19937_64 random(seed);
    std::string content(size, '\0');
    for (char& c : content) c = char(random());
    return content;
  }

  Result<Replica::Look> tryLook(std::string cursor = {}) {
    return serving.inTime(remote->look(*state, ignore, {false, false, std::move(cursor)}));
  }
  Replica::Look look(std::string cursor = {}) {
    auto looked = tryLook(std::move(cursor));
    if (looked.ok()) return std::move(*looked);
    ADD_FAILURE() << looked.error().message;
    return {};
  }
  // As if a cycle had brought it into step.
  void agree(const Replica::Look& looked) {
    std::vector<StateChange> changes;
    for (auto& [path, node] : looked.changes) {
      StateChange change;
      change.kind = node ? StateChange::Kind::SET : StateChange::Kind::ERASE;
      change.path = path;
      if (node) change.agreed = {*node, *node};
      changes.push_back(change);
    }
    ASSERT_TRUE(state->apply(changes).ok());
  }
  static std::string pathsOf(const Replica::Look& looked) {
    std::string text;
    for (auto& [path, node] : looked.changes) text += (text.empty() ? "" : " ") + (node ? path : "-" + path);
    return text;
  }

  std::vector<Result<Replica::Done>> apply(std::vector<Operation> operations) {
    return serving.inTime(remote->apply(std::move(operations), local, options));
  }
  static Operation operation(Operation::Kind kind, const std::string& path) {
    Operation one;
    one.kind = kind;
    one.path = path;
    return one;
  }
  static Operation makeFolder(const std::string& path) {
    Operation one = operation(Operation::Kind::MAKE_FOLDER, path);
    one.node.type = EntryType::DIRECTORY;
    one.node.mode = 0755;
    return one;
  }
  Operation put(const std::string& path, std::string bytes, std::optional<Node> expected = std::nullopt) {
    Operation one = operation(Operation::Kind::PUT, path);
    one.source = path;
    one.node = local.put(path, std::move(bytes));
    one.expected = std::move(expected);
    return one;
  }
  Node nodeAt(const std::string& path) {
    auto node = serving.inTime(remote->stat(path));
    if (node.ok() && *node) return **node;
    ADD_FAILURE() << "there is nothing at " << path;
    return {};
  }
};

}  // namespace capstan::sync
