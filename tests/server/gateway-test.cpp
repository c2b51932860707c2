// The Gateway with a clock that stands still: how wrong tokens are answered.
#include <capstan/server/gateway.h>

#include <fcntl.h>

#include "../rpc/in-process-peers.h"
#include "fake-folder.h"
#include "serving.h"

namespace capstan::server {
namespace {

using testing::HasSubstr;

struct GatewayAlone {
  storage::TempFolder base;
  LogLines log;
  kj::TimerImpl timer{kj::origin<kj::TimePoint>()};
  BlockingPool pool{{.threads = 1, .queueLimit = 1}};
  ServerState state{ServerOptions(), makeToken(base.path())};
  kj::Own<ConnectionScope> scope = kj::refcounted<ConnectionScope>(state.metering.newConnection());
  // Destroyed before all that calls still under way may hold.
  kj::EventLoop loop;
  kj::WaitScope waitScope{loop};
  kj::Maybe<rpc::InProcessPeers> peers;
  kj::Promise<void> ended = nullptr;

  explicit GatewayAlone(bool needsTls = false) {
    state.folder = std::make_unique<files::FakeFolder>(files::FolderOptions());
    kj::AutoCloseFd folder(open(base.path().c_str(), O_PATH | O_DIRECTORY));
    auto grants = Grants::open({.stateFolder = folder}, state.token.sha256());
    KJ_REQUIRE(grants.ok(), grants.error().message.c_str());
    state.grants = std::move(*grants);
    prepareInfo(state);
    connectAs("somebody", needsTls);
  }

  void connectAs(const std::string& peer, bool needsTls = false) {
    peers = nullptr;
    auto context =
        kj::refcounted<ConnectionContext>(state, timer, peer, schema::Authentication::TOKEN, kj::addRef(*scope));
    auto ending = kj::newPromiseAndFulfiller<void>();
    context->ending = kj::mv(ending.fulfiller);
    ended = kj::mv(ending.promise);
    context->needsTls = needsTls;
    peers.emplace(capnp::Capability::Client(newGateway(kj::mv(context))));
  }

  std::string token() const {
    std::string hex = base.read("owner.token"), token;
    for (size_t i = 0; i + 1 < hex.size(); i += 2) token += char(std::stoi(hex.substr(i, 2), nullptr, 16));
    return token;
  }

  static OwnerToken makeToken(const std::string& folder) {
    auto token = OwnerToken::loadOrMake(folder);
    KJ_REQUIRE(token.ok(), token.error().message.c_str());
    return std::move(*token);
  }

  schema::Gateway::Client gateway() { return KJ_ASSERT_NONNULL(peers).bootstrap<schema::Gateway>(); }

  auto login(const std::string& token) {
    auto request = gateway().loginRequest();
    request.setToken(kj::arrayPtr(reinterpret_cast<const kj::byte*>(token.data()), token.size()));
    return request.send();
  }

