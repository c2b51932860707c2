// A temporary folder with files and computing, served to one client over an RPC connection within one thread: for tests
// of Compute, Value and Job together with FileStore and File.
#pragma once

#include "../files/served.h"

#include <capstan/schema/gateway.capnp.h>
#include <capstan/server/compute/computing.h>

namespace capstan::server::compute {

using files::codeIn;

struct Computed {
  storage::TempFolder temp;
  kj::AsyncIoContext io = kj::setupAsyncIo();
  kj::WaitScope& waitScope = io.waitScope;
  BlockingPool pool{{2, 256}};
  std::unique_ptr<files::ServedFolder> folder;
  std::unique_ptr<Computing> computing;
  kj::Own<ConnectionScope> scope;
  kj::Own<rpc::InProcessPeers> peers;
  kj::Maybe<schema::FileStore::Client> theStore;
  kj::Maybe<schema::Compute::Client> theCompute;

  explicit Computed(ComputeLimits limits = {}, Limits bounds = {})
      : scope(kj::refcounted<ConnectionScope>(newConnectionMeter(bounds))) {
    auto opened = files::ServedFolder::open({temp.path(), 1 << 20}, pool);
    KJ_REQUIRE(opened.ok(), opened.error().message.c_str());
    folder = std::move(*opened);
    auto started = Computing::open({temp.path(), limits}, *folder);
    KJ_REQUIRE(started.ok(), started.error().message.c_str());
    computing = std::move(*started);
    connect();
  }
  ~Computed() { disconnect(); }

  schema::FileStore::Client& store() { return KJ_ASSERT_NONNULL(theStore); }
  schema::Compute::Client& compute() { return KJ_ASSERT_NONNULL(theCompute); }

  void connect() {
    peers = kj::heap<rpc::InProcessPeers>(schema::Session::Client(kj::heap<TestSession>(*this)));
    auto session = peers->bootstrap<schema::Session>();
    theStore = session.fileStoreRequest().send().getFileStore();
    theCompute = session.computeRequest().send().getCompute();
  }
  void disconnect() {
    theStore = nullptr;
    theCompute = nullptr;
    peers = nullptr;
  }

  template <typename Promise>
  auto wait(Promise&& promise) {
    return promise.wait(waitScope);
  }
  template <typename Func>
  void turnUntil(Func&& done) {
    while (!done()) {
      waitScope.poll();
      sched_yield();
    }
  }

  schema::File::Client open(std::string_view path) {
    auto request = store().openRequest();
    request.setPath(rpc::asData(path));
    return request.send().getFile();
  }
  schema::Upload::Client create(std::string_view path) {
    auto request = store().createRequest();
    request.setPath(rpc::asData(path));
    return request.send().getUpload();
  }

  // a + b, sent but not waited for.
  template <typename A, typename B>
  schema::Value::Client add(A a, B b) {
    auto request = compute().addRequest();
    auto operands = request.initOperands(2);
    set(operands[0], a);
    set(operands[1], b);
    return request.send().getValue();
  }
  static void set(schema::Operand::Builder operand, int value) { operand.setInt(value); }
  static void set(schema::Operand::Builder operand, int64_t value) { operand.setInt(value); }
  static void set(schema::Operand::Builder operand, double value) { operand.setFloat(value); }
  static void set(schema::Operand::Builder operand, schema::Value::Client value) { operand.setValue(kj::mv(value)); }

  schema::Value::Client sortFile(std::string_view path, ElementType type, bool descending = false) {
    auto request = compute().sortRequest();
    auto file = request.initInput().initFile();
    file.setFile(open(path));
    file.setType(static_cast<schema::ElementType>(type));
    request.initOptions().setDescending(descending);
    return request.send().getValue();
  }

  // What a value is, waited for.
  Result<Number> number(schema::Value::Client value) {
    auto response = wait(value.readRequest().send());
    KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) return kj::mv(*error);
    auto elements = response.getElements();
    KJ_REQUIRE(response.getInfo().getSingle());
    if (elements.isInts()) return Number(int64_t(elements.getInts()[0]));
    return Number(double(elements.getFloats()[0]));
  }
  ErrorCode code(schema::Value::Client value) { return codeIn(wait(value.describeRequest().send()).getOutcome()); }

 private:
  class TestSession final : public schema::Session::Server {
   public:
    explicit TestSession(Computed& computed) : computed(computed) {}

   protected:
    kj::Promise<void> fileStore(FileStoreContext call) override {
      call.getResults().setFileStore(computed.folder->newFileStore(Access::ofOwner(kj::addRef(*computed.scope))));
      return kj::READY_NOW;
    }
    kj::Promise<void> compute(ComputeContext call) override {
      call.getResults().setCompute(computed.computing->newCompute(Access::ofOwner(kj::addRef(*computed.scope)),
                                                                  computed.io.provider->getTimer()));
      return kj::READY_NOW;
    }

   private:
    Computed& computed;
  };
};

}  // namespace capstan::server::compute
