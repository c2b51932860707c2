// What happens when the disk is full: on a small tmpfs in a mount namespace of this process's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>

#include "writing.h"

namespace capstan::server::files {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DiskFullTest : public ::testing::Test {
 protected:
  TempFolder place;
  std::unique_ptr<Writing> server;

  void SetUp() override {
    std::string folder = place / "small";
    std::filesystem::create_directory(folder);
    // Before the server starts its threads: each would be in a namespace of its own.
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0 ||
        mount("capstan-test", folder.c_str(), "tmpfs", 0, "size=4m") < 0) {
      GTEST_SKIP() << "may not mount a tmpfs here";
    }
    server = std::make_unique<Writing>(folder);
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

TEST_F(DiskFullTest, CopyAnswersNoSpaceAndLeavesNothing) {
  ASSERT_TRUE(server->put("file", std::string(1 << 20, 'n')).ok());
  fill();
  EXPECT_EQ(server->copy("file", "copy").code, ErrorCode::NO_SPACE);
  EXPECT_THAT(server->staged(), IsEmpty());
}

}  // namespace
}  // namespace capstan::server::files
