#include <capstan/server/files/upload.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "take-all.h"
#include "writing.h"

#include <capstan/base/close-later.h>

namespace capstan::server::files {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class UploadTest : public ::testing::Test {
 protected:
  Writing server;
  TempFolder& temp = server.temp;

  struct Begun {
    schema::Upload::Client upload = nullptr;
    uint64_t offset = 0;
    Answer answer;
  };
  Begun begin(const std::string& path, const PutOptions& options = {}) {
    auto request = server.store.createRequest();
    request.setPath(rpc::asData(path));
    fill(request.initOptions(), options);
    auto results = request.send().wait(server.waitScope);
    Begun begun{results.getUpload(), results.getOffset(), {}};
    KJ_IF_MAYBE (error, rpc::errorIn(results.getOutcome())) {
      begun.answer.code = error->code;
      begun.answer.message = error->message;
    }
    return begun;
  }
  kj::Promise<void> sendWrite(schema::Upload::Client& upload, std::string_view bytes) {
    auto request = upload.writeRequest();
    request.setData(rpc::asData(bytes));
    return request.send();
  }
  void write(schema::Upload::Client& upload, std::string_view bytes) {
    sendWrite(upload, bytes).wait(server.waitScope);
  }
  void skip(schema::Upload::Client& upload, uint64_t count) {
    auto request = upload.skipRequest();
    request.setCount(count);
    request.send().wait(server.waitScope);
  }
  ErrorCode end(schema::Upload::Client& upload) {
    return answerCode(upload.endRequest().send().wait(server.waitScope).getOutcome());
  }
  ErrorCode discard(schema::Upload::Client& upload) {
    return answerCode(upload.discardRequest().send().wait(server.waitScope).getOutcome());
  }
  Answer commit(schema::Upload::Client& upload, const ContentCheck& check = {}) {
    auto request = upload.commitRequest();
    rpc::write(request.initCheck(), check);
    return answerOf(request.send().wait(server.waitScope));
  }
  static ErrorCode answerCode(schema::Outcome::Reader outcome) {
    KJ_IF_MAYBE (error, rpc::errorIn(outcome)) {
      return error->code;
    }
    return ErrorCode::UNSET;
  }
  static ContentCheck digest(DigestAlgorithm algorithm, std::string_view content) {
    return {content.size(), algorithm, digestOf(algorithm, content)};
  }
  static std::string noise(size_t size) {
    std::string bytes(size, '\0');
    uint64_t state = 7;
    for (char& c : bytes) c = char((state = state * 6364136223846793005u + 1442695040888963407u) >> 56);
    return bytes;
  }
};

TEST_F(UploadTest, ShowsNothingBeforeCommitAndAllOfItAfterwards) {
  auto begun = begin("a/file", {{}, {}, true, {}, {}});
  ASSERT_TRUE(begun.answer.ok()) << begun.answer;
  write(begun.upload, "first ");
  write(begun.upload, "second");
  EXPECT_EQ(end(begun.upload), ErrorCode::UNSET);
  write(begun.upload, " third");
  EXPECT_FALSE(std::filesystem::exists(temp / "a"));
  Answer committed = commit(begun.upload, digest(DigestAlgorithm::XXH3, "first second third"));
  ASSERT_TRUE(committed.ok()) << committed;
  EXPECT_EQ(temp.read("a/file"), "first second third");
  EXPECT_EQ(committed.entry.path, "a/file");
  EXPECT_EQ(committed.entry.size, 18u);
  EXPECT_EQ(committed.entry.version, server.versionAt("a/file"));
  EXPECT_EQ(commit(begun.upload).code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_EQ(end(begun.upload), ErrorCode::INVALID_ARGUMENT);
  EXPECT_THAT(server.staged(), IsEmpty());
}

TEST_F(UploadTest, StoresEmptyFiles) {
  auto begun = begin("empty");
  ASSERT_TRUE(commit(begun.upload, digest(DigestAlgorithm::SHA256, "")).ok());
  EXPECT_EQ(temp.stat("empty").st_size, 0);
  EXPECT_TRUE(server.put("empty2", "").ok());
}

TEST_F(UploadTest, StoresUnderAnyName) {
  for (std::string name : {std::string(255, 'n'), std::string("\xff\xfe"), std::string("a b\nc"), std::string("-")}) {
    EXPECT_TRUE(server.put(name, name).ok());
    EXPECT_EQ(temp.read(name), name);
  }
  EXPECT_EQ(server.put(std::string(256, 'n'), "x").code, ErrorCode::INVALID_PATH);
}

TEST_F(UploadTest, TakesLargeContentAndChecksItByBothDigests) {
  std::string content = noise(9'000'001);
  for (auto algorithm : {DigestAlgorithm::XXH3, DigestAlgorithm::SHA256}) {
    auto begun = begin("large");
    std::vector<kj::Promise<void>> writes;
    for (size_t at = 0; at < content.size(); at += 200'000) {
      writes.push_back(sendWrite(begun.upload, std::string_view(content).substr(at, 200'000)));
    }
    for (auto& sent : writes) sent.wait(server.waitScope);
    ASSERT_TRUE(commit(begun.upload, digest(algorithm, content)).ok());
    EXPECT_TRUE(temp.read("large") == content);
  }
}

TEST_F(UploadTest, LeavesHolesAlsoAtTheEndAndBeyondFourGiB) {
  auto begun = begin("sparse");
  write(begun.upload, "begin");
  skip(begun.upload, 5ull << 30);
  write(begun.upload, "end");
  skip(begun.upload, 1 << 20);
  Hasher hasher(DigestAlgorithm::XXH3);
  hasher.update("begin");
  hasher.updateZeros(5ull << 30);
  hasher.update("end");
  hasher.updateZeros(1 << 20);
  uint64_t size = (5ull << 30) + 8 + (1 << 20);
  Answer committed = commit(begun.upload, {size, DigestAlgorithm::XXH3, hasher.digest()});
  ASSERT_TRUE(committed.ok()) << committed;
  struct stat status = temp.stat("sparse");
  EXPECT_EQ(uint64_t(status.st_size), size);
  EXPECT_LT(status.st_blocks * 512, 1 << 20);
}

TEST_F(UploadTest, DiscardsWhatIsNotWhatWasAnnounced) {
  temp.write("file", "old");
  ContentCheck wrongSize{4, DigestAlgorithm::UNSET, {}};
  for (auto& check : {wrongSize, digest(DigestAlgorithm::XXH3, "wrong"), digest(DigestAlgorithm::SHA256, "wrong")}) {
    auto begun = begin("file", {{}, {}, false, "key", {}});
    write(begun.upload, "right");
    Answer refused = commit(begun.upload, check);
    EXPECT_EQ(refused.code, ErrorCode::CORRUPT) << refused;
    EXPECT_EQ(commit(begun.upload).code, ErrorCode::INVALID_ARGUMENT);
    EXPECT_EQ(temp.read("file"), "old");
    EXPECT_THAT(server.staged(), IsEmpty());
  }
  auto request = server.store.putRequest();
  request.setPath(rpc::asData("file"));
  request.setContent(rpc::asData("right"));
  rpc::write(request.initCheck(), digest(DigestAlgorithm::SHA256, "wrong"));
  EXPECT_EQ(answerOf(request.send().wait(server.waitScope)).code, ErrorCode::CORRUPT);
  EXPECT_EQ(temp.read("file"), "old");
}

TEST_F(UploadTest, HoldsExpectationsAndCanBeCommittedAgainAfterAConflict) {
  temp.write("file", "old");
  EXPECT_EQ(begin("file", {absent(), {}, false, {}, {}}).answer.code, ErrorCode::EXISTS);
  EXPECT_EQ(begin("file", {is("other"), {}, false, {}, {}}).answer.code, ErrorCode::CONFLICT);
  EXPECT_EQ(begin("none", {is("other"), {}, false, {}, {}}).answer.code, ErrorCode::NOT_FOUND);
  auto begun = begin("new", {absent(), {}, false, {}, {}});
  write(begun.upload, "content");
  temp.write("new", "theirs");
  EXPECT_EQ(commit(begun.upload).code, ErrorCode::EXISTS);
  EXPECT_EQ(temp.read("new"), "theirs");
  std::filesystem::remove(temp / "new");
  ASSERT_TRUE(commit(begun.upload).ok());
  EXPECT_EQ(temp.read("new"), "content");
}

TEST_F(UploadTest, ReplacesOnlyTheVersionExpected) {
  Answer first = server.put("file", "1");
  Answer second = server.put("file", "2", {is(first), {}, false, {}, {}});
  ASSERT_TRUE(second.ok()) << second;
  EXPECT_EQ(server.put("file", "3", {is(first), {}, false, {}, {}}).code, ErrorCode::CONFLICT);
  EXPECT_EQ(server.put("file", "3", {absent(), {}, false, {}, {}}).code, ErrorCode::EXISTS);
  EXPECT_EQ(temp.read("file"), "2");
  // An upload's capability that is still held does not stand in the way of the next one.
  auto held = begin("file", {is(second), {}, false, {}, {}});
  Answer third = commit(held.upload);
  ASSERT_TRUE(third.ok()) << third;
  EXPECT_TRUE(server.put("file", "4", {is(third), {}, false, {}, {}}).ok());
  EXPECT_THAT(server.staged(), IsEmpty());
}

TEST_F(UploadTest, RefusesPlacesWhereNoFileCanBe) {
  temp.makeFolder("folder");
  temp.write("file", "x");
  EXPECT_EQ(begin("folder").answer.code, ErrorCode::IS_DIRECTORY);
  EXPECT_EQ(server.put("folder", "x").code, ErrorCode::IS_DIRECTORY);
  EXPECT_EQ(server.put("folder", "x", {is(server.versionAt("folder")), {}, false, {}, {}}).code,
            ErrorCode::IS_DIRECTORY);
  EXPECT_EQ(begin("no/file").answer.code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(server.put("no/file", "x").code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(begin("file/x").answer.code, ErrorCode::NOT_DIRECTORY);
  EXPECT_EQ(begin("file/x", {{}, {}, true, {}, {}}).answer.code, ErrorCode::NOT_DIRECTORY);
  EXPECT_EQ(begin("").answer.code, ErrorCode::INVALID_PATH);
  EXPECT_EQ(begin("../x").answer.code, ErrorCode::INVALID_PATH);
  EXPECT_EQ(begin(".capstan/x", {{}, {}, true, {}, {}}).answer.code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(server.put(".capstan", "x").code, ErrorCode::NOT_FOUND);
  temp.link("out", "/tmp");
  EXPECT_EQ(server.put("out/x", "x").code, ErrorCode::INVALID_PATH);
  EXPECT_EQ(server.put("big", std::string(MAX_PUT_BYTES + 1, 'x')).code, ErrorCode::TOO_LARGE);
  // A failed creation still answers a capability, and that says why.
  auto failed = begin("folder");
  EXPECT_EQ(commit(failed.upload).code, ErrorCode::IS_DIRECTORY);
}

TEST_F(UploadTest, GivesModeAndTimeAndKeepsTheModeOfWhatItReplaces) {
  Answer fresh = server.put("file", "1");
  EXPECT_EQ(fresh.entry.mode, server.state().staging->newFileMode());
  chmod((temp / "file").c_str(), 0751);
  EXPECT_EQ(server.put("file", "2").entry.mode, 0751u);
  EXPECT_EQ(server.put("file", "3", {is(server.versionAt("file")), {}, false, {}, {}}).entry.mode, 0751u);
  Answer given = server.put("file", "4", {{}, {0200, -5'000'000'001}, false, {}, {}});
  EXPECT_EQ(given.entry.mode, 0200u);
  EXPECT_EQ(given.entry.mtime, -5'000'000'001);
  auto first = server.sendPut("other", "1", {{}, {0640, {}}, false, {}, {}});
  auto second = server.sendPut("other", "2");  // in the same round
  first.wait(server.waitScope);
  EXPECT_EQ(answerOf(second.wait(server.waitScope)).entry.mode, 0640u);
  temp.link("link", "file");
  EXPECT_EQ(server.put("link", "5").entry.mode, server.state().staging->newFileMode());
  EXPECT_EQ(temp.read("link"), "5");
  chmod((temp / "file").c_str(), 0600);  // so that the test may read it
  EXPECT_EQ(temp.read("file"), "4");
}

TEST_F(UploadTest, CountsUploadsAgainstTheLimitAndGivesThemBack) {
  auto others = takeAllBut(*server.scope, Resource::UPLOADS, 2);
  auto first = begin("a"), second = begin("b");
  EXPECT_EQ(server.scope->meter->used(Resource::UPLOADS), server.scope->meter->bound(Resource::UPLOADS));
  EXPECT_EQ(begin("c").answer.code, ErrorCode::LIMIT);
  first.upload = nullptr;
  EXPECT_TRUE(begin("c").answer.ok());
  second.upload = nullptr;
  EXPECT_EQ(begin("no/c").answer.code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(server.scope->meter->used(Resource::UPLOADS), others.amount());
  EXPECT_THAT(server.staged(), IsEmpty());
}

TEST_F(UploadTest, MayBeFinishedWhileTheServerShutsDown) {
  auto begun = begin("file");
  server.scope->shuttingDown = true;
  EXPECT_EQ(begin("other").answer.code, ErrorCode::SHUTTING_DOWN);
  write(begun.upload, "content");
  EXPECT_TRUE(commit(begun.upload).ok());
  EXPECT_EQ(temp.read("file"), "content");
}

TEST_F(UploadTest, GoesOnWhereItWasAfterABrokenConnection) {
  std::string content = noise(3'000'000);
  auto begun = begin("file", {{}, {}, false, "key", {}});
  EXPECT_EQ(begun.offset, 0u);
  write(begun.upload, std::string_view(content).substr(0, 1'000'000));
  skip(begun.upload, 500);
  ASSERT_EQ(end(begun.upload), ErrorCode::UNSET);
  begun.upload = nullptr;
  server.connect();
  begun = begin("file", {{}, {}, false, "key", {}});
  ASSERT_EQ(begun.offset, 1'000'500u);
  write(begun.upload, std::string_view(content).substr(1'000'000));
  content.insert(1'000'000, 500, '\0');
  ASSERT_TRUE(commit(begun.upload, digest(DigestAlgorithm::XXH3, content)).ok());
  EXPECT_TRUE(temp.read("file") == content);
  EXPECT_THAT(server.staged(), IsEmpty());
  EXPECT_EQ(begin("file", {{}, {}, false, "key", {}}).offset, 0u);
}

TEST_F(UploadTest, GoesOnWhereItWasAfterARestartOfTheServer) {
  auto begun = begin("file", {{}, {}, false, "key", {}});
  write(begun.upload, "half");
  end(begun.upload);
  auto unkept = begin("other");
  write(unkept.upload, "half");
  end(unkept.upload);
  begun.upload = nullptr;
  unkept.upload = nullptr;
  server.stop();
  // What a server leaves that was killed.
  temp.write(".capstan/staging/1-dead/lock", "");
  temp.write(".capstan/staging/1-dead/0", "half an upload");
  server.start();
  EXPECT_THAT(server.staged(), SizeIs(1));
  begun = begin("file", {{}, {}, false, "key", {}});
  EXPECT_EQ(begun.offset, 4u);
  write(begun.upload, " and half");
  ASSERT_TRUE(commit(begun.upload, digest(DigestAlgorithm::SHA256, "half and half")).ok());
}

TEST_F(UploadTest, BelongsToTheGrantThePathAndTheKey) {
  auto begun = begin("file", {{}, {}, false, "key", {}});
  write(begun.upload, "half");
  end(begun.upload);
  begun.upload = nullptr;
  EXPECT_EQ(begin("file", {{}, {}, false, "other", {}}).offset, 0u);
  EXPECT_EQ(begin("file2", {{}, {}, false, "key", {}}).offset, 0u);
  server.connect("another grant");
  EXPECT_EQ(begin("file", {{}, {}, false, "key", {}}).offset, 0u);
  EXPECT_EQ(begin("file", {{}, {}, false, std::string(65, 'k'), {}}).answer.code, ErrorCode::INVALID_ARGUMENT);
}

TEST_F(UploadTest, IsTakenOverByALaterOneWithTheSameKey) {
  auto first = begin("file", {{}, {}, false, "key", {}});
  write(first.upload, "half");
  end(first.upload);
  auto second = begin("file", {{}, {}, false, "key", {}});
  EXPECT_EQ(second.offset, 4u);
  sendWrite(first.upload, "late").wait(server.waitScope);  // taken, before the disk is asked
  EXPECT_EQ(end(first.upload), ErrorCode::CANCELLED);
  EXPECT_ANY_THROW(sendWrite(first.upload, "more").wait(server.waitScope));
  Answer refused = commit(first.upload);
  EXPECT_EQ(refused.code, ErrorCode::CANCELLED);
  EXPECT_THAT(refused.message, HasSubstr("taken over"));
  first.upload = nullptr;
  write(second.upload, " whole");
  ASSERT_TRUE(commit(second.upload).ok());
  EXPECT_EQ(temp.read("file"), "half whole");
}

TEST_F(UploadTest, IsNotCheckedAnyFurtherWhenItsConnectionHasEnded) {
  auto begun = begin("file");
  skip(begun.upload, 1ull << 42);  // hours of hashing
  auto request = begun.upload.commitRequest();
  ContentCheck check;
  check.algorithm = DigestAlgorithm::SHA256;
  check.digest = std::string(32, 'x');
  rpc::write(request.initCheck(), check);
  auto committed = request.send();
  EXPECT_FALSE(committed.poll(server.waitScope));
  server.scope->gone = true;
  EXPECT_EQ(answerOf(committed.wait(server.waitScope)).code, ErrorCode::CANCELLED);
}

TEST_F(UploadTest, LetsGoOfALargeFileThatItReplaces) {
  temp.write("file", std::string(20 << 20, 'x'));
  ASSERT_TRUE(server.put("file", "small").ok());
  finishClosing();
  for (auto& each : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    EXPECT_EQ(std::filesystem::read_symlink(each, gone).string().find(temp / "file (deleted)"), std::string::npos);
  }
}

TEST_F(UploadTest, DiscardRemovesWhatIsStagedAlsoWithAKey) {
  auto begun = begin("file", {{}, {}, false, "key", {}});
  write(begun.upload, "half");
  EXPECT_EQ(discard(begun.upload), ErrorCode::UNSET);
  EXPECT_THAT(server.staged(), IsEmpty());
  EXPECT_EQ(commit(begun.upload).code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_ANY_THROW(sendWrite(begun.upload, "more").wait(server.waitScope));
  EXPECT_EQ(begin("file", {{}, {}, false, "key", {}}).offset, 0u);
}

TEST_F(UploadTest, MakesASenderWaitThatIsFasterThanTheDisk) {
  auto begun = begin("file");
  std::string chunk(1 << 20, 'x');
  // The pool's threads are busy: nothing is stored meanwhile.
  std::atomic<bool> release{false};
  for (int i = 0; i < 3; ++i) {
    server.pool
        .run([&release]() {
          while (!release) sched_yield();
          return okStatus();
        })
        .detach([](kj::Exception&&) {});
  }
  std::vector<kj::Promise<void>> writes;
  for (int i = 0; i < 4; ++i) writes.push_back(sendWrite(begun.upload, chunk));
  EXPECT_TRUE(writes[0].poll(server.waitScope));
  EXPECT_FALSE(writes[3].poll(server.waitScope));
  release = true;
  for (auto& sent : writes) sent.wait(server.waitScope);
  ASSERT_TRUE(commit(begun.upload, {4 << 20, DigestAlgorithm::UNSET, {}}).ok());
}

TEST_F(UploadTest, TakesEffectInOrderWithOtherCallsOfTheConnection) {
  auto made = server.sendMkdir("folder");
  auto create = server.store.createRequest();
  create.setPath(rpc::asData("folder/file"));
  auto created = create.send();
  auto upload = created.getUpload();
  auto written = sendWrite(upload, "content");
  auto committed = upload.commitRequest().send();
  EXPECT_TRUE(answerOf(made.wait(server.waitScope)).ok());
  written.wait(server.waitScope);
  Answer answer = answerOf(committed.wait(server.waitScope));
  EXPECT_TRUE(answer.ok()) << answer;
  EXPECT_EQ(temp.read("folder/file"), "content");
}

TEST_F(UploadTest, SaysEarlyThatTheDiskIsTooSmall) {
  Answer refused = begin("file", {{}, {}, false, {}, uint64_t(1) << 60}).answer;
  EXPECT_EQ(refused.code, ErrorCode::NO_SPACE);
  EXPECT_THAT(refused.message, HasSubstr("file"));
  EXPECT_TRUE(begin("file", {{}, {}, false, {}, 1000}).answer.ok());
}

}  // namespace
}  // namespace capstan::server::files
