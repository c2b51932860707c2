// The orderly end: nobody new, nothing new, and time for what is in flight.
#include <sys/stat.h>

#include "serving.h"

namespace capstan::server {
namespace {

constexpr uint64_t MILLISECOND = 1'000'000;
constexpr uint64_t HOUR = 3600ull * 1000 * MILLISECOND;

ErrorCode codeOfCreate(schema::FileStore::Client store, kj::WaitScope& waitScope) {
  auto answer = store.createRequest().send().wait(waitScope);
  KJ_IF_MAYBE (error, rpc::errorIn(answer.getOutcome())) {
    return error->code;
  }
  return ErrorCode::UNSET;
}

TEST(Drain, OfAServerWithoutConnectionsIsOverAtOnce) {
  Serving serving;
  serving.options.drainGrace = HOUR;
  serving.start();
  serving.inTime(serving.server->drain());
}

TEST(Drain, DoesNotWaitForConnectionsThatDoNothing) {
  Serving serving;
  serving.options.drainGrace = HOUR;
  serving.start();
  auto idle = serving.connect();
  EXPECT_EQ(idle.codeOfLogin(serving.token()), ErrorCode::UNSET);
  serving.inTime(serving.server->drain());
  serving.server = nullptr;
  serving.inTime(idle.connection->onDisconnect());
}

TEST(Drain, WaitsForAnUploadThatIsOpen) {
  Serving serving;
  serving.options.drainGrace = HOUR;
  serving.start();
  auto client = serving.connect();
  kj::Maybe<schema::Upload::Client> upload = client.upload(serving.token());
  auto drained = serving.server->drain().eagerlyEvaluate(nullptr);
  // It looks every 50 ms, and ends when it has seen quiet twice.
  serving.io.provider->getTimer().afterDelay(200 * kj::MILLISECONDS).wait(serving.io.waitScope);
  EXPECT_FALSE(drained.poll(serving.io.waitScope));
  KJ_ASSERT_NONNULL(upload).commitRequest().send().wait(serving.io.waitScope);
  EXPECT_FALSE(drained.poll(serving.io.waitScope));
  upload = nullptr;
  serving.inTime(kj::mv(drained));
}

TEST(Drain, EndsWhenTheGraceIsOver) {
  Serving serving;
  serving.options.drainGrace = 50 * MILLISECOND;
  serving.start();
  auto client = serving.connect();
  auto upload = client.upload(serving.token());
  serving.inTime(serving.server->drain());
  EXPECT_EQ(serving.server->activity().uploads, 1u);
  serving.server = nullptr;
  serving.inTime(client.connection->onDisconnect());
}

TEST(Drain, LetsNobodyInAndStartsNothingNew) {
  Serving serving;
  serving.listenOn({"127.0.0.1:0", "unix:" + serving.base / "s.sock"});
  serving.options.drainGrace = HOUR;
  serving.start();
  auto client = serving.connect();
  auto store = client.fileStore(serving.token());
  auto upload = client.upload(serving.token());
  EXPECT_EQ(codeOfCreate(store, serving.io.waitScope), ErrorCode::UNSET);
  auto drained = serving.server->drain().eagerlyEvaluate(nullptr);

  EXPECT_THROW(serving.dial(0), kj::Exception);
  EXPECT_THROW(serving.dial(1), kj::Exception);
  struct stat status;
  EXPECT_NE(lstat((serving.base / "s.sock").c_str(), &status), 0) << "the socket's file is gone";
  EXPECT_EQ(client.codeOfLogin(serving.token()), ErrorCode::SHUTTING_DOWN);
  EXPECT_TRUE(
      serving.eventually([&]() { return codeOfCreate(store, serving.io.waitScope) == ErrorCode::SHUTTING_DOWN; }));
  EXPECT_FALSE(drained.poll(serving.io.waitScope));
}

}  // namespace
}  // namespace capstan::server
