// A server with a real folder for one test, and short ways to share it, to log in with what was shared, and to see it
// end.
#pragma once

#include <capstan/rpc/entry-wire.h>

#include "serving.h"

namespace capstan::server {

// What a call answered: UNSET is success.
template <typename Response>
Error errorOf(Response&& response) {
  KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
    return *error;
  }
  return {};
}

struct Sharing : public Serving {
  ~Sharing() noexcept {}  // as fixtures of GoogleTest have to be

  struct Terms {
    std::string path = {};
    bool write = false;
    bool compute = false;
    std::string label = "for a test";
    uint64_t uses = 0;
    uint64_t lifetime = 0;  // nanoseconds
  };
  struct Made {
    Error error;
    std::string id, token;
  };

  template <typename Promise>
  auto wait(Promise&& promise) {
    return inTime(kj::Promise<std::decay_t<decltype(promise.wait(io.waitScope))>>(kj::mv(promise)));
  }

  Made share(schema::FileStore::Client store, const Terms& terms) {
    auto request = store.shareRequest();
    auto to = request.initTerms();
    to.setPath(rpc::asData(terms.path));
    to.initRights().setWrite(terms.write);
    to.getRights().setCompute(terms.compute);
    to.setLabel(terms.label.c_str());
    to.setUses(terms.uses);
    to.setLifetime(terms.lifetime);
    auto answer = wait(request.send());
    return {errorOf(answer), answer.getShare().getId().cStr(), std::string(rpc::asView(answer.getToken()))};
  }
  Made share(TestClient& client, const Terms& terms) { return share(client.fileStore(token()), terms); }

  schema::Grants::Client grantsOf(TestClient& client, const std::string& token) {
    return client.session(token).grantsRequest().send().getGrants();
  }
  // To another server than this one's own.
  TestClient connectTo(Server& other) {
    auto address = other.addresses().at(0).toString();
    auto& network = io.provider->getNetwork();
    return TestClient(io.waitScope, inTime(network.parseAddress(address).then([](kj::Own<kj::NetworkAddress> parsed) {
                        return parsed->connect().attach(kj::mv(parsed));
                      })));
  }

  struct Revoked {
    Error error;
    uint32_t ended;
  };
  Revoked revoke(schema::Grants::Client grants, const std::string& id) {
    auto request = grants.revokeRequest();
    request.setId(id.c_str());
    auto answer = wait(request.send());
    return {errorOf(answer), answer.getEnded()};
  }
  // What a login answers.
  Error loginError(TestClient& client, const std::string& token) { return errorOf(wait(client.login(token))); }
  Error statError(schema::FileStore::Client store, const std::string& path = {}) {
    auto request = store.statRequest();
    request.setPath(rpc::asData(path));
    return errorOf(wait(request.send()));
  }
};

// Takes what is streamed, as fast as it is let.
class HeldSink final : public schema::ByteSink::Server {
 public:
  struct State {
    uint64_t bytes = 0;
    bool ended = false;
    bool held = false;  // takes nothing more
    std::vector<kj::Own<kj::PromiseFulfiller<void>>> waiting;

    void release() {
      held = false;
      for (auto& each : waiting) each->fulfill();
      waiting.clear();
    }
  };
  explicit HeldSink(State& state) : state(state) {}

 protected:
  kj::Promise<void> write(WriteContext context) override {
    state.bytes += context.getParams().getData().size();
    if (!state.held) return kj::READY_NOW;
    auto paf = kj::newPromiseAndFulfiller<void>();
    state.waiting.push_back(kj::mv(paf.fulfiller));
    return kj::mv(paf.promise);
  }
  kj::Promise<void> end(EndContext) override {
    state.ended = true;
    return kj::READY_NOW;
  }

 private:
  State& state;
};

}  // namespace capstan::server
