// What is counted of uploads that were left and can be resumed.
#include <capstan/server/files/leftovers.h>

#include <gtest/gtest.h>

#include <capstan/base/file.h>
#include <capstan/server/access/limits.h>
#include <capstan/storage/staged-file.h>

#include "../../storage/temp-folder.h"

namespace capstan::server::files {
namespace {

using storage::Root;
using storage::Staging;

class LeftoversTest : public ::testing::Test {
 protected:
  storage::TempFolder temp;
  std::unique_ptr<Root> root = std::move(Root::open(temp.path()).value());
  std::unique_ptr<Staging> staging = std::move(Staging::open(*root, 3600'000'000'000).value());
  Leftovers leftovers{*staging};
  std::shared_ptr<Grant> grant = std::make_shared<Grant>("0123456789abcdef", Grant::newOwner(), ShareTerms{}, 0);
  std::shared_ptr<Meter> meter = newConnectionMeter(Limits());
  Meters meters{{meter}};

  std::string nameOf(const std::string& key) { return Staging::resumeNameOf(grant->id, "uploaded", key); }
  void forgetEnded() {
    leftovers.forgetEnded([this](std::string_view id) { return id == grant->id; });
  }
  uint64_t counted() { return meter->used(Resource::STAGED_BYTES); }
  Status prepare() { return leftovers.prepare(*grant, meters, nameOf("another")); }
};

TEST_F(LeftoversTest, GoOnToCountWhileTheirFileIsAboutToBeClosed) {
  auto file = staging->resume(nameOf("one")).value();  // held by a job on another thread, say
  leftovers.keep(nameOf("one"), meters.takeAnyway(Resource::STAGED_BYTES, 100));
  ASSERT_TRUE(prepare().ok());
  EXPECT_EQ(counted(), 100u);
  file = nullptr;
  ASSERT_TRUE(prepare().ok());
  EXPECT_EQ(counted(), 100u) << "counted once";
  leftovers.take(nameOf("one"));
  EXPECT_EQ(counted(), 0u);
}

TEST_F(LeftoversTest, CountNoLongerWhenTheyAreGone) {
  staging->resume(nameOf("one")).value();
  leftovers.keep(nameOf("one"), meters.takeAnyway(Resource::STAGED_BYTES, 100));
  staging->forget(nameOf("one"));
  ASSERT_TRUE(prepare().ok());
  EXPECT_EQ(counted(), 0u);
}

TEST_F(LeftoversTest, OfEarlierServersCountAsTheyAreOnTheDisk) {
  ASSERT_TRUE(writeAt(staging->resume(nameOf("one")).value()->fd(), "12345", 5, 0));
  ASSERT_TRUE(prepare().ok());
  EXPECT_GE(counted(), 5u);
}

TEST_F(LeftoversTest, OfAGrantThatHasEndedAreDeletedAndCountNoLonger) {
  std::string others = Staging::resumeNameOf("another", "uploaded", "one");
  for (auto& name : {nameOf("one"), nameOf("two"), others}) {
    staging->resume(name).value();
    leftovers.keep(name, meters.takeAnyway(Resource::STAGED_BYTES, 100));
  }
  forgetEnded();
  ASSERT_EQ(staging->resumables().size(), 1u);
  EXPECT_EQ(staging->resumables()[0].name, others);
  EXPECT_EQ(counted(), 100u);
}

TEST_F(LeftoversTest, OfAGrantThatHasEndedGoOnToCountAsLongAsTheirFileIsOpen) {
  auto file = staging->resume(nameOf("one")).value();
  leftovers.keep(nameOf("one"), meters.takeAnyway(Resource::STAGED_BYTES, 100));
  forgetEnded();
  EXPECT_EQ(staging->resumables().size(), 1u);
  EXPECT_EQ(counted(), 100u);
  file = nullptr;
  forgetEnded();
  EXPECT_EQ(staging->resumables().size(), 0u);
  EXPECT_EQ(counted(), 0u);
}

TEST_F(LeftoversTest, OfAnEndedGrantThatNobodyCountsAreDeleted) {
  staging->resume(nameOf("one")).value();
  forgetEnded();
  EXPECT_EQ(staging->resumables().size(), 0u);
}

}  // namespace
}  // namespace capstan::server::files
