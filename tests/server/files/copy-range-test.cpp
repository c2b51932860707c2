#include <capstan/server/files/upload.h>

#include <fcntl.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "batching.h"

namespace capstan::server::files {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CopyRangeTest : public ::testing::Test, public Batching {
 public:
  ~CopyRangeTest() noexcept override {}

 protected:
  std::string old = std::string(100'000, 'a') + std::string(100'000, 'b') + "end";

  schema::Upload::Client create(const std::string& path, const Version& base, const std::string& run = {}) {
    auto request = store.createRequest();
    request.setPath(rpc::asData(path));
    auto options = request.initOptions();
    options.setBase(rpc::asData(base));
    options.setRun(rpc::asData(run));
    auto response = request.send().wait(waitScope);
    created = ErrorCode::UNSET;
    KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) created = error->code;
    return response.getUpload();
  }
  void write(schema::Upload::Client& upload, const std::string& bytes) {
    auto request = upload.writeRequest();
    request.setData(rpc::asData(bytes));
    request.send().wait(waitScope);
  }
  void copyRange(schema::Upload::Client& upload, uint64_t offset, uint64_t count) {
    auto request = upload.copyRangeRequest();
    request.setOffset(offset);
    request.setCount(count);
    request.send().wait(waitScope);
  }
  Answer commit(schema::Upload::Client& upload, const std::string& expected) {
    auto request = upload.commitRequest();
    rpc::write(request.initCheck(),
               ContentCheck{expected.size(), DigestAlgorithm::XXH3, digestOf(DigestAlgorithm::XXH3, expected)});
    return answerOf(request.send().wait(waitScope));
  }

  ErrorCode created = ErrorCode::UNSET;
};

TEST_F(CopyRangeTest, MixesWithWhatIsWritten) {
  temp.write("file", old);
  auto upload = create("file", versionAt("file"));
  copyRange(upload, 0, 50'000);
  write(upload, "inserted");
  copyRange(upload, 50'000, old.size() - 50'000);
  std::string expected = old.substr(0, 50'000) + "inserted" + old.substr(50'000);
  auto answer = commit(upload, expected);
  EXPECT_TRUE(answer.ok()) << answer;
  EXPECT_EQ(temp.read("file"), expected);
}

TEST_F(CopyRangeTest, KeepsHoles) {
  temp.write("file", "begin");
  ASSERT_EQ(truncate((temp / "file").c_str(), 64 << 20), 0);
  std::string expected = "begin" + std::string((64 << 20) - 5, '\0');
  auto upload = create("file", versionAt("file"));
  copyRange(upload, 0, expected.size());
  ASSERT_TRUE(commit(upload, expected).ok());
  EXPECT_EQ(temp.stat("file").st_size, 64 << 20);
  EXPECT_LT(temp.stat("file").st_blocks, 1000);
}

TEST_F(CopyRangeTest, GoesInSlicesSoThatOthersHaveTheirTurn) {
  std::string content(40 << 20, 'x');
  for (size_t i = 0; i < content.size(); i += 4099) content[i] = char(i);
  temp.write("file", content);
  auto staged = state().staging->create(0600);
  ASSERT_TRUE(staged.ok());
  StagedContent appended(*staged);
  appended.setBase(kj::AutoCloseFd(::open((temp / "file").c_str(), O_RDONLY | O_CLOEXEC)), versionAt("file"));
  std::vector<Piece> pieces;
  pieces.push_back({nullptr, 0, 1, content.size() - 1});
  Progress progress;
  int slices = 0;
  for (bool isDone = false; !isDone; ++slices) {
    auto done = appended.append(pieces, progress);
    ASSERT_TRUE(done.ok());
    isDone = *done;
  }
  EXPECT_EQ(slices, 3);
  EXPECT_EQ(appended.size(), content.size() - 1);
  auto expected = digestOf(DigestAlgorithm::XXH3, std::string_view(content).substr(1));
  auto checked = appended.checkStep({content.size() - 1, DigestAlgorithm::XXH3, expected});
  EXPECT_TRUE(checked.ok() && *checked);
}

TEST_F(CopyRangeTest, EndsWithTheConnection) {
  temp.write("file", std::string(64 << 20, 'x'));
  auto upload = create("file", versionAt("file"));
  auto request = upload.copyRangeRequest();
  request.setOffset(0);
  request.setCount(64 << 20);
  request.send().wait(waitScope);
  scope->gone = true;
  EXPECT_FALSE(commit(upload, "").ok());
  upload = nullptr;
  EXPECT_THAT(staged(), IsEmpty());
}

TEST_F(CopyRangeTest, RefusesABaseThatIsNotThereAnyMore) {
  temp.write("file", old);
  Version before = versionAt("file");
  temp.settle("file");
  temp.write("file", "other");
  create("file", before);
  EXPECT_EQ(created, ErrorCode::CONFLICT);
  create("missing", before);
  EXPECT_EQ(created, ErrorCode::NOT_FOUND);
}

TEST_F(CopyRangeTest, FailsWhenTheBaseChangesMeanwhile) {
  temp.write("file", old);
  temp.settle("file");
  auto upload = create("file", versionAt("file"));
  copyRange(upload, 0, 10);
  temp.overwrite("file", "x");
  auto thrown = kj::runCatchingExceptions([&]() {
    for (int i = 0; i < 100; ++i) copyRange(upload, 0, 10);
  });
  if (thrown != nullptr) {
    EXPECT_THAT(std::string(KJ_ASSERT_NONNULL(thrown).getDescription().cStr()), HasSubstr("[conflict]"));
  }
  EXPECT_EQ(commit(upload, old.substr(0, 10)).code, ErrorCode::CONFLICT);
  EXPECT_EQ(temp.read("file").substr(1), old.substr(1));
}

TEST_F(CopyRangeTest, RefusesRangesThatAreNotThere) {
  temp.write("file", old);
  auto upload = create("file", versionAt("file"));
  auto thrown = kj::runCatchingExceptions([&]() { copyRange(upload, old.size() - 1, 2); });
  (void)thrown;
  EXPECT_EQ(commit(upload, "").code, ErrorCode::INVALID_ARGUMENT);
  auto without = create("new", {});
  kj::runCatchingExceptions([&]() { copyRange(without, 0, 1); });
  EXPECT_EQ(commit(without, "").code, ErrorCode::INVALID_ARGUMENT);
}

TEST_F(CopyRangeTest, GivesWhatItOverwritesToTheRun) {
  temp.write("file", old);
  begin();
  std::string run = lastRun;
  auto upload = create("file", versionAt("file"), run);
  copyRange(upload, 0, 3);
  ASSERT_TRUE(commit(upload, "aaa").ok());
  auto page = state().trash->list(run, "", "", 10);
  ASSERT_TRUE(page.ok());
  ASSERT_EQ(page->items.size(), 1u);
  EXPECT_EQ(page->items[0].entry.path, "file");
  EXPECT_EQ(page->items[0].entry.size, old.size());
}

}  // namespace
}  // namespace capstan::server::files
