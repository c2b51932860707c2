// Two local folders as sides of each other, on one event loop: what one of them reads, the other one gets.
#pragma once

#include <kj/async.h>

#include <capstan/sync/local-replica.h>

#include "local-fixture.h"

namespace capstan::sync {

class ReplicaTest : public LocalTest {
 protected:
  ReplicaTest() {
    std::filesystem::create_directory(path("tree"));
    std::filesystem::create_directory(path("from"));
  }
  ~ReplicaTest() noexcept override = default;
  void TearDown() override {
    treeOwn = nullptr;
    fromOwn = nullptr;
  }

  Replica& tree() { return made(treeOwn, "tree", watch); }
  Replica& from() { return made(fromOwn, "from", false); }
  template <typename T>
  T run(kj::Promise<T> promise) {
    return promise.wait(world.waitScope);
  }
  std::optional<Node> nodeAt(Replica& side, const std::string& path) { return expectOk(run(side.stat(path))); }

  Operation operation(Operation::Kind kind, const std::string& path, const std::string& source = {}) {
    Operation result;
    result.kind = kind;
    result.side = Side::LOCAL;
    result.path = path;
    result.source = source;
    result.expected = nodeAt(tree(), path);
    return result;
  }
  // The content of `from`'s file of this name.
  Operation put(const std::string& path) {
    Operation result = operation(Operation::Kind::PUT, path, path);
    result.node = *nodeAt(from(), path);
    return result;
  }
  Operation remove(const std::string& path) { return operation(Operation::Kind::REMOVE, path); }
  Operation makeFolder(const std::string& path, uint32_t mode = 0755) {
    Operation result = operation(Operation::Kind::MAKE_FOLDER, path);
    result.node.type = EntryType::DIRECTORY;
    result.node.mode = mode;
    return result;
  }
  std::vector<Result<Replica::Done>> apply(std::vector<Operation> operations) {
    return run(tree().apply(std::move(operations), from(), options));
  }
  // How many files in the trash have this content.
  size_t inTrash(const std::string& content) {
    size_t count = 0;
    for (auto& entry : std::filesystem::recursive_directory_iterator(path("tree/.capstan/trash"))) {
      if (!entry.is_regular_file()) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      std::stringstream all;
      all << in.rdbuf();
      count += all.str() == content;
    }
    return count;
  }

  // KJ's destructors may throw, GoogleTest's may not: what is thrown here ends the test program.
  struct World {
    kj::EventLoop loop;
    kj::WaitScope waitScope{loop};
    BlockingPool pool{{}};
    kj::Own<Replica> tree, from;
  };
  World world;
  kj::Own<Replica>& treeOwn = world.tree;
  kj::Own<Replica>& fromOwn = world.from;
  bool watch = false;
  Replica::ApplyOptions options{std::string(16, 'r'), "test", {}, {}, {}, true};

 private:
  Replica& made(kj::Own<Replica>& own, const std::string& folder, bool watches) {
    if (own.get() == nullptr) {
      LocalOptions options;
      options.folder = path(folder);
      options.watch = watches;
      own = newLocalReplica(world.pool, options);
    }
    return *own;
  }
};

}  // namespace capstan::sync
