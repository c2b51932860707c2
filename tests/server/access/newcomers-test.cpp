// Who has to give way when too many have not logged in yet.
#include <capstan/server/access/newcomers.h>

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace capstan::server {
namespace {

struct NewcomersTest : public testing::Test {
  ~NewcomersTest() noexcept {}

  kj::EventLoop loop;
  kj::WaitScope waitScope{loop};
  Newcomers newcomers{4, 3};
  struct Peer {
    std::unique_ptr<Newcomers::Entry> entry;
    kj::Promise<void> out;
  };
  std::vector<Peer> peers;

  Newcomers::Entry& enter(const std::string& network) {
    auto entry = newcomers.enter(network);
    auto out = entry->whenCrowdedOut();
    peers.push_back({std::move(entry), kj::mv(out)});
    return *peers.back().entry;
  }
  std::vector<bool> isOut() {
    std::vector<bool> result;
    for (auto& peer : peers) result.push_back(peer.out.poll(waitScope));
    return result;
  }
};

TEST_F(NewcomersTest, TheOldestOfANetworkGivesWayToItsNext) {
  for (int i = 0; i < 3; ++i) EXPECT_EQ(enter("a").crowding, std::nullopt);
  EXPECT_EQ(enter("a").crowding, Limit::SERVER_NETWORK_NEWCOMERS);
  EXPECT_EQ(newcomers.count(), 3u);
  EXPECT_THAT(isOut(), testing::ElementsAre(true, false, false, false));
}

TEST_F(NewcomersTest, TheNetworkThatHasMostGivesWayToTheOthers) {
  enter("few");
  for (int i = 0; i < 3; ++i) enter("many");
  EXPECT_EQ(enter("owner").crowding, Limit::SERVER_NEWCOMERS);
  EXPECT_EQ(newcomers.count(), 4u);
  EXPECT_EQ(newcomers.mostOfOne(), 2u);
  EXPECT_THAT(isOut(), testing::ElementsAre(false, true, false, false, false));
}

TEST_F(NewcomersTest, WhoHasLoggedInOrLeftGivesWayToNobodyAndMakesRoom) {
  for (int i = 0; i < 3; ++i) enter("a");
  peers[0].entry = nullptr;
  EXPECT_EQ(newcomers.count(), 2u);
  EXPECT_EQ(enter("a").crowding, std::nullopt);
  EXPECT_THAT(isOut(), testing::ElementsAre(false, false, false, false));
}

TEST_F(NewcomersTest, WhoAsksLateHearsThatItHadToGiveWay) {
  auto first = newcomers.enter("a");
  for (int i = 0; i < 3; ++i) enter("a");
  EXPECT_TRUE(first->whenCrowdedOut().poll(waitScope));
}

}  // namespace
}  // namespace capstan::server
