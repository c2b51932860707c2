#include <capstan/server/files/file-store.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "served.h"
#include "take-all.h"

namespace capstan::server::files {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FileStoreRead : public ::testing::Test {
 protected:
  ~FileStoreRead() noexcept override {}

  Received received;  // outlives the connections, which may hold sinks to their end
  Served served;
  TempFolder& temp = served.temp;

  capnp::Response<schema::FileStore::StatResults> stat(std::string_view path, bool follow = false) {
    auto request = served.store.statRequest();
    request.setPath(rpc::asData(path));
    request.setFollow(follow);
    return served.wait(request.send());
  }
  capnp::Response<schema::FileStore::ListResults> list(std::string_view path, bool recursive = false,
                                                       std::string_view cursor = {}, uint32_t maxEntries = 0) {
    auto request = served.store.listRequest();
    request.setPath(rpc::asData(path));
    request.setRecursive(recursive);
    request.setCursor(rpc::asData(cursor));
    request.setMaxEntries(maxEntries);
    return served.wait(request.send());
  }
  ErrorCode openCode(std::string_view path) {
    auto request = served.store.openRequest();
    request.setPath(rpc::asData(path));
    return codeIn(served.wait(request.send()).getOutcome());
  }
};

TEST_F(FileStoreRead, StatsFilesFoldersAndSymlinks) {
  temp.write("a/file with\nnewline \xff", "12345");
  temp.link("link", "a/file with\nnewline \xff");
  temp.link("out", "/etc/passwd");
  auto file = stat("a/file with\nnewline \xff");
  EXPECT_EQ(codeIn(file.getOutcome()), ErrorCode::UNSET);
  Entry entry = rpc::read(file.getEntry());
  EXPECT_EQ(entry.path, "a/file with\nnewline \xff");
  EXPECT_EQ(entry.size, 5u);
  EXPECT_EQ(entry.type, EntryType::FILE);
  EXPECT_EQ(entry.version, versionOf(temp.stat("a/file with\nnewline \xff")));
  EXPECT_EQ(rpc::read(stat("link").getEntry()).target, "a/file with\nnewline \xff");
  EXPECT_EQ(rpc::read(stat("link", true).getEntry()).version, entry.version);
  EXPECT_EQ(rpc::read(stat("link", true).getEntry()).path, "link");
  EXPECT_EQ(rpc::read(stat("out").getEntry()).target, "/etc/passwd");
  EXPECT_EQ(codeIn(stat("out", true).getOutcome()), ErrorCode::INVALID_PATH);
  EXPECT_EQ(rpc::read(stat("").getEntry()).type, EntryType::DIRECTORY);
  EXPECT_EQ(codeIn(stat("missing").getOutcome()), ErrorCode::NOT_FOUND);
  EXPECT_EQ(codeIn(stat("a/../a").getOutcome()), ErrorCode::INVALID_PATH);
  EXPECT_EQ(codeIn(stat(".capstan").getOutcome()), ErrorCode::NOT_FOUND);
  EXPECT_EQ(codeIn(stat("link/x").getOutcome()), ErrorCode::NOT_DIRECTORY);
}

TEST_F(FileStoreRead, OpensAndReadsInOneRoundTrip) {
  temp.write("file", "content");
  auto file = served.open("file");
  auto read = file.readRequest();
  read.setCount(100);
  auto data = read.send();
  auto status = file.statRequest().send();
  auto response = served.wait(kj::mv(data));
  EXPECT_EQ(rpc::asView(response.getData()), "content");
  EXPECT_TRUE(response.getAtEnd());
  EXPECT_EQ(rpc::read(served.wait(kj::mv(status)).getEntry()).size, 7u);
}

TEST_F(FileStoreRead, AFailedOpenAnswersTheSameErrorDownThePipeline) {
  auto file = served.open("missing");
  auto read = file.readRequest();
  read.setCount(1);
  EXPECT_EQ(codeIn(served.wait(read.send()).getOutcome()), ErrorCode::NOT_FOUND);
  EXPECT_EQ(codeIn(served.wait(file.statRequest().send()).getOutcome()), ErrorCode::NOT_FOUND);
  auto stream = file.streamRequest();
  stream.setSink(kj::heap<RecordingSink>(received));
  EXPECT_EQ(codeIn(served.wait(stream.send()).getOutcome()), ErrorCode::NOT_FOUND);
  EXPECT_FALSE(received.ended);
}

TEST_F(FileStoreRead, OpensNothingButFiles) {
  temp.makeFolder("folder");
  ASSERT_EQ(mkfifo((temp / "pipe").c_str(), 0600), 0);
  temp.link("to-folder", "folder");
  EXPECT_EQ(openCode("folder"), ErrorCode::IS_DIRECTORY);
  EXPECT_EQ(openCode("to-folder"), ErrorCode::IS_DIRECTORY);
  EXPECT_EQ(openCode(""), ErrorCode::IS_DIRECTORY);
  EXPECT_EQ(openCode("pipe"), ErrorCode::UNSUPPORTED);
  EXPECT_EQ(openCode("missing/below"), ErrorCode::NOT_FOUND);
  EXPECT_EQ(openCode("/etc/passwd"), ErrorCode::INVALID_PATH);
  EXPECT_EQ(served.scope->meter->used(Resource::FILES), 0u);
}

TEST_F(FileStoreRead, LimitsOpenFilesAndGivesThemBack) {
  temp.write("file", "x");
  temp.link("link", "file");
  auto others = takeAllBut(*served.scope, Resource::FILES, 3);
  std::vector<schema::File::Client> files;
  for (int i = 0; i < 3; ++i) {
    auto request = served.store.openRequest();
    request.setPath(rpc::asData(i == 1 ? "link" : "file"));
    auto response = served.wait(request.send());
    EXPECT_EQ(codeIn(response.getOutcome()), ErrorCode::UNSET);
    files.push_back(response.getFile());
  }
  EXPECT_EQ(served.scope->meter->used(Resource::FILES), others.amount() + 3);
  auto request = served.store.openRequest();
  request.setPath(rpc::asData("file"));
  auto response = served.wait(request.send());
  auto error = KJ_ASSERT_NONNULL(rpc::errorIn(response.getOutcome()));
  EXPECT_EQ(error.code, ErrorCode::LIMIT);
  EXPECT_THAT(error.message, HasSubstr("cannot open file"));
  EXPECT_THAT(error.message, HasSubstr("256 files open"));
  EXPECT_THAT(error.message, HasSubstr("drop some"));
  files.pop_back();
  served.turnUntil([&] { return served.scope->meter->used(Resource::FILES) == others.amount() + 2; });
  EXPECT_EQ(openCode("file"), ErrorCode::UNSET);
}

TEST_F(FileStoreRead, FilesAreClosedWhenTheConnectionEnds) {
  temp.write("file", "x");
  auto file = served.open("file");
  served.wait(file.statRequest().send());
  EXPECT_EQ(served.scope->meter->used(Resource::FILES), 1u);
  served.peers->server = nullptr;
  EXPECT_EQ(served.scope->meter->used(Resource::FILES), 0u);
}

TEST_F(FileStoreRead, TakesNoNewWorkWhileShuttingDown) {
  temp.write("file", "content");
  auto file = served.open("file");
  served.wait(file.statRequest().send());
  served.scope->shuttingDown = true;
  EXPECT_EQ(openCode("file"), ErrorCode::SHUTTING_DOWN);
  EXPECT_EQ(codeIn(stat("file").getOutcome()), ErrorCode::SHUTTING_DOWN);
  EXPECT_EQ(codeIn(list("").getOutcome()), ErrorCode::SHUTTING_DOWN);
  // What is open can still be read.
  auto read = file.readRequest();
  read.setCount(100);
  EXPECT_EQ(rpc::asView(served.wait(read.send()).getData()), "content");
}

TEST_F(FileStoreRead, ListsInPages) {
  for (int i = 0; i < 5; ++i) temp.write("f" + std::to_string(i), "x");
  std::vector<std::string> paths;
  std::string cursor;
  while (true) {
    auto page = list("", false, cursor, 2);
    ASSERT_EQ(codeIn(page.getOutcome()), ErrorCode::UNSET);
    for (auto entry : page.getEntries()) paths.push_back(rpc::read(entry).path);
    if (page.getAtEnd()) break;
    cursor = rpc::asView(page.getCursor());
  }
  EXPECT_THAT(paths, ElementsAre("f0", "f1", "f2", "f3", "f4"));
  EXPECT_EQ(codeIn(list("missing").getOutcome()), ErrorCode::NOT_FOUND);
  EXPECT_EQ(codeIn(list("f0").getOutcome()), ErrorCode::NOT_DIRECTORY);
  EXPECT_EQ(codeIn(list("", false, "garbage").getOutcome()), ErrorCode::INVALID_ARGUMENT);
}

TEST_F(FileStoreRead, MayBeGoneWhileTheDiskStillAnswers) {
  for (int i = 0; i < 200; ++i) temp.write("d/f" + std::to_string(i), "x");
  temp.link("link", "d");
  for (int i = 0; i < 50; ++i) {
    auto request = served.store.listRequest();
    request.setRecursive(true);
    auto promise = request.send();
    auto open = served.open("link/f" + std::to_string(i));
    auto read = open.readRequest().send();
    promise.poll(served.waitScope);
    if (i % 2 == 0) {
      served.peers = nullptr;
      served.peers =
          kj::heap<rpc::InProcessPeers>(served.folder->newFileStore(Access::ofOwner(kj::addRef(*served.scope))));
      served.store = served.peers->bootstrap<schema::FileStore>();
    }
  }
  served.peers = nullptr;
  // What was begun goes on to its end, then nobody holds it.
  served.turnUntil([&] { return served.scope->meter->used(Resource::FILES) == 0; });
  served.folder = nullptr;  // waits for the jobs
}

}  // namespace
}  // namespace capstan::server::files
