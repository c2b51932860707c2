// A Capstan server made of memory, for tests of the client: the tree is a map, the network a pipe that can be slow or
// be cut at a chosen byte, the clock stands still until the test lets it go on.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include <kj/async-io.h>
#include <kj/timer.h>

#include <capstan/base/entry.h>
#include <capstan/base/error.h>
#include <capstan/rpc/peer-connection.h>
#include <capstan/schema/gateway.capnp.h>

#include "fake-compute.h"

namespace capstan::client {

struct FakeNode {
  EntryType type = EntryType::FILE;
  std::string content;
  std::vector<std::pair<uint64_t, uint64_t>> holes;  // offset and length; zeros in `content`, sent by skip()
  int64_t mtime = 1'700'000'000'123'456'789;
  uint32_t mode = 0640;
  std::string target;
  std::string version;
};

// What the server has and what it was asked; outlives its connections.
struct FakeTree {
  std::map<std::string, FakeNode> nodes;      // without the root
  std::map<std::string, std::string> staged;  // by resume key
  std::vector<Error> unread;                  // folders that a recursive listing cannot look into
  std::vector<Entry> extraListing;            // what a hostile server lists besides
  bool endlessListing = false;                // answers the same page again and again
  bool generousReads = false;                 // answers more than was asked for

  std::string token;  // that login wants; empty: none
  kj::Maybe<Error> loginError;
  uint32_t oldestVersion = 1, newestVersion = 1;
  uint32_t pageSize = 3;

  // Called before each method with its name and path: an Error is answered in place of the work.
  std::function<kj::Maybe<Error>(std::string_view method, std::string_view path)> before;
  // Called after a mutation was carried out and before it is answered.
  std::function<void(std::string_view method)> after;
  std::map<std::string, unsigned> calls;  // by method
  uint64_t bytesWritten = 0, bytesSkipped = 0, bytesStreamed = 0;

  // Asked in place of the tree's own, where they are set.
  std::function<schema::Grants::Client()> grants;
  std::function<schema::FileStore::Client()> fileStore;

  FakeComputing computing;
  uint64_t lastWaitTimeout = 0;  // that a Job.wait() had

  FakeNode& put(const std::string& path, std::string content);
  FakeNode& folder(const std::string& path);
  FakeNode& symlink(const std::string& path, std::string target);
  void touch(FakeNode& node) { node.version = "v" + std::to_string(++counter); }
  Entry entryOf(const std::string& path) const;
  bool has(const std::string& path) const { return path.empty() || nodes.count(path) > 0; }

 private:
  uint64_t counter = 0;
};

// The network, the clock and the listening server in one. Belongs to the test's event loop.
class FakeServer final : public kj::Network, private kj::TaskSet::ErrorHandler {
 public:
  FakeServer();
  ~FakeServer() noexcept(false);

  FakeTree tree;
  kj::TimerImpl timer;

  // How the network behaves from the next connection on.
  kj::Duration delay = 0 * kj::SECONDS;  // of each direction
  bool refuse = false;                   // nothing listens
  bool mute = false;                     // accepts and says nothing
  std::string greeting;                  // accepts, says this, and closes: no Capstan server
  bool hangUp = false;                   // accepts and closes
  std::vector<uint64_t> cuts;            // the next connections break after so many bytes in both directions together
  unsigned connections = 0;

  // Breaks all connections now.
  void cutAll();

  // Runs the loop until the promise has resolved, letting the clock go on, in steps of a millisecond, when nothing else
  // is left to do.
  template <typename T>
  T run(kj::Promise<T> promise, kj::WaitScope& waitScope) {
    while (!promise.poll(waitScope)) timer.advanceTo(timer.now() + 1 * kj::MILLISECONDS);
    return promise.wait(waitScope);
  }
  kj::Duration elapsed() { return timer.now() - kj::origin<kj::TimePoint>(); }

  kj::Promise<kj::Own<kj::NetworkAddress>> parseAddress(kj::StringPtr address, kj::uint portHint) override;
  kj::Own<kj::NetworkAddress> getSockaddr(const void*, kj::uint) override { KJ_UNIMPLEMENTED("not in tests"); }
  kj::Own<kj::Network> restrictPeers(kj::ArrayPtr<const kj::StringPtr>, kj::ArrayPtr<const kj::StringPtr>) override {
    KJ_UNIMPLEMENTED("not in tests");
  }

 private:
  class Address;
  rpc::WireCounters counters;
  std::vector<kj::Own<rpc::PeerConnection>> peers;
  std::vector<kj::Own<kj::AsyncIoStream>> silentPeers;
  kj::TaskSet tasks;

  kj::Own<kj::AsyncIoStream> accept();
  void taskFailed(kj::Exception&&) override {}
};

schema::Gateway::Client newFakeGateway(FakeTree& tree);

}  // namespace capstan::client
