#include <capstan/server/files/batch.h>

#include <atomic>
#include <latch>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "batching.h"
#include "take-all.h"

#include <capstan/base/path.h>

namespace capstan::server::files {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Property;
using ::testing::SizeIs;

class BatchTest : public ::testing::Test, public Batching {
 public:
  ~BatchTest() noexcept override {}
};

TEST_F(BatchTest, ChangesNothingBeforeItIsCommitted) {
  auto batch = begin();
  add(batch, {putting("a", "1"), makingFolder("d"), putting("d/b", "2")});
  EXPECT_FALSE(std::filesystem::exists(temp / "a"));
  EXPECT_FALSE(std::filesystem::exists(temp / "d"));
  auto answers = commit(batch);
  ASSERT_THAT(answers, SizeIs(3));
  EXPECT_THAT(answers, Each(Property(&Answer::ok, true)));
  EXPECT_EQ(temp.read("a"), "1");
  EXPECT_EQ(temp.read("d/b"), "2");
  EXPECT_EQ(answers[0].entry.version, versionAt("a"));
}

TEST_F(BatchTest, ThrowsAwayWhatIsStagedWhenItIsDropped) {
  {
    auto batch = begin();
    add(batch, {putting("a", "1"), putting("b", "2")});
  }
  EXPECT_TRUE(put("c", "3").ok());  // the drop has arrived before
  EXPECT_FALSE(std::filesystem::exists(temp / "a"));
  EXPECT_EQ(scope->meter->used(Resource::BATCHES), 0u);
  while (!staged().empty()) sched_yield();  // a job of the pool throws it away
}

TEST_F(BatchTest, CarriesOutInOrderSoThatEachSeesWhatThoseBeforeHaveLeft) {
  auto answers = runBatch({makingFolder("a/b", true), putting("a/b/x", "1"), renaming("a/b/x", "a/y"),
                           copying("a/y", "z", {0600, 12'000'000'000}), putting("a/y", "2"), removing("a/b")});
  EXPECT_THAT(answers, Each(Property(&Answer::ok, true)));
  EXPECT_EQ(temp.read("a/y"), "2");
  EXPECT_EQ(temp.read("z"), "1");
  EXPECT_EQ(answers[3].entry.mode, 0600u);
  EXPECT_EQ(answers[3].entry.mtime, 12'000'000'000);
  EXPECT_FALSE(std::filesystem::exists(temp / "a/b"));
}

TEST_F(BatchTest, LetsEachOperationFailByItself) {
  temp.makeFolder("folder");
  auto answers = runBatch({putting("missing/file", "1"), putting("a", "1"), removing("nothing"),
                           [](schema::Operation::Builder) {}, copying("folder", "copy"), linking("l", "a")});
  ASSERT_THAT(answers, SizeIs(6));
  EXPECT_EQ(answers[0].code, ErrorCode::NOT_FOUND);
  EXPECT_TRUE(answers[1].ok());
  EXPECT_EQ(answers[2].code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(answers[3].code, ErrorCode::UNSUPPORTED);
  EXPECT_EQ(answers[4].code, ErrorCode::IS_DIRECTORY);
  EXPECT_TRUE(answers[5].ok());
  EXPECT_EQ(answers[5].entry.target, "a");
}

TEST_F(BatchTest, RefusesContentThatIsNotWhatItsDigestAnnounces) {
  auto wrong = [](schema::Operation::Builder operation) {
    putting("a", "1")(operation);
    rpc::write(operation.getPut().initCheck(),
               ContentCheck{1, DigestAlgorithm::XXH3, digestOf(DigestAlgorithm::XXH3, "2")});
  };
  auto answers = runBatch({wrong, putting("b", "1")});
  EXPECT_EQ(answers[0].code, ErrorCode::CORRUPT);
  EXPECT_TRUE(answers[1].ok());
  EXPECT_FALSE(std::filesystem::exists(temp / "a"));
}

TEST_F(BatchTest, ComesAfterWhatItsConnectionSentBefore) {
  auto early = sendPut("file", "early");
  auto batch = begin();
  add(batch, {renaming("file", "moved")});
  auto committed = batch.commitRequest().send();
  auto late = sendPut("file", "late");
  EXPECT_TRUE(answerOf(early.wait(waitScope)).ok());
  EXPECT_TRUE(answerOf(committed.wait(waitScope).getResults()[0]).ok());
  EXPECT_TRUE(answerOf(late.wait(waitScope)).ok());
  EXPECT_EQ(temp.read("moved"), "early");
  EXPECT_EQ(temp.read("file"), "late");
}

// Keeps all threads of a pool busy until it is destroyed.
class Blockade {
 public:
  explicit Blockade(BlockingPool& pool, size_t threads) {
    for (size_t i = 0; i < threads; ++i) {
      jobs.push_back(pool.run([this]() {
        ++begun;
        open.wait();
        return okStatus();
      }));
    }
    while (begun < threads) sched_yield();
  }
  void lift(kj::WaitScope& waitScope) {
    open.count_down();
    for (auto& job : jobs) EXPECT_TRUE(job.wait(waitScope).ok());
  }

 private:
  std::latch open{1};
  std::atomic<size_t> begun{0};
  std::vector<kj::Promise<Status>> jobs;
};

TEST_F(BatchTest, CopiesWhereNobodyElseHasToWait) {
  temp.write("large", std::string(3 << 20, 'x'));
  temp.write("unknown", std::string(3 << 20, 'y'));
  auto otherScope = kj::refcounted<ConnectionScope>();
  auto other = folder->newFileStore(Access::ofOwner(kj::mv(otherScope)));
  auto batch = begin();
  add(batch,
      {copying("large", "copy", {}, is(versionAt("large"))), copying("unknown", "another"), makingFolder("after")});
  Blockade blockade(pool, 3);
  auto committed = batch.commitRequest().send();
  waitScope.poll();
  auto request = other.makeDirectoryRequest();
  request.setPath(rpc::asData("others"));
  EXPECT_TRUE(answerOf(request.send().wait(waitScope)).ok());
  // The committer had its turn, and the copying is not what it did.
  EXPECT_FALSE(std::filesystem::exists(temp / "copy"));
  EXPECT_FALSE(std::filesystem::exists(temp / "another"));
  blockade.lift(waitScope);
  for (auto result : committed.wait(waitScope).getResults()) EXPECT_TRUE(answerOf(result).ok());
  EXPECT_EQ(temp.read("copy"), temp.read("large"));
  EXPECT_EQ(temp.read("another"), temp.read("unknown"));
  EXPECT_TRUE(std::filesystem::exists(temp / "after"));
  EXPECT_THAT(staged(), IsEmpty());
}

TEST_F(BatchTest, CopiesWhatTheOperationsBeforeHaveLeftOrNothing) {
  temp.write("a", "1");
  auto version = versionAt("a");
  auto answers = runBatch({copying("a", "b", {}, is(version)), putting("a", "2"), copying("a", "c", {}, is(version)),
                           copying("a", "d"), copying("none", "e", {}, is(version))});
  EXPECT_TRUE(answers[0].ok());
  EXPECT_EQ(answers[2].code, ErrorCode::CONFLICT) << answers[2];
  EXPECT_TRUE(answers[3].ok());
  EXPECT_FALSE(answers[4].ok());
  EXPECT_EQ(temp.read("b"), "1");
  EXPECT_EQ(temp.read("d"), "2");
  EXPECT_FALSE(std::filesystem::exists(temp / "c"));
  EXPECT_THAT(staged(), IsEmpty());
}

TEST_F(BatchTest, CopiesNothingLargeWhileEverybodyWaits) {
  temp.write("large", std::string(3 << 20, 'x'));
  temp.write("small", std::string(1 << 20, 'y'));
  std::vector<Fill> fills = {renaming("large", "moved"), copying("moved", "copy"), renaming("small", "still small")};
  for (size_t i = 0; i < 20; ++i) fills.push_back(copying("still small", "copy " + std::to_string(i)));
  auto answers = runBatch(fills);
  EXPECT_TRUE(answers[0].ok());
  EXPECT_EQ(answers[1].code, ErrorCode::CONFLICT) << answers[1];
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(answers[3 + i].code, i < 16 ? ErrorCode::UNSET : ErrorCode::CONFLICT) << i << answers[3 + i];
  }
  EXPECT_TRUE(runBatch({copying("moved", "copy")})[0].ok());
  EXPECT_EQ(temp.read("copy"), temp.read("moved"));
  EXPECT_THAT(staged(), IsEmpty());
}

TEST_F(BatchTest, CountsWhatItsCopiesStage) {
  temp.write("large", std::string(100'000, 'x'));
  auto others = takeAllBut(*scope, Resource::STAGED_BYTES, 250'000);
  EXPECT_TRUE(runBatch({copying("large", "a"), copying("large", "b")})[1].ok());
  auto batch = begin();
  add(batch, {copying("large", "c"), copying("large", "d"), copying("large", "e")});
  Answer whole;
  commit(batch, &whole);
  EXPECT_EQ(whole.code, ErrorCode::LIMIT);
  EXPECT_FALSE(std::filesystem::exists(temp / "c")) << "nothing was changed";
  auto fewer = takeAllBut(*scope, Resource::STAGED_BYTES, 50'000);
  EXPECT_EQ(copy("large", "c").code, ErrorCode::LIMIT) << "one of its own counts as well";
}

TEST_F(BatchTest, MakesManyCopiesDurableWithAHandfulOfFlushes) {
  if (!syncfsIsTrusted(state().root->fd())) GTEST_SKIP() << "each is flushed by itself here";
  temp.write("a", "1");
  auto version = versionAt("a");
  std::vector<Fill> fills;
  for (int i = 0; i < 200; ++i) fills.push_back(copying("a", "copy" + std::to_string(i), {}, is(version)));
  auto before = folder->figures().flushes;
  EXPECT_THAT(runBatch(fills), Each(Property(&Answer::ok, true)));
  EXPECT_LT(folder->figures().flushes - before, 10u);
}

TEST_F(BatchTest, IsUsedUpByItsCommit) {
  auto batch = begin();
  add(batch, {putting("a", "1")});
  commit(batch);
  Answer again;
  commit(batch, &again);
  EXPECT_EQ(again.code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_THROW(add(batch, {putting("b", "1")}), kj::Exception);
}

TEST_F(BatchTest, HasLimits) {
  std::vector<schema::Batch::Client> held;
  for (uint32_t i = 0; i < scope->meter->bound(Resource::BATCHES); ++i) held.push_back(begin());
  auto refused = store.beginRequest().send().wait(waitScope);
  EXPECT_EQ(KJ_ASSERT_NONNULL(rpc::errorIn(refused.getOutcome())).code, ErrorCode::LIMIT);
  std::vector<Fill> many(MAX_BATCH_OPERATIONS, removing("x"));
  add(held[0], many);
  auto thrown = kj::runCatchingExceptions([&]() { add(held[0], {removing("x")}); });
  EXPECT_THAT(std::string(KJ_ASSERT_NONNULL(thrown).getDescription().cStr()), HasSubstr("[limit]"));
  Answer whole;
  commit(held[0], &whole);
  EXPECT_EQ(whole.code, ErrorCode::LIMIT);
}

TEST_F(BatchTest, FailsAnOperationWhosePathIsTooLong) {
  std::string tooLong(MAX_PATH_BYTES + 1, 'a');
  auto answers = runBatch({putting("before", "content"), putting(tooLong, "content"), renaming("before", tooLong),
                           linking("link", tooLong), removing("none", false, {Expectation::Kind::VERSION, tooLong}),
                           putting("after", "content")});
  ASSERT_EQ(answers.size(), 6u);
  for (size_t i : {0, 5}) EXPECT_TRUE(answers[i].ok()) << answers[i];
  for (size_t i : {1, 2, 3, 4}) EXPECT_EQ(answers[i].code, ErrorCode::INVALID_PATH) << i;
}

TEST_F(BatchTest, CountsWhatAConnectionsBatchesHold) {
  auto dropped = begin();
  add(dropped, {putting("dropped", std::string(10'000, 'x'))});
  EXPECT_GT(scope->meter->used(Resource::BATCH_BYTES), 7u);
  EXPECT_EQ(scope->meter->used(Resource::BATCH_STAGED_BYTES), 10'000u);
  auto batch = begin();
  add(batch, {putting("file", "content")});
  EXPECT_EQ(scope->meter->used(Resource::BATCH_STAGED_BYTES), 10'000u + 4096);
  commit(batch);
  EXPECT_EQ(scope->meter->used(Resource::BATCH_STAGED_BYTES), 10'000u);
  dropped = nullptr;
  EXPECT_EQ(scope->meter->used(Resource::BATCH_STAGED_BYTES), 0u);
  EXPECT_EQ(scope->meter->used(Resource::BATCH_BYTES), 0u);

  auto others = takeAllBut(*scope, Resource::BATCH_STAGED_BYTES, 0);
  auto full = begin();
  add(full, {removing("file")});
  auto thrown = kj::runCatchingExceptions([&]() { add(full, {putting("other", "content")}); });
  EXPECT_THAT(std::string(KJ_ASSERT_NONNULL(thrown).getDescription().cStr()), HasSubstr("[limit]"));
  Answer whole;
  commit(full, &whole);
  EXPECT_EQ(whole.code, ErrorCode::LIMIT);
  EXPECT_TRUE(std::filesystem::exists(temp / "file")) << "nothing was changed";
}

TEST_F(BatchTest, RefusesAnIdThatIsNone) {
  auto request = store.beginRequest();
  request.initOptions().setRun(rpc::asData("short"));
  auto refused = request.send().wait(waitScope);
  EXPECT_EQ(KJ_ASSERT_NONNULL(rpc::errorIn(refused.getOutcome())).code, ErrorCode::INVALID_ARGUMENT);
}

TEST_F(BatchTest, MakesTenThousandFilesDurableWithAHandfulOfFlushes) {
  auto before = folder->figures();
  auto start = kj::systemPreciseMonotonicClock().now();
  auto batch = begin();
  kj::Promise<void> sent = kj::READY_NOW;
  for (int i = 0; i < 10'000; i += 64) {
    auto request = batch.addRequest();
    int count = std::min(64, 10'000 - i);
    auto list = request.initOperations(uint(count));
    for (int j = 0; j < count; ++j) {
      putting("d" + std::to_string((i + j) / 100) + "/f" + std::to_string(i + j), std::string(1024, 'x'), absent(),
              true, {0644, 1'700'000'000'000'000'000})(list[uint(j)]);
    }
    request.send().wait(waitScope);
  }
  auto staging = kj::systemPreciseMonotonicClock().now();
  auto answers = commit(batch);
  auto end = kj::systemPreciseMonotonicClock().now();
  auto ms = [](kj::Duration time) { return int64_t(time / kj::MILLISECONDS); };
  RecordProperty("staging_ms", int(ms(staging - start)));
  RecordProperty("commit_ms", int(ms(end - staging)));
  printf("10,000 puts: %ld ms to send and stage, %ld ms to commit\n", long(ms(staging - start)),
         long(ms(end - staging)));
  ASSERT_THAT(answers, SizeIs(10'000));
  EXPECT_THAT(answers, Each(Property(&Answer::ok, true)));
  if (!syncfsIsTrusted(state().root->fd())) return;
  EXPECT_LE(folder->figures().flushes - before.flushes, 4u);
}

}  // namespace
}  // namespace capstan::server::files
