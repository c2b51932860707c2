// Counting and bounds, at one meter and at several together.
#include <capstan/server/access/meter.h>

#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <capstan/server/access/metering.h>

namespace capstan::server {
namespace {

using testing::HasSubstr;

Limits limitsWith(std::initializer_list<std::pair<Limit, uint64_t>> values) {
  Limits limits;
  for (auto [limit, value] : values) EXPECT_TRUE(limits.set(limit, value).ok());
  return limits;
}

std::shared_ptr<const Grant> shareOf(std::shared_ptr<const Grant> parent, std::string label) {
  ShareTerms terms;
  terms.label = std::move(label);
  return std::make_shared<Grant>("id-" + terms.label, std::move(parent), terms, 0);
}

TEST(Meter, RefusesWhatWouldGoBeyondItsBoundAndSaysHowToGoOn) {
  auto meter = newConnectionMeter(limitsWith({{Limit::CONNECTION_UPLOADS, 2}}));
  Meters meters({meter});
  auto first = meters.take(Resource::UPLOADS);
  auto second = meters.take(Resource::UPLOADS);
  auto third = meters.take(Resource::UPLOADS);
  ASSERT_TRUE(first.ok() && second.ok());
  ASSERT_FALSE(third.ok());
  EXPECT_EQ(third.error().code, ErrorCode::LIMIT);
  EXPECT_EQ(third.error().message,
            "this connection has 2 uploads open, as many as it may (connection.uploads); commit or discard some");
  EXPECT_EQ(meter->used(Resource::UPLOADS), 2u);
  EXPECT_EQ(meter->kind->refusals[size_t(Resource::UPLOADS)], 1u);
  *first = Meters::Charge();
  EXPECT_TRUE(meters.take(Resource::UPLOADS).ok()) << "there is room again";
}

TEST(Meter, CountsNothingAnywhereWhereOneRefuses) {
  Metering metering(limitsWith({{Limit::SERVER_FILES, 1}}));
  auto one = metering.newConnection(), other = metering.newConnection();
  auto owner = Grant::newOwner();
  auto taken = metering.metersOf(one, *owner).take(Resource::FILES);
  ASSERT_TRUE(taken.ok());
  auto refused = metering.metersOf(other, *owner).take(Resource::FILES);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message, HasSubstr("the server has 1 files open"));
  EXPECT_THAT(refused.error().message, HasSubstr("try again later"));
  EXPECT_EQ(other->used(Resource::FILES), 0u);
  EXPECT_EQ(metering.server().used(Resource::FILES), 1u);
}

TEST(Meter, TakesNoAmountThatWouldWrapTheCountAround) {
  auto meter = newConnectionMeter(limitsWith({{Limit::CONNECTION_STAGED_BYTES, 1 << 20}}));
  Meters meters({meter});
  auto some = meters.take(Resource::STAGED_BYTES, 1000);
  ASSERT_TRUE(some.ok());
  for (uint64_t amount : {UINT64_MAX, UINT64_MAX - 999, uint64_t(1 << 20)}) {
    EXPECT_FALSE(some->grow(amount).ok()) << amount;
    EXPECT_EQ(meter->used(Resource::STAGED_BYTES), 1000u) << amount;
  }
  EXPECT_TRUE(some->grow((1 << 20) - 1000).ok()) << "up to the bound itself";
}

TEST(Meter, LetsAChargeGrowAndGivesAllOfItBack) {
  auto meter = newConnectionMeter();
  {
    auto charge = Meters({meter}).take(Resource::STAGED_BYTES, 0);
    ASSERT_TRUE(charge.ok());
    EXPECT_TRUE(charge->grow(10).ok());
    EXPECT_TRUE(charge->grow(20).ok());
    Meters::Charge moved = std::move(*charge);
    EXPECT_EQ(moved.amount(), 30u);
    EXPECT_EQ(meter->used(Resource::STAGED_BYTES), 30u);
    moved.giveBack();
    EXPECT_EQ(meter->used(Resource::STAGED_BYTES), 0u);
    EXPECT_TRUE(moved.grow(5).ok());
  }
  EXPECT_EQ(meter->used(Resource::STAGED_BYTES), 0u);
}

TEST(Meter, NeverGoesBeyondItsBoundWithManyThreads) {
  auto meter = newConnectionMeter(limitsWith({{Limit::CONNECTION_FILES, 3}}));
  Meters meters({meter});
  std::atomic<int> held{0}, most{0};
  auto work = [&]() {
    for (int i = 0; i < 20'000; ++i) {
      auto charge = meters.take(Resource::FILES);
      if (!charge.ok()) continue;
      int now = ++held, before = most.load();
      while (now > before && !most.compare_exchange_weak(before, now)) continue;
      --held;
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) threads.emplace_back(work);
  for (auto& thread : threads) thread.join();
  EXPECT_LE(most, 3);
  EXPECT_EQ(meter->used(Resource::FILES), 0u);
}

TEST(Metering, CountsAtAShareAndAllThatItWasMadeFrom) {
  Metering metering(limitsWith({{Limit::GRANT_UPLOADS, 2}}));
  auto owner = Grant::newOwner();
  auto upper = shareOf(owner, "upper"), lower = shareOf(upper, "lower"), beside = shareOf(owner, "beside");
  auto connection = metering.newConnection();
  auto first = metering.metersOf(connection, *lower).take(Resource::UPLOADS);
  auto second = metering.metersOf(connection, *upper).take(Resource::UPLOADS);
  ASSERT_TRUE(first.ok() && second.ok());
  auto third = metering.metersOf(connection, *lower).take(Resource::UPLOADS);
  ASSERT_FALSE(third.ok());
  EXPECT_THAT(third.error().message, HasSubstr("a share that it was made from has 2 uploads open"));
  auto fourth = metering.metersOf(connection, *upper).take(Resource::UPLOADS);
  EXPECT_THAT(fourth.error().message, HasSubstr("the share \"upper\" has 2 uploads open")) << "its own holder knows it";
  EXPECT_THAT(third.error().message, HasSubstr("grant.uploads"));
  EXPECT_TRUE(metering.metersOf(connection, *beside).take(Resource::UPLOADS).ok());
  EXPECT_TRUE(metering.metersOf(connection, *owner).take(Resource::UPLOADS).ok()) << "the owner has the server's limit";
}

TEST(Metering, CountsOneShareOverAllItsConnections) {
  Metering metering(limitsWith({{Limit::GRANT_CONNECTIONS, 1}}));
  auto share = shareOf(Grant::newOwner(), "one");
  auto first = metering.metersOf(metering.newConnection(), *share).take(Resource::CONNECTIONS);
  ASSERT_TRUE(first.ok());
  EXPECT_FALSE(metering.metersOf(metering.newConnection(), *share).take(Resource::CONNECTIONS).ok());
}

TEST(Metering, TellsWhoUsesMostAndWhatWasRefused) {
  Metering metering(limitsWith({{Limit::CONNECTION_FILES, 2}}));
  auto owner = Grant::newOwner();
  auto one = metering.newConnection();
  auto ones = metering.metersOf(one, *owner).take(Resource::FILES, 1);
  {
    auto two = metering.newConnection();
    auto meters = metering.metersOf(two, *owner);
    auto twos = meters.take(Resource::FILES, 2);
    EXPECT_FALSE(meters.take(Resource::FILES).ok());
    EXPECT_EQ(metering.figures()[size_t(Limit::CONNECTION_FILES)].used, 2u);
    EXPECT_EQ(metering.figures()[size_t(Limit::SERVER_FILES)].used, 3u);
    EXPECT_EQ(metering.figuresOf(meters)[size_t(Limit::SERVER_FILES)].used, 0u);
  }
  auto after = metering.figures();
  EXPECT_EQ(after[size_t(Limit::CONNECTION_FILES)].used, 1u) << "the other connection is gone";
  EXPECT_EQ(after[size_t(Limit::CONNECTION_FILES)].refused, 1u) << "what it was refused is not forgotten";
  metering.countRefusal(Limit::CONNECTION_LOGIN_TIME);
  EXPECT_EQ(metering.figures()[size_t(Limit::CONNECTION_LOGIN_TIME)].refused, 1u);
}

TEST(LimitTable, HasARowForEveryBoundOfEveryMeter) {
  std::set<std::string> names;
  for (const LimitRow& row : limitTable()) {
    EXPECT_TRUE(names.insert(row.fullName()).second) << row.fullName();
    EXPECT_LE(row.least, row.preset) << row.fullName();
    EXPECT_LE(row.preset, row.most) << row.fullName();
    EXPECT_EQ(Limits()[row.limit], row.preset);
    if (!row.resource) continue;
    // What a sentence names is what the flag takes.
    auto meter = std::make_shared<Meter>(
        "x", std::make_shared<MeterKind>(nameOf(row.scope).data(), Limits().boundsOf(row.scope), ""));
    EXPECT_THAT(meter->refusal(*row.resource, 1, meter->holder).message, HasSubstr("(" + row.fullName() + ")"));
  }
}

TEST(LimitTable, TakesOnlyWhatMakesSense) {
  Limits limits;
  EXPECT_FALSE(limits.set(Limit::CONNECTION_UPLOADS, 0).ok());
  EXPECT_FALSE(limits.set(Limit::CONNECTION_MESSAGE, 1000).ok());
  auto error = limits.set(Limit::CONNECTION_LIST_ENTRIES, 100'000);
  ASSERT_FALSE(error.ok());
  EXPECT_THAT(error.error().message, HasSubstr("16 to 2048"));
  EXPECT_TRUE(limits.set(Limit::CONNECTION_IDLE_TIME, 0).ok());
}

}  // namespace
}  // namespace capstan::server
