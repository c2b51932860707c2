// What somebody sees and changes who holds a part of the tree: relative paths, quotas, runs of their own, and nothing
// after their grant has ended.
#include <atomic>
#include <future>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <capstan/server/files/batch-copies.h>
#include <capstan/server/files/leftovers.h>
#include <capstan/server/files/view.h>
#include <capstan/storage/mutation.h>
#include <capstan/storage/mutations.h>
#include <capstan/storage/usage.h>

#include "batching.h"

namespace capstan::server::files {
namespace {

using storage::CopyOptions;
using storage::LEAST_CHARGE;
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
  static ErrorCode errorOf(schema::Outcome::Reader outcome) {
    KJ_IF_MAYBE (error, rpc::errorIn(outcome)) return error->code;
    return ErrorCode::UNSET;
  }
  std::string bytes(size_t count) { return std::string(count, 'x'); }
};

TEST_F(ViewTest, RefusesWhatGoesBeyondTheQuotaAndTakesItWhenThereIsRoom) {
  use(newGrant("one", "sub", 20'000));
  EXPECT_TRUE(put("b", bytes(9000)).ok());
  auto refused = put("c", bytes(9000));
  EXPECT_EQ(refused.code, ErrorCode::QUOTA);
  EXPECT_THAT(refused.message, HasSubstr("label of one"));
  EXPECT_THAT(refused.message, HasSubstr("20000"));
  EXPECT_EQ(copy("b", "c").code, ErrorCode::QUOTA);
  EXPECT_FALSE(std::filesystem::exists(temp / "sub/c"));
  EXPECT_TRUE(put("b", bytes(15'000)).ok()) << "what is replaced makes room";
  EXPECT_TRUE(remove("b").ok());
  EXPECT_TRUE(put("c", bytes(10'000)).ok());
  auto batch = runBatch({putting("d", bytes(5000)), putting("e", bytes(5000))});
  EXPECT_TRUE(batch.at(0).ok()) << batch.at(0);
  EXPECT_EQ(batch.at(1).code, ErrorCode::QUOTA);
}

TEST_F(ViewTest, HoldsTheQuotaOfAShareForThoseMadeFromIt) {
  auto parent = newGrant("parent", "sub", 20'000);
  std::filesystem::create_directory(temp / "sub/deep");
  use(newGrant("child", "sub/deep", 0, parent));
  EXPECT_TRUE(put("x", bytes(9000)).ok());
  auto refused = put("y", bytes(5000));
  EXPECT_EQ(refused.code, ErrorCode::QUOTA);
  EXPECT_THAT(refused.message, HasSubstr(ANCESTOR));
  EXPECT_THAT(refused.message, Not(HasSubstr("label of parent"))) << "that was given to others";
  EXPECT_EQ(folder->storedBelow("sub"), 2 * LEAST_CHARGE + 9000);
}

TEST_F(ViewTest, KeepsNoMoreThanTheQuotaInTheTrash) {
  use(Grant::newOwner());
  runBatch({putting("beside", "2")});
  auto kept = [&]() { return storage::contentIn(state().root->stateFd(), "trash") - 5 * LEAST_CHARGE; };  // not its own
  auto replace = [&](const std::string& path, int times) {
    for (int i = 0; i < times; ++i) EXPECT_TRUE(runBatch({putting(path, bytes(20'000))}).at(0).ok());
  };
  auto parent = newGrant("parent", "sub", 100'000);
  use(parent);
  replace("b", 10);
  EXPECT_LE(kept(), 100'000u);
  EXPECT_EQ(runsSeen(), 3u);
  stop();
  start();
  std::filesystem::create_directory(temp / "sub/deep");
  use(newGrant("child", "sub/deep", 50'000, parent));
  replace("b", 4);
  EXPECT_LE(kept(), 100'000u);
  EXPECT_EQ(runsSeen(), 1u) << "its own quota lets it keep no more";
  use(parent);
  EXPECT_EQ(runsSeen(), 3u) << "the oldest of its own has gone for the child's";
  use(Grant::newOwner());
  EXPECT_EQ(runsSeen(), 4u);
}

TEST_F(ViewTest, KeepsAllThatTheLatestRunHasRemovedOfTheOwners) {
  auto grant = newGrant("one", "sub", 50'000);
  use(grant);
  runBatch({putting("a", "2")});
  std::vector<Fill> all;
  for (int i = 0; i < 10; ++i) {
    temp.write("sub/owners " + std::to_string(i), bytes(20'000));
    all.push_back(removing("owners " + std::to_string(i)));
  }
  for (auto& answer : runBatch(all)) EXPECT_TRUE(answer.ok()) << answer;
  EXPECT_EQ(runsSeen(), 1u) << "an earlier one has made room";
  use(Grant::newOwner());
  EXPECT_EQ(undo(lastRun).count, 10u);
  EXPECT_EQ(temp.read("sub/owners 9"), bytes(20'000));
}

TEST_F(ViewTest, CountsWhatIsEmptyToo) {
  use(newGrant("one", "sub", 20'000));  // one small file is there
  EXPECT_TRUE(mkdir("folder").ok());
  EXPECT_TRUE(symlink("link", "a").ok());
  EXPECT_EQ(mkdir("x/y", true).code, ErrorCode::QUOTA) << "both of them count";
  EXPECT_TRUE(put("empty", "").ok());
  EXPECT_EQ(put("another", "").code, ErrorCode::QUOTA);
  EXPECT_EQ(mkdir("another").code, ErrorCode::QUOTA);
  EXPECT_EQ(symlink("another", "a").code, ErrorCode::QUOTA);
  EXPECT_TRUE(symlink("link", "b").ok()) << "what is replaced makes room";
}

TEST_F(ViewTest, StagesNoMoreCopiesThanTheQuotaLetsIn) {
  temp.write("sub/large", bytes(100'000));
  auto view = std::make_shared<const View>(state(), newGrant("one", "sub", 400'000), "sub");
  BatchCopies copies(view);
  for (size_t i = 0; i < 150; ++i) {
    CopyOptions options;
    options.from = "large";
    options.to = "copy" + std::to_string(i);
    copies.add(i, options);
  }
  copies.keep(std::vector<std::unique_ptr<Mutation>>(150));
  EXPECT_EQ(copies.measure().value(), 150u * 100'000);
  while (!copies.stageStep().value()) continue;
  EXPECT_EQ(staged().size(), 2u) << "with what is there";
  for (auto& mutation : copies.takeAll()) EXPECT_NE(mutation, nullptr);
}

TEST_F(ViewTest, NobodyWaitsForTheMeasuringOfWhatIsAnothers) {
  std::promise<void> opened;
  auto gate = opened.get_future().share();
  auto& measuring = state().quotas->threads();
  for (unsigned i = 0; i < MeasuringThreads::THREADS; ++i) {
    auto block = [gate]() {
      gate.wait();
      return true;
    };
    measuring.add({block, []() {}});
  }
  for (int i = 0; i < 3000; ++i) temp.write("sub/" + std::to_string(i), "");
  std::filesystem::create_directory(temp / "other");
  use(newGrant("one", "sub", 100'000'000));
  std::vector<kj::Promise<capnp::Response<schema::FileStore::PutResults>>> waiting;
  for (int i = 0; i < 20; ++i) waiting.push_back(sendPut("new " + std::to_string(i), "1"));
  connect();
  use(newGrant("other", "other", 100'000'000));
  EXPECT_TRUE(put("file", "1").ok());
  use(Grant::newOwner());
  EXPECT_TRUE(put("beside", "2").ok());
  EXPECT_TRUE(isIdle()) << "no thread waits either";
  for (auto& each : waiting) EXPECT_FALSE(each.poll(waitScope));
  opened.set_value();
  for (auto& each : waiting) EXPECT_TRUE(answerOf(each.wait(waitScope)).ok());
  EXPECT_EQ(folder->storedBelow("sub"), 3021 * LEAST_CHARGE);
}

TEST_F(ViewTest, TheServersEndGivesUpWhatIsBeingMeasured) {
  std::atomic<unsigned> slices{0}, givenUp{0};
  for (unsigned i = 0; i < MeasuringThreads::THREADS; ++i) {
    auto slice = [&]() {
      ++slices;
      sched_yield();
      return false;  // there would always be more
    };
    state().quotas->threads().add({slice, [&]() { ++givenUp; }});
  }
  for (int i = 0; i < 3000; ++i) temp.write("sub/" + std::to_string(i), "");
  use(newGrant("one", "sub", 100'000'000));
  auto waiting = sendPut("new", "1");
  EXPECT_FALSE(waiting.poll(waitScope));
  while (slices == 0) sched_yield();
  state().quotas->threads().end();
  EXPECT_EQ(givenUp, MeasuringThreads::THREADS);
  EXPECT_FALSE(answerOf(waiting.wait(waitScope)).ok());
  EXPECT_FALSE(std::filesystem::exists(temp / "sub/new"));
}

TEST_F(ViewTest, TakesNoMoreHolesThanTheQuotaIs) {
  use(newGrant("one", "sub", 1 << 30));
  auto begin = [&]() {
    auto request = store.createRequest();
    request.setPath(rpc::asData("sparse"));
    return request.send().wait(waitScope).getUpload();
  };
  auto skip = [&](schema::Upload::Client& upload, uint64_t count) {
    auto request = upload.skipRequest();
    request.setCount(count);
    return request.send();
  };
  auto fits = begin();
  skip(fits, 1 << 29).wait(waitScope);
  EXPECT_EQ(errorOf(fits.commitRequest().send().wait(waitScope).getOutcome()), ErrorCode::UNSET);
  auto large = begin();
  skip(large, 1 << 29).wait(waitScope);
  EXPECT_ANY_THROW(skip(large, 1ull << 40).wait(waitScope));
  EXPECT_EQ(errorOf(large.commitRequest().send().wait(waitScope).getOutcome()), ErrorCode::QUOTA);
}

TEST_F(ViewTest, LetsNobodyButTheOwnerSetIdBits) {
  temp.write("sub/owners", "program");
  std::filesystem::create_directory(temp / "sub/folder");
  temp.write("sub/folder/inner", "program");
  for (auto path : {"sub/owners", "sub/folder/inner"}) ASSERT_EQ(chmod((temp / path).c_str(), 06755), 0);
  auto modeOf = [&](const std::string& path) { return temp.stat("sub/" + path).st_mode & 07777; };
  use(newGrant("one", "sub"));
  put("put", "1", {{}, {07755, {}}});
  setMetadata("a", {06755, {}});
  mkdir("made", false, {07777, {}});
  copy("owners", "copied");
  copy("folder", "copied folder");
  runBatch({putting("batched", "1", {}, false, {06755, {}}), copying("owners", "batch copied"),
            copying("a", "batch copied a", {06755, {}}), settingMetadata("batched", {04700, {}})});
  for (auto path : {"put", "a", "copied", "copied folder/inner", "batch copied", "batch copied a"}) {
    EXPECT_EQ(modeOf(path), 0755u) << path;
  }
  EXPECT_EQ(modeOf("batched"), 0700u);
  EXPECT_EQ(modeOf("made"), 01777u);
  EXPECT_EQ(modeOf("owners"), 06755u);
  put("owners", "another program");
  EXPECT_EQ(modeOf("owners"), 0755u) << "what it was allowed, it was allowed with its content";
  use(Grant::newOwner());
  put("sub/put", "1", {{}, {04755, {}}});
  EXPECT_EQ(modeOf("put"), 04755u);
  copy("sub/folder", "sub/owners copy");
  EXPECT_EQ(modeOf("owners copy/inner"), 06755u);
}

TEST_F(ViewTest, CountsWhatDroppedUploadsLeave) {
  auto grant = newGrant("one", "sub");
  use(grant);
  auto begin = [&](size_t key) {
    auto request = store.createRequest();
    request.setPath(rpc::asData("uploaded"));
    fill(request.initOptions(), {.resumeKey = "key " + std::to_string(key)});
    return request.send().wait(waitScope);
  };
  auto send = [&](size_t key, size_t size) {
    auto upload = begin(key).getUpload();
    auto write = upload.writeRequest();
    write.setData(rpc::asData(bytes(size)));
    write.send().wait(waitScope);
    return errorOf(upload.endRequest().send().wait(waitScope).getOutcome());
  };
  auto used = [&]() {
    waitScope.poll();
    return scope->meter->used(Resource::STAGED_BYTES);
  };
  for (size_t key = 0; key < 3; ++key) EXPECT_EQ(send(key, 100'000), ErrorCode::UNSET);
  EXPECT_EQ(used(), 300'000u);
  EXPECT_EQ(begin(2).getOffset(), 100'000u);
  EXPECT_EQ(used(), 300'000u) << "resumed and left again";
  begin(0).getUpload().commitRequest().send().wait(waitScope);
  EXPECT_EQ(used(), 200'000u);

  stop();
  start();
  use(grant);
  begin(3);
  EXPECT_GE(used(), 200'000u) << "the next server knows of them";
  for (size_t key = 4; key <= MAX_RESUMABLE_UPLOADS; ++key) begin(key);
  EXPECT_EQ(errorOf(begin(1000).getOutcome()), ErrorCode::LIMIT);
  EXPECT_EQ(errorOf(begin(5).getOutcome()), ErrorCode::UNSET);

  kj::Maybe<schema::Upload::Client> last = begin(2).getUpload();
  size_t before = staged().size();
  grant->revoke();
  last = nullptr;
  waitScope.poll();
  EXPECT_EQ(staged().size(), before - 1) << "nobody can resume it";
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
