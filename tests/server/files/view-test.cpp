// What somebody sees and changes who holds a part of the tree: relative paths, quotas, runs of their own, and nothing
// after their grant has ended.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <capstan/server/files/view.h>
#include <capstan/storage/mutation.h>
#include <capstan/storage/mutations.h>

#include "batching.h"

namespace capstan::server::files {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ViewTest : public ::testing::Test, protected Batching {
 protected:
  void SetUp() override {
    temp.write("sub/a", "1");
    temp.write("beside", "1");
  }

  std::shared_ptr<Grant> newGrant(std::string id, std::string path, uint64_t quota = 0,
                                  std::shared_ptr<const Grant> parent = Grant::newOwner()) {
    ShareTerms terms;
    terms.path = std::move(path);
    terms.rights = {true, true, false};
    terms.label = "label of " + id;
    terms.quota = quota;
    return std::make_shared<Grant>(std::move(id), std::move(parent), std::move(terms), 0);
  }
  // All calls are of this one from now on.
  void use(std::shared_ptr<Grant> grant) {
    store = folder->newFileStore(kj::refcounted<Access>(kj::refcounted<Lease>(std::move(grant), kj::addRef(*scope))));
  }
  size_t runsSeen() { return trash().runsRequest().send().wait(waitScope).getRuns().size(); }
  std::string bytes(size_t count) { return std::string(count, 'x'); }
};

TEST_F(ViewTest, RefusesWhatGoesBeyondTheQuotaAndTakesItWhenThereIsRoom) {
  use(newGrant("one", "sub", 1000));
  EXPECT_TRUE(put("b", bytes(900)).ok());
  auto refused = put("c", bytes(200));
  EXPECT_EQ(refused.code, ErrorCode::QUOTA);
  EXPECT_THAT(refused.message, HasSubstr("label of one"));
  EXPECT_THAT(refused.message, HasSubstr("1000"));
  EXPECT_EQ(copy("b", "c").code, ErrorCode::QUOTA);
  EXPECT_FALSE(std::filesystem::exists(temp / "sub/c"));
  EXPECT_TRUE(put("b", bytes(999)).ok()) << "what is replaced makes room";
  EXPECT_TRUE(remove("b").ok());
  EXPECT_TRUE(put("c", bytes(500)).ok());
  auto batch = runBatch({putting("d", bytes(400)), putting("e", bytes(400))});
  EXPECT_TRUE(batch.at(0).ok()) << batch.at(0);
  EXPECT_EQ(batch.at(1).code, ErrorCode::QUOTA);
}

TEST_F(ViewTest, HoldsTheQuotaOfAShareForThoseMadeFromIt) {
  auto parent = newGrant("parent", "sub", 1000);
  std::filesystem::create_directory(temp / "sub/deep");
  use(newGrant("child", "sub/deep", 0, parent));
  EXPECT_TRUE(put("x", bytes(900)).ok());
  auto refused = put("y", bytes(200));
  EXPECT_EQ(refused.code, ErrorCode::QUOTA);
  EXPECT_THAT(refused.message, HasSubstr("label of parent"));
  EXPECT_EQ(folder->storedBelow("sub"), 901u);
}

TEST_F(ViewTest, AppliesNothingAnyMoreThatWaitsWhenTheGrantEnds) {
  auto grant = newGrant("one", "sub");
  auto shared = std::make_shared<const View>(state(), grant, "sub");
  kj::Maybe<Committer::Ticket> first = shared->takeTicket(*scope);
  auto waiting = shared->submit(shared->takeTicket(*scope), makeRemove("a", false, {}));
  grant->revoke();
  first = nullptr;
  auto removed = waiting.wait(waitScope);
  ASSERT_FALSE(removed.ok());
  EXPECT_EQ(removed.error().code, ErrorCode::REVOKED);
  EXPECT_EQ(temp.read("sub/a"), "1");
}

TEST_F(ViewTest, KeepsRunsApartAndTellsTheOwnerOfAll) {
  auto parent = newGrant("parent", "sub");
  use(parent);
  runBatch({putting("a", "2")});
  std::string run = lastRun;
  EXPECT_EQ(runsSeen(), 1u);
  auto items = trash().listRequest().send().wait(waitScope);
  ASSERT_EQ(items.getItems().size(), 1u);
  EXPECT_EQ(rpc::asView(items.getItems()[0].getEntry().getPath()), "a");
  use(newGrant("stranger", ""));
  EXPECT_EQ(runsSeen(), 0u);
  EXPECT_EQ(undo(run).code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(restore(run, "sub/a", "stolen").code, ErrorCode::NOT_FOUND);
  auto request = store.beginRequest();
  request.initOptions().setRun(rpc::asData(run));
  auto joined = request.send().wait(waitScope);
  EXPECT_TRUE(joined.getOutcome().isError()) << "it would add to the run of somebody else";
  use(Grant::newOwner());
  EXPECT_EQ(runsSeen(), 1u);
  items = trash().listRequest().send().wait(waitScope);
  EXPECT_EQ(rpc::asView(items.getItems()[0].getEntry().getPath()), "sub/a");
  use(parent);
  EXPECT_EQ(undo(run).count, 1u);
  EXPECT_EQ(temp.read("sub/a"), "1");
}

TEST_F(ViewTest, TellsOfWhatMovesAcrossItsBorderAsOfWhatComesAndGoes) {
  View view(state(), newGrant("one", "sub"), "sub");
  auto in = view.see({ChangeKind::MOVED, "sub/new", "beside"}, "");
  ASSERT_TRUE(in);
  EXPECT_EQ(in->kind, ChangeKind::SUBTREE);
  EXPECT_EQ(in->path, "new");
  EXPECT_EQ(in->from, "");
  auto out = view.see({ChangeKind::MOVED, "elsewhere", "sub/a"}, "");
  ASSERT_TRUE(out);
  EXPECT_EQ(out->kind, ChangeKind::REMOVED);
  EXPECT_EQ(out->path, "a");
  EXPECT_FALSE(view.see({ChangeKind::CHANGED, "beside", {}}, ""));
  EXPECT_FALSE(view.see({ChangeKind::CHANGED, "subject", {}}, ""));
}

TEST_F(ViewTest, NamesPathsAsTheyAreSeenFromItsTop) {
  use(newGrant("one", "sub"));
  auto missing = remove("missing");
  EXPECT_EQ(missing.code, ErrorCode::NOT_FOUND);
  EXPECT_THAT(missing.message, Not(HasSubstr("sub")));
  EXPECT_EQ(put("b", "1").entry.path, "b");
  EXPECT_EQ(rename("b", "c").entry.path, "c");
  EXPECT_EQ(temp.read("sub/c"), "1");
}

}  // namespace
}  // namespace capstan::server::files
