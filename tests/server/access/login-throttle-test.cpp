// How wrong tokens are counted and slowed down, by address and in bounded memory.
#include <capstan/server/access/login-throttle.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace capstan::server {
namespace {

using testing::ElementsAre;

const kj::TimePoint START = kj::origin<kj::TimePoint>() + 1 * kj::HOURS;

int64_t delayOf(LoginThrottle& throttle, const std::string& network, kj::TimePoint now = START) {
  return throttle.failed(network, now).delay / kj::MILLISECONDS;
}

TEST(LoginThrottle, DoublesTheDelayUpToFiveSeconds) {
  LoginThrottle throttle;
  std::vector<int64_t> delays;
  for (int i = 0; i < 9; ++i) delays.push_back(delayOf(throttle, "10.0.0.1"));
  EXPECT_THAT(delays, ElementsAre(100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000));
  EXPECT_EQ(throttle.failures(), 9u);
}

TEST(LoginThrottle, SlowsNoOtherAddress) {
  LoginThrottle throttle;
  for (int i = 0; i < 9; ++i) delayOf(throttle, "10.0.0.1");
  EXPECT_EQ(delayOf(throttle, "10.0.0.2"), 100);
}

TEST(LoginThrottle, ForgetsAnAddressThatWasQuiet) {
  LoginThrottle throttle;
  for (int i = 0; i < 9; ++i) delayOf(throttle, "10.0.0.1");
  EXPECT_EQ(delayOf(throttle, "10.0.0.1", START + LoginThrottle::MEMORY), 5000);
  EXPECT_EQ(delayOf(throttle, "10.0.0.1", START + 2 * LoginThrottle::MEMORY + 1 * kj::NANOSECONDS), 100);
}

TEST(LoginThrottle, LetsOneLineInASecondBeLoggedAboutANetworkAndCountsTheOthers) {
  LoginThrottle throttle;
  EXPECT_EQ(throttle.mayTell("10.0.0.1", START), 0u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(throttle.mayTell("10.0.0.1", START), std::nullopt);
  EXPECT_EQ(throttle.mayTell("10.0.0.2", START), 0u);
  EXPECT_EQ(throttle.mayTell("10.0.0.1", START + 1 * kj::SECONDS), 1000u);
  EXPECT_EQ(throttle.mayTell("10.0.0.1", START + 2 * kj::SECONDS), 0u);
}

TEST(LoginThrottle, NeverRemembersMoreThanItMayAndForgetsTheOldestFirst) {
  LoginThrottle throttle;
  for (int i = 0; i < 3; ++i) delayOf(throttle, "first");
  delayOf(throttle, "second");
  delayOf(throttle, "first");
  for (size_t i = 0; i < LoginThrottle::MAX_NETWORKS - 1; ++i) delayOf(throttle, std::to_string(i));
  EXPECT_EQ(throttle.networks(), LoginThrottle::MAX_NETWORKS);
  EXPECT_EQ(delayOf(throttle, "first"), 1600) << "it failed later than the second";
  EXPECT_EQ(delayOf(throttle, "second"), 100);
  for (size_t i = 0; i < 3 * LoginThrottle::MAX_NETWORKS; ++i) delayOf(throttle, "x" + std::to_string(i));
  EXPECT_EQ(throttle.networks(), LoginThrottle::MAX_NETWORKS);
}

TEST(LoginThrottle, TakesAnAddressWithoutItsPortAndAWholeIpv6Network) {
  EXPECT_EQ(networkOf("192.0.2.7:50123"), "192.0.2.7");
  EXPECT_EQ(networkOf("192.0.2.7:50124"), networkOf("192.0.2.7:1"));
  EXPECT_NE(networkOf("192.0.2.7:50123"), networkOf("192.0.2.8:50123"));
  EXPECT_EQ(networkOf("[::ffff:192.0.2.7]:9"), "192.0.2.7");
  EXPECT_EQ(networkOf("[2001:db8:1:2::1]:5"), networkOf("[2001:db8:1:2:ffff::9]:7"));
  EXPECT_NE(networkOf("[2001:db8:1:2::1]:5"), networkOf("[2001:db8:1:3::1]:5"));
  EXPECT_EQ(networkOf("user 1000, process 4711"), networkOf("user 1000, process 4712"));
}

}  // namespace
}  // namespace capstan::server
