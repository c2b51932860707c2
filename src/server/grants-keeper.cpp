#include <capstan/server/grants-keeper.h>

#include <capstan/base/log.h>
#include <capstan/rpc/outcome.h>

namespace capstan::server {

namespace {

constexpr kj::Duration INTERVAL = 1 * kj::SECONDS;  // revocations by other servers take effect within two
constexpr uint64_t LOOKS_PER_TIDYING = 60;

}  // namespace

GrantsKeeper::GrantsKeeper(ServerState& server, kj::Timer& timer)
    : server(server), timer(timer), keeping(keep().eagerlyEvaluate(nullptr)) {}

// `this` outlives `keeping`.
kj::Promise<void> GrantsKeeper::keep() {
  return timer.afterDelay(INTERVAL)
      .then([this]() { return look(); })
      .catch_([](kj::Exception&& exception) {
        log::error("looking after the shares failed: ", rpc::errorFromException(exception).message.c_str());
      })
      .then([this]() { return keep(); });
}

kj::Promise<void> GrantsKeeper::look() {
  using Found = Result<std::vector<std::shared_ptr<Grant>>>;
  // What ended by its time, and what ended while no server ran: the first look is for these.
  if (looks % LOOKS_PER_TIDYING == 0) {
    server.folder->forgetLeftovers([grants = server.grants](std::string_view id) {
      auto grant = grants->find(id);
      return grant != nullptr && grant->ended();
    });
  }
  bool isTidying = ++looks % LOOKS_PER_TIDYING == 0;
  auto job = [grants = server.grants, isTidying]() -> Found {
    if (isTidying) grants->tidy();
    return grants->refresh();
  };
  return server.shares.run(kj::mv(job)).then([this](Found ended) -> kj::Promise<void> {
    if (!ended.ok() || ended->empty()) return kj::READY_NOW;
    for (auto& grant : *ended) log::info("the share ", grant->id.c_str(), " was revoked at another server");
    // Nobody waits for an answer: the next look has not to wait for what is being applied.
    return server.cutAllUnder(std::move(*ended));
  });
}

}  // namespace capstan::server