  // How much the clock had to advance until a wrong token was answered, in milliseconds.
  unsigned delayOfWrongToken() {
    auto answer = login("wrong");
    for (unsigned waited = 0;; waited += 50) {
      if (answer.poll(waitScope)) return waited;
      if (waited > 60'000) return waited;
      timer.advanceTo(timer.now() + 50 * kj::MILLISECONDS);
    }
  }
};

TEST(Gateway, TellsWhoCameWithoutTlsOverANetworkWhatIsWantedAndLetsNoTokenIn) {
  GatewayAlone alone(true);
  auto hello = alone.gateway().helloRequest().send();
  EXPECT_EQ(hello.wait(alone.waitScope).getInfo().getName(), "capstan");
  auto answer = alone.login(alone.token()).wait(alone.waitScope);
  KJ_IF_MAYBE (error, rpc::errorIn(answer.getOutcome())) {
    EXPECT_EQ(error->code, ErrorCode::DENIED);
    EXPECT_THAT(error->message, HasSubstr("TLS"));
    EXPECT_THAT(error->message, HasSubstr("invite"));
    EXPECT_THAT(error->message, testing::Not(HasSubstr("token"))) << "clients take that for a wrong token";
  }
  else {
    ADD_FAILURE() << "it was let in";
  }
}

TEST(Gateway, AnswersEachWrongTokenMoreSlowlyThanTheOneBefore) {
  GatewayAlone alone;
  std::vector<unsigned> delays;
  for (unsigned i = 0; i < 9; ++i) delays.push_back(alone.delayOfWrongToken());
  EXPECT_THAT(delays, testing::ElementsAre(100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000));
}

TEST(Gateway, CountsWrongTokensOfAnAddressOverAllItsConnectionsAndSlowsNoOther) {
  GatewayAlone alone;
  alone.connectAs("192.0.2.1:1000");
  for (int i = 0; i < 3; ++i) alone.delayOfWrongToken();
  alone.connectAs("192.0.2.1:2000");
  EXPECT_EQ(alone.delayOfWrongToken(), 800u);
  alone.connectAs("192.0.2.2:1000");
  EXPECT_EQ(alone.delayOfWrongToken(), 100u);
  EXPECT_EQ(alone.state.throttle.failures(), 5u);
}

TEST(Gateway, AnswersARightTokenAtOnceWhileWrongOnesWait) {
  GatewayAlone alone;
  std::vector<kj::Promise<void>> wrong;
  for (int i = 0; i < 8; ++i) wrong.push_back(alone.login("wrong").ignoreResult());
  EXPECT_TRUE(rpc::errorIn(alone.login(alone.token()).wait(alone.waitScope).getOutcome()) == nullptr);
  EXPECT_FALSE(wrong[0].poll(alone.waitScope));
}

TEST(Gateway, EndsWhoeverHasTooManyWrongTokensUnderWayAndLogsThemOnce) {
  GatewayAlone alone;
  std::vector<kj::Promise<void>> wrong;
  for (int i = 0; i < 8; ++i) wrong.push_back(alone.login("wrong").ignoreResult());
  EXPECT_FALSE(alone.ended.poll(alone.waitScope));
  for (int i = 0; i < 500; ++i) wrong.push_back(alone.login("wrong").ignoreResult().catch_([](kj::Exception&&) {}));
  EXPECT_TRUE(alone.ended.poll(alone.waitScope));
  EXPECT_FALSE(wrong[0].poll(alone.waitScope));
  std::string text = alone.log.text();
  EXPECT_EQ(text.find("wrong token"), text.rfind("wrong token")) << text;
  alone.timer.advanceTo(alone.timer.now() + 2 * kj::SECONDS);
  EXPECT_FALSE(alone.login("wrong").poll(alone.waitScope));
  EXPECT_THAT(alone.log.text(), HasSubstr("more lines"));
}

TEST(Gateway, LogsWhoeverComesWithoutATokenOnceInASecond) {
  GatewayAlone alone;
  for (int i = 0; i < 100; ++i) alone.login("").wait(alone.waitScope);
  std::string text = alone.log.text();
  EXPECT_EQ(text.find("without a token"), text.rfind("without a token")) << text;
}

TEST(Gateway, AnswersHelloWhileAWrongTokenWaits) {
  GatewayAlone alone;
  auto wrong = alone.login("wrong");
  EXPECT_FALSE(wrong.poll(alone.waitScope));
  EXPECT_EQ(alone.gateway().helloRequest().send().wait(alone.waitScope).getInfo().getName(), "capstan");
}

TEST(Gateway, OutlivesAConnectionThatLeftWhileItsWrongTokenWaited) {
  GatewayAlone alone;
  {
    auto wrong = alone.login("wrong");
    EXPECT_FALSE(wrong.poll(alone.waitScope));
  }
  alone.peers = nullptr;
  alone.timer.advanceTo(alone.timer.now() + 10 * kj::SECONDS);
  alone.waitScope.poll();
  EXPECT_FALSE(alone.scope->isShared()) << "nothing holds the connection's scope any more";
}

TEST(Gateway, TakesTheRightTokenAfterWrongOnes) {
  GatewayAlone alone;
  alone.delayOfWrongToken();
  auto answer = alone.login(alone.token()).wait(alone.waitScope);
  EXPECT_TRUE(rpc::errorIn(answer.getOutcome()) == nullptr);
  EXPECT_EQ(alone.state.sessions, 1u);
}

TEST(Gateway, NamesTheReasonToOneWhoIsTooMany) {
  GatewayAlone alone;
  alone.state.loggedIn = uint32_t(Limits()[Limit::SERVER_CONNECTIONS]);
  auto answer = alone.login("").wait(alone.waitScope);
  KJ_IF_MAYBE (error, rpc::errorIn(answer.getOutcome())) {
    EXPECT_EQ(error->code, ErrorCode::LIMIT);
    EXPECT_THAT(error->message, HasSubstr("--max-connections"));
  }
  else {
    ADD_FAILURE() << "was let in";
  }
}

}  // namespace
}  // namespace capstan::server
