// Mutations that wait for their application when the share that they were made under ends.
#include <gtest/gtest.h>

#include "served.h"

namespace capstan::server::files {
namespace {

TEST(QueuedMutations, AreRefusedIfTheirShareWasRevokedBeforeTheyAreApplied) {
  Served served;
  // How many are applied before the revocation is up to the machine: until some are not.
  unsigned refused = 0;
  for (int round = 0; round < 50 && refused == 0; ++round) {
    ShareTerms terms;
    terms.rights = Rights::all();
    auto grant = std::make_shared<Grant>("guest", Grant::newOwner(), terms, 0);
    auto lease = kj::refcounted<Lease>(grant, kj::addRef(*served.scope));
    auto store = served.folder->newFileStore(kj::refcounted<Access>(kj::mv(lease)));
    auto pathOf = [&](int i) { return "folder" + std::to_string(round) + "-" + std::to_string(i); };
    auto isThere = [&](int i) { return std::filesystem::exists(served.temp / pathOf(i)); };
    std::vector<kj::Promise<ErrorCode>> answers;
    for (int i = 0; i < 50; ++i) {
      auto request = store.makeDirectoryRequest();
      request.setPath(rpc::asData(pathOf(i)));
      answers.push_back(
          request.send().then([](auto&& response) { return codeIn(response.getOutcome()); }).eagerlyEvaluate(nullptr));
    }
    served.waitScope.poll();
    grant->revoke();
    served.wait(served.folder->whenApplied());
    std::vector<bool> applied;
    for (int i = 0; i < 50; ++i) applied.push_back(isThere(i));
    for (int i = 0; i < 50; ++i) {
      auto code = served.wait(kj::mv(answers[i]));
      EXPECT_EQ(isThere(i), applied[i]) << "applied after the revocation";
      EXPECT_EQ(code, applied[i] ? ErrorCode::UNSET : ErrorCode::REVOKED);
      refused += code == ErrorCode::REVOKED;
    }
  }
  EXPECT_GT(refused, 0u);
}

}  // namespace
}  // namespace capstan::server::files
