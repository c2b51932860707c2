// What a client's capabilities hold at the server, and how it is let go of when the grant ends.
#include <capstan/server/access/guarded.h>

#include <gtest/gtest.h>
#include <kj/async-io.h>

#include <capstan/rpc/outcome.h>
#include <capstan/schema/files.capnp.h>
#include <capstan/server/access/leases.h>

namespace capstan::server {
namespace {

// What a test sees of its objects.
struct Seen {
  unsigned alive = 0;
  unsigned aliveWhenDropped = 0;  // when a call was
};

class Held final : public Guarded<schema::File> {
 public:
  Held(kj::Own<Access> access, Seen& seen) : Guarded(kj::mv(access)), seen(seen) { ++seen.alive; }
  ~Held() noexcept(false) { --seen.alive; }

  kj::Maybe<schema::File::Client> another;  // that it holds

 protected:
  kj::Promise<void> stat(StatContext) override { return kj::READY_NOW; }
  // Never comes to an end.
  kj::Promise<void> read(ReadContext) override {
    auto dropped = kj::defer([this]() { seen.aliveWhenDropped = seen.alive; });
    return kj::Promise<void>(kj::NEVER_DONE).attach(kj::mv(dropped));
  }

 private:
  Seen& seen;
};

class GuardedTest : public ::testing::Test {
 protected:
  ~GuardedTest() noexcept {}

  kj::AsyncIoContext io = kj::setupAsyncIo();
  kj::Own<ConnectionScope> scope = kj::refcounted<ConnectionScope>();
  std::shared_ptr<Grant> grant = newShare("one");
  Seen seen;

  static std::shared_ptr<Grant> newShare(const std::string& id, int64_t expires = 0) {
    ShareTerms terms;
    terms.expires = expires;
    terms.label = id;
    return std::make_shared<Grant>(id, Grant::newOwner(), terms, 0);
  }
  kj::Own<Lease> newLease(std::shared_ptr<Grant> of) {
    return kj::refcounted<Lease>(std::move(of), kj::addRef(*scope));
  }
  kj::Own<Guard<schema::File>> newHeld(Lease& lease) {
    return newGuarded<Held>(kj::refcounted<Access>(kj::addRef(lease)), seen);
  }
  ErrorCode statCode(schema::File::Client file) {
    auto answer = file.statRequest().send().wait(io.waitScope);
    KJ_IF_MAYBE (error, rpc::errorIn(answer.getOutcome())) {
      return error->code;
    }
    return ErrorCode::UNSET;
  }
};

TEST_F(GuardedTest, GoesWithItsGrantThoughTheCapabilityIsHeld) {
  auto lease = newLease(grant), other = newLease(newShare("other"));
  schema::File::Client file = newHeld(*lease), others = newHeld(*other);
  EXPECT_EQ(statCode(file), ErrorCode::UNSET);
  EXPECT_EQ(seen.alive, 2u);
  grant->revoke();
  lease->cut();
  EXPECT_EQ(seen.alive, 1u);
  EXPECT_EQ(statCode(file), ErrorCode::REVOKED);
  EXPECT_EQ(statCode(others), ErrorCode::UNSET);
}

TEST_F(GuardedTest, IsThereUntilTheLastCallOnItIsDropped) {
  auto lease = newLease(grant);
  schema::File::Client file = newHeld(*lease);
  auto call = file.readRequest().send();
  EXPECT_FALSE(call.poll(io.waitScope));
  grant->revoke();
  lease->cut();
  auto answer = call.wait(io.waitScope);
  KJ_IF_MAYBE (error, rpc::errorIn(answer.getOutcome())) {
    EXPECT_EQ(error->code, ErrorCode::REVOKED);
  }
  EXPECT_EQ(seen.aliveWhenDropped, 1u);
  EXPECT_EQ(seen.alive, 0u);
}

TEST_F(GuardedTest, IsNotHeldAnyMoreWhenItsLeaseWasCutBefore) {
  auto lease = newLease(grant);
  grant->revoke();
  lease->cut();
  schema::File::Client file = newHeld(*lease);
  EXPECT_EQ(seen.alive, 0u);
  EXPECT_EQ(statCode(file), ErrorCode::REVOKED);
}

TEST_F(GuardedTest, AnswersThatTheGrantHasEndedAlsoWhenTheClockIsSetBackAfterwards) {
  auto lease = newLease(grant);  // which has not ended, as far as its grant can tell
  schema::File::Client file = newHeld(*lease);
  lease->cut();
  EXPECT_EQ(statCode(file), ErrorCode::REVOKED);
}

TEST_F(GuardedTest, GoesWithItsCapabilityBeforeTheEnd) {
  auto lease = newLease(grant);
  { schema::File::Client file = newHeld(*lease); }
  EXPECT_EQ(seen.alive, 0u);
  lease->cut();
}

TEST_F(GuardedTest, MayHoldTheLastThatThereIsOfItsLease) {
  scope->timer = &io.provider->getTimer();
  {
    auto lease = newLease(newShare("over", 1));
    auto guard = newHeld(*lease);
    auto& held = KJ_ASSERT_NONNULL(guard->as<Held>());
    held.another = schema::File::Client(kj::mv(guard));
  }
  EXPECT_EQ(seen.alive, 1u);
  io.waitScope.poll();  // its time is over: the lease cuts itself, and nobody else has it
  EXPECT_EQ(seen.alive, 0u);
  EXPECT_FALSE(scope->isShared()) << "the lease is gone, too";
}

TEST_F(GuardedTest, MayHoldTheLastThatThereIsOfOtherLeases) {
  Leases all;
  LoopLeases leases(all);
  std::vector<schema::File::Client> files;
  for (int i = 0; i < 10; ++i) {
    auto lease = newLease(grant), last = newLease(grant);
    leases.add(*lease);
    leases.add(*last);
    auto guard = newHeld(*lease);
    KJ_ASSERT_NONNULL(guard->as<Held>()).another = schema::File::Client(newHeld(*last));
    files.push_back(kj::mv(guard));
  }
  EXPECT_EQ(all.count("one"), 20u);
  grant->revoke();
  all.cut({grant}).wait(io.waitScope);
  EXPECT_EQ(seen.alive, 0u);
  EXPECT_EQ(all.count("one"), 10u);
}

}  // namespace
}  // namespace capstan::server
