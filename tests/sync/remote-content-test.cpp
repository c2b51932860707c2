// How a file at the server is cut, as a server tells that means harm: its words are what memory is spent on.
#include <capstan/sync/remote-content.h>

#include <gtest/gtest.h>

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include <capstan/base/chunker.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/schema/gateway.capnp.h>

#include "../storage/temp-folder.h"

namespace capstan::sync {
namespace {

// What the server says of its file.
struct Said {
  uint64_t size = 0;
  std::vector<uint32_t> lengths;
  size_t digestBytes = 16;
  bool endless = false;  // the same chunks again and again
  unsigned asked = 0;

  Entry entry() const {
    Entry entry;
    entry.path = "file";
    entry.type = EntryType::FILE;
    entry.size = size;
    entry.version = "v";
    return entry;
  }
};

class File final : public schema::File::Server {
 public:
  explicit File(Said& said) : said(said) {}

 protected:
  kj::Promise<void> stat(StatContext call) override {
    rpc::write(call.getResults().initEntry(), said.entry());
    return kj::READY_NOW;
  }
  kj::Promise<void> digest(DigestContext call) override {
    rpc::write(call.getResults().initEntry(), said.entry());
    return kj::READY_NOW;
  }
  kj::Promise<void> chunks(ChunksContext call) override {
    KJ_REQUIRE(++said.asked < 100, "nobody stops this");
    auto results = call.getResults();
    rpc::write(results.initEntry(), said.entry());
    auto chunks = results.initChunks(said.lengths.size());
    std::string digest(said.digestBytes, 'd');
    for (size_t i = 0; i < said.lengths.size(); ++i) {
      chunks[i].setLength(said.lengths[i]);
      chunks[i].setDigest(rpc::asData(digest));
    }
    results.setAtEnd(!said.endless);
    return kj::READY_NOW;
  }

 private:
  Said& said;
};

class Store final : public schema::FileStore::Server {
 public:
  explicit Store(Said& said) : said(said) {}

 protected:
  kj::Promise<void> open(OpenContext call) override {
    call.getResults().setFile(kj::heap<File>(said));
    return kj::READY_NOW;
  }

 private:
  Said& said;
};

class Session final : public schema::Session::Server {
 public:
  explicit Session(Said& said) : said(said) {}

 protected:
  kj::Promise<void> fileStore(FileStoreContext call) override {
    call.getResults().setFileStore(kj::heap<Store>(said));
    return kj::READY_NOW;
  }

 private:
  Said& said;
};

class Gateway final : public schema::Gateway::Server {
 public:
  explicit Gateway(Said& said) : said(said) {}

 protected:
  kj::Promise<void> login(LoginContext call) override {
    call.getResults().setSession(kj::heap<Session>(said));
    return kj::READY_NOW;
  }

 private:
  Said& said;
};

class RemoteContent : public testing::Test {
 protected:
  ~RemoteContent() noexcept override = default;

  storage::TempFolder temp;
  std::string address = "unix:" + (temp / "socket");
  kj::AsyncIoContext io = kj::setupAsyncIo();
  Said said;
  capnp::TwoPartyServer server{kj::heap<Gateway>(said)};
  kj::Own<kj::ConnectionReceiver> receiver =
      io.provider->getNetwork().parseAddress(address).wait(io.waitScope)->listen();
  kj::Promise<void> serving = server.listen(*receiver).eagerlyEvaluate(nullptr);

  // Of a file of this size and these chunks.
  ErrorCode cut(uint64_t size, std::vector<uint32_t> lengths) {
    said.size = size;
    said.lengths = std::move(lengths);
    said.asked = 0;
    client::Options options;
    options.address = *rpc::parseAddress(address);
    options.retryFor = 0;
    client::Client client(io.provider->getNetwork(), io.provider->getTimer(), options);
    RemotePlace place{client, ""};
    Node expected;
    expected.stamp = "v";
    auto content = openRemote(place, "file", expected).wait(io.waitScope);
    if (!content.ok()) return content.error().code;
    auto found = (*content)->cut({}).wait(io.waitScope);
    return found.ok() ? ErrorCode::UNSET : found.error().code;
  }
};

constexpr uint32_t MIN = MIN_CHUNK_BYTES, MAX = MAX_CHUNK_BYTES;

TEST_F(RemoteContent, IsOfChunksAsTheyAreCut) {
  EXPECT_EQ(cut(0, {}), ErrorCode::UNSET);
  EXPECT_EQ(cut(1, {1}), ErrorCode::UNSET);
  EXPECT_EQ(cut(MIN + MAX + 5, {MIN, MAX, 5}), ErrorCode::UNSET);
}

TEST_F(RemoteContent, IsNotOfChunksThatAreShorterOrLongerThanAnyIs) {
  EXPECT_EQ(cut(MIN + 1, {1, MIN}), ErrorCode::CORRUPT);
  EXPECT_EQ(cut(2 * MIN - 1, {MIN - 1, MIN}), ErrorCode::CORRUPT);
  EXPECT_EQ(cut(MAX + 1, {MAX + 1}), ErrorCode::CORRUPT);
  EXPECT_EQ(cut(MIN, {MIN, 0}), ErrorCode::CORRUPT);
  EXPECT_EQ(cut(MIN, {MIN, MIN}), ErrorCode::CORRUPT) << "more than the file has";
}

TEST_F(RemoteContent, IsNotAskedForMoreAfterOneSuchChunk) {
  said.endless = true;
  EXPECT_EQ(cut(uint64_t(1) << 62, std::vector<uint32_t>(1000, 1)), ErrorCode::CORRUPT);
  EXPECT_EQ(said.asked, 1u);
}

TEST_F(RemoteContent, HasDigestsOfWholeChunks) {
  for (size_t bytes : {0, 15, 17}) {
    said.digestBytes = bytes;
    EXPECT_EQ(cut(MIN, {MIN}), ErrorCode::CORRUPT) << bytes;
  }
}

}  // namespace
}  // namespace capstan::sync
