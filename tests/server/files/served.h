// A temporary folder served to one client over an RPC connection within one thread, and a sink that remembers what it
// got: for tests of FileStore and File.
#pragma once

#include <kj/async-io.h>

#include <memory>
#include <string>

#include "../../rpc/in-process-peers.h"
#include "../../storage/temp-folder.h"

#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/files/folder-state.h>

namespace capstan::server::files {

struct Served {
  TempFolder temp;
  kj::AsyncIoContext io = kj::setupAsyncIo();
  kj::WaitScope& waitScope = io.waitScope;
  BlockingPool pool{{2, 256}};
  std::unique_ptr<ServedFolder> folder;
  kj::Own<ConnectionScope> scope = kj::refcounted<ConnectionScope>();
  kj::Own<rpc::InProcessPeers> peers;
  schema::FileStore::Client store = nullptr;

  explicit Served(size_t cacheBytes = 1 << 20) {
    auto opened = ServedFolder::open({temp.path(), cacheBytes}, pool);
    KJ_REQUIRE(opened.ok(), opened.error().message.c_str());
    folder = std::move(*opened);
    peers = kj::heap<rpc::InProcessPeers>(folder->newFileStore(Access::ofOwner(kj::addRef(*scope))));
    store = peers->bootstrap<schema::FileStore>();
  }
  FolderState& state() { return static_cast<FolderState&>(*folder); }

  schema::File::Client open(std::string_view path) {
    auto request = store.openRequest();
    request.setPath(rpc::asData(path));
    return request.send().getFile();
  }
  template <typename Promise>
  auto wait(Promise&& promise) {
    return promise.wait(waitScope);
  }
  // Turns the loop until `done` answers true.
  template <typename Func>
  void turnUntil(Func&& done) {
    while (!done()) {
      waitScope.poll();
      sched_yield();
    }
  }
};

inline ErrorCode codeIn(schema::Outcome::Reader outcome) {
  KJ_IF_MAYBE (error, rpc::errorIn(outcome)) return error->code;
  return ErrorCode::UNSET;
}

// What a sink got; owned by the test.
struct Received {
  std::string bytes;  // holes as zeros
  uint64_t skipped = 0;
  unsigned writes = 0;
  bool ended = false;
  bool dropped = false;
  kj::Maybe<kj::Promise<void>> gate;  // the next write returns when this does
  bool fails = false;
};

class RecordingSink final : public schema::ByteSink::Server {
 public:
  explicit RecordingSink(Received& received) : received(received) {}
  ~RecordingSink() { received.dropped = true; }

 protected:
  kj::Promise<void> write(WriteContext context) override {
    if (received.fails) return KJ_EXCEPTION(FAILED, "the sink is broken");
    ++received.writes;
    received.bytes += rpc::asView(context.getParams().getData());
    KJ_IF_MAYBE (gate, received.gate) {
      auto promise = kj::mv(*gate);
      received.gate = nullptr;
      return promise;
    }
    return kj::READY_NOW;
  }
  kj::Promise<void> skip(SkipContext context) override {
    received.skipped += context.getParams().getCount();
    received.bytes.append(size_t(context.getParams().getCount()), '\0');
    return kj::READY_NOW;
  }
  kj::Promise<void> end(EndContext) override {
    received.ended = true;
    return kj::READY_NOW;
  }

 private:
  Received& received;
};

}  // namespace capstan::server::files
