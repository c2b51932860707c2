// What an upload's content costs the threads that store it: a few bytes on the wire can ask for terabytes of zeros.
#include <gtest/gtest.h>

#include <capstan/storage/staged-content.h>
#include <capstan/storage/staging.h>

#include "temp-folder.h"

namespace capstan::storage {
namespace {

TEST(StagedContent, HashesHolesInSlicesThatAreOverSoon) {
  constexpr uint64_t SIZE = 64 << 20;
  TempFolder temp;
  auto root = std::move(Root::open(temp.path()).value());
  auto staging = std::move(Staging::open(*root, 3600'000'000'000).value());
  StagedContent content(staging->create(0600).value());
  std::vector<Piece> pieces;
  pieces.push_back({nullptr, SIZE});
  ASSERT_TRUE(content.append(pieces).ok());
  Hasher hasher(DigestAlgorithm::SHA256);
  hasher.updateZeros(SIZE);
  ContentCheck check{SIZE, DigestAlgorithm::SHA256, hasher.digest()};
  int slices = 0;
  for (bool isDone = false; !isDone; ++slices) {
    auto done = content.checkStep(check);
    ASSERT_TRUE(done.ok()) << done.error().message;
    isDone = *done;
  }
  EXPECT_GE(slices, 4);
}

}  // namespace
}  // namespace capstan::storage
