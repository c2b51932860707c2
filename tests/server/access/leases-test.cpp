// Cutting what is in flight under a grant, on whichever event loop it is.
#include <capstan/server/access/leases.h>

#include <atomic>
#include <future>
#include <thread>

#include <gtest/gtest.h>
#include <kj/async-io.h>

namespace capstan::server {
namespace {

std::shared_ptr<Grant> newShare(const std::string& id) {
  auto owner = Grant::newOwner();
  return std::make_shared<Grant>(id, owner, ShareTerms(), 1);
}

// An event loop on a thread of its own, with a lease of each grant and something that goes on under it.
class LoopWithLeases {
 public:
  std::atomic<unsigned> cuts{0};

  LoopWithLeases(Leases& all, std::vector<std::shared_ptr<Grant>> grants) {
    std::promise<void> started;
    thread = std::thread([&]() {
      auto io = kj::setupAsyncIo();
      auto stopping = kj::newPromiseAndCrossThreadFulfiller<void>();
      LoopLeases leases(all);
      auto scope = kj::refcounted<ConnectionScope>();
      std::vector<kj::Own<Lease>> held;
      std::vector<kj::Promise<void>> under;
      for (auto& grant : grants) {
        held.push_back(kj::refcounted<Lease>(grant, kj::addRef(*scope)));
        leases.add(*held.back());
        under.push_back(held.back()->whenCut().then([this]() { ++cuts; }).eagerlyEvaluate(nullptr));
      }
      stop = kj::mv(stopping.fulfiller);
      started.set_value();
      stopping.promise.wait(io.waitScope);
    });
    started.get_future().get();
  }
  ~LoopWithLeases() { end(); }

  void end() {
    if (!thread.joinable()) return;
    stop->fulfill();
    thread.join();
  }

 private:
  kj::Own<kj::CrossThreadPromiseFulfiller<void>> stop;
  std::thread thread;
};

TEST(Leases, AreCutOnAllLoopsWhenThePromiseResolves) {
  auto io = kj::setupAsyncIo();
  Leases all;
  auto ended = newShare("ended"), other = newShare("other");
  LoopWithLeases first(all, {ended, ended, other}), second(all, {ended, Grant::newOwner()}), third(all, {other});
  EXPECT_EQ(all.count("ended"), 3u);
  ended->revoke();
  all.cut({ended}).wait(io.waitScope);
  EXPECT_EQ(first.cuts, 2u);
  EXPECT_EQ(second.cuts, 1u);
  EXPECT_EQ(third.cuts, 0u);
}

TEST(Leases, AreForgottenWithTheirConnections) {
  auto io = kj::setupAsyncIo();
  Leases all;
  auto share = newShare("share");
  LoopWithLeases first(all, {share}), second(all, {share});
  EXPECT_EQ(all.count("share"), 2u);
  first.end();
  EXPECT_EQ(all.count("share"), 1u);
  all.cut({share}).wait(io.waitScope);
  EXPECT_EQ(second.cuts, 1u);
  EXPECT_EQ(first.cuts, 0u);
}

TEST(Leases, AreCutAtOnceWhereThereIsNoLoop) {
  auto io = kj::setupAsyncIo();
  Leases all;
  all.cut({newShare("share")}).wait(io.waitScope);
}

TEST(Leases, AreCutThoughNobodyWaitsForItAndWhileLoopsEnd) {
  auto io = kj::setupAsyncIo();
  for (int i = 0; i < 50; ++i) {
    Leases all;
    auto share = newShare("share");
    LoopWithLeases first(all, {share}), second(all, {share});
    { auto dropped = all.cut({share}); }
    std::thread ending([&]() { first.end(); });
    all.cut({share}).wait(io.waitScope);
    ending.join();
    EXPECT_EQ(second.cuts, 1u);
  }
}

}  // namespace
}  // namespace capstan::server
