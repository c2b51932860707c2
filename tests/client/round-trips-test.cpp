// How many round trips things cost, counted by a network that delays each direction: connecting takes one by itself.
#include "client-fixture.h"

namespace capstan::client {
namespace {

class RoundTrips : public ClientTest {
 protected:
  RoundTrips() { server.delay = 500 * kj::MILLISECONDS; }
  // So far, without the one of connecting.
  double count() { return double(server.elapsed() / kj::MILLISECONDS) / 1000 - 1; }
};

TEST_F(RoundTrips, GettingASmallFileIsOneWithLoginAndAll) {
  server.tree.put("small", "content");
  download("small", path("small"));
  EXPECT_EQ(readLocal("small"), "content");
  EXPECT_NEAR(count(), 1, 0.1);
}

TEST_F(RoundTrips, ReadingAFileUpToTheFirstReadIsOne) {
  server.tree.put("file", std::string(256 << 10, 'x'));
  StringConsumer sink;
  expectOk(run(client().read("file", sink)));
  EXPECT_EQ(sink.content.size(), 256u << 10);
  EXPECT_NEAR(count(), 1, 0.1);
}

TEST_F(RoundTrips, ALargeFileIsOneMoreAndItsStreamsEnd) {
  server.tree.put("file", std::string(300 << 10, 'x'));
  StringConsumer sink;
  expectOk(run(client().read("file", sink)));
  EXPECT_EQ(sink.content.size(), 300u << 10);
  // The end of the sink is answered by us before the stream's own answer.
  EXPECT_LE(count(), 3.1);
}

TEST_F(RoundTrips, StoringASmallFileIsOne) {
  upload(writeLocal("a", "content"), "a");
  EXPECT_NEAR(count(), 1, 0.1);
}

TEST_F(RoundTrips, WritingALittleFromASourceIsOne) {
  StringProducer source("content");
  expectOk(run(client().write(source, "a")));
  EXPECT_EQ(server.tree.nodes["a"].content, "content");
  EXPECT_NEAR(count(), 1, 0.1);
}

TEST_F(RoundTrips, ManyFilesDoNotWaitForEachOther) {
  for (int i = 0; i < 60; ++i) writeLocal("tree/" + std::to_string(i), "content");
  UploadSettings settings;
  settings.recursive = true;
  EXPECT_EQ(upload(path("tree"), "tree", settings).files, 60u);
  // All of it in one, and the folder's metadata after that.
  EXPECT_NEAR(count(), 2, 0.1);
}

TEST_F(RoundTrips, ATreeIsFetchedAtOnceToo) {
  server.tree.pageSize = 1000;
  server.tree.folder("tree");
  for (int i = 0; i < 60; ++i) server.tree.put("tree/" + std::to_string(i), "content");
  DownloadSettings settings;
  settings.recursive = true;
  EXPECT_EQ(download("tree", path("tree"), settings).files, 60u);
  // What it is, what is in it, and that.
  EXPECT_NEAR(count(), 3, 0.1);
}

}  // namespace
}  // namespace capstan::client
