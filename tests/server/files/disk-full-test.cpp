// What happens when the disk is full: on a small tmpfs in a mount namespace of this process's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>

#include "batching.h"

namespace capstan::server::files {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DiskFullTest : public ::testing::Test {
 protected:
  TempFolder place;
  std::unique_ptr<Batching> server;

  void SetUp() override {
    std::string folder = place / "small";
    std::filesystem::create_directory(folder);
    // Before the server starts its threads: each would be in a namespace of its own.
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0 ||
        mount("capstan-test", folder.c_str(), "tmpfs", 0, "size=4m") < 0) {
      GTEST_SKIP() << "may not mount a tmpfs here";
    }
    server = std::make_unique<Batching>(folder);
  }
  void TearDown() override {
    server = nullptr;
    umount2((place / "small").c_str(), MNT_DETACH);
  }
  void fill() {
    std::ofstream file(place / "small/filler", std::ios::binary);
    std::string block(64 << 10, 'x');
    while (file.write(block.data(), ptrdiff_t(block.size())).flush()) {
    }
  }
  void makeRoom() { std::filesystem::remove(place / "small/filler"); }
  capnp::Response<schema::FileStore::CreateResults> create(const PutOptions& options) {
    auto request = server->store.createRequest();
    request.setPath(rpc::asData("file"));
    files::fill(request.initOptions(), options);
    return request.send().wait(server->waitScope);
  }
};

TEST_F(DiskFullTest, AnswersNoSpaceAndLeavesWhatWasThere) {
  ASSERT_TRUE(server->put("file", "old").ok());
  fill();
  Answer refused = server->put("file", std::string(100'000, 'n'));
  EXPECT_EQ(refused.code, ErrorCode::NO_SPACE) << refused;
  EXPECT_THAT(refused.message, HasSubstr("file"));
  EXPECT_TRUE(server->remove("filler").ok());  // which is possible on a full disk
  ASSERT_TRUE(server->put("file", std::string(100'000, 'n')).ok());
  EXPECT_THAT(server->staged(), IsEmpty());
}

TEST_F(DiskFullTest, KeepsWhatWasStagedForResuming) {
  auto response = create({{}, {}, false, "key", {}});
  auto upload = response.getUpload();
  auto send = [&](size_t size) {
    auto request = upload.writeRequest();
    std::string bytes(size, 'a');
    request.setData(rpc::asData(bytes));
    return request.send();
  };
  send(1 << 20).wait(server->waitScope);
  upload.endRequest().send().wait(server->waitScope);
  fill();
  auto late = send(1 << 20);
  late.wait(server->waitScope);  // taken; the disk is asked afterwards
  auto ended = upload.endRequest().send().wait(server->waitScope);
  KJ_IF_MAYBE (error, rpc::errorIn(ended.getOutcome())) {
    EXPECT_EQ(error->code, ErrorCode::NO_SPACE);
  }
  else {
    FAIL() << "a full disk went unnoticed";
  }
  EXPECT_ANY_THROW(send(10).wait(server->waitScope));
  auto committed = upload.commitRequest().send().wait(server->waitScope);
  EXPECT_EQ(answerOf(committed).code, ErrorCode::NO_SPACE);
  upload = nullptr;
  makeRoom();
  auto again = create({{}, {}, false, "key", {}});
  EXPECT_EQ(again.getOffset(), uint64_t(1) << 20);
  auto whole = again.getUpload().commitRequest();
  rpc::write(whole.initCheck(),
             {1 << 20, DigestAlgorithm::XXH3, digestOf(DigestAlgorithm::XXH3, std::string(1 << 20, 'a'))});
  Answer answer = answerOf(whole.send().wait(server->waitScope));
  EXPECT_TRUE(answer.ok()) << answer;
}

TEST_F(DiskFullTest, RemovesNothingWhereTheTrashCannotKeepIt) {
  ASSERT_TRUE(server->put("file", "content").ok());
  fill();
  auto batch = server->begin();
  server->add(batch, {Batching::removing("file"), Batching::removing("filler")});
  for (auto& answer : server->commit(batch)) EXPECT_EQ(answer.code, ErrorCode::NO_SPACE) << answer;
  EXPECT_TRUE(std::filesystem::exists(place / "small/file"));
  EXPECT_TRUE(std::filesystem::exists(place / "small/filler"));
  EXPECT_TRUE(server->remove("filler").ok()) << "without a run nothing is kept";
  for (auto& answer : server->runBatch({Batching::removing("file")})) EXPECT_TRUE(answer.ok()) << answer;
  EXPECT_EQ(server->undo(server->lastRun).count, 1u);
  EXPECT_TRUE(std::filesystem::exists(place / "small/file"));
}

TEST_F(DiskFullTest, RemovesInARunAsLongAsItsJournalHasRoom) {
  std::vector<Batching::Fill> fills;
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(server->put("file" + std::to_string(i), "content").ok());
    fills.push_back(Batching::removing("file" + std::to_string(i)));
  }
  server->runBatch({Batching::makingFolder("begun")});
  std::string run = server->lastRun;
  fill();
  auto batch = server->begin(run);
  server->add(batch, fills);
  auto answers = server->commit(batch);
  batch = nullptr;
  uint64_t removed = 0;
  for (int i = 0; i < 200; ++i) {
    bool isThere = std::filesystem::exists(place / ("small/file" + std::to_string(i)));
    EXPECT_EQ(answers[size_t(i)].code, isThere ? ErrorCode::NO_SPACE : ErrorCode::UNSET);
    removed += isThere ? 0 : 1;
  }
  EXPECT_GT(removed, 0u);
  EXPECT_LT(removed, 200u);
  makeRoom();
  // Each of them is there again, or in the trash.
  server->undo(run);
  for (int i = 0; i < 200; ++i) {
    EXPECT_TRUE(std::filesystem::exists(place / ("small/file" + std::to_string(i)))) << i;
  }
}

TEST_F(DiskFullTest, ARunWhoseJournalLacksSomethingSaysThatItCannotBeUndone) {
  server->runBatch({Batching::makingFolder("begun")});
  std::string run = server->lastRun;
  fill();
  std::vector<Batching::Fill> fills;
  for (int i = 0; i < 200; ++i) fills.push_back(Batching::makingFolder("folder" + std::to_string(i)));
  auto batch = server->begin(run);
  server->add(batch, fills);
  for (auto& answer : server->commit(batch)) EXPECT_TRUE(answer.ok()) << answer;
  auto canUndo = [&]() { return server->state().trash->runs()->at(0).canUndo; };
  EXPECT_FALSE(canUndo());
  EXPECT_EQ(server->undo(run).code, ErrorCode::EXPIRED);
  EXPECT_TRUE(std::filesystem::exists(place / "small/folder0"));
}

TEST_F(DiskFullTest, CopyAnswersNoSpaceAndLeavesNothing) {
  ASSERT_TRUE(server->put("file", std::string(1 << 20, 'n')).ok());
  fill();
  EXPECT_EQ(server->copy("file", "copy").code, ErrorCode::NO_SPACE);
  EXPECT_THAT(server->staged(), IsEmpty());
}

}  // namespace
}  // namespace capstan::server::files
