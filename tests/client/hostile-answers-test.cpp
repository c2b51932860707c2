// Answers that no Capstan server gives: ids that are none, lists without an end, more content than was told of.
#include <gmock/gmock.h>

#include <capstan/client/server-id.h>
#include <capstan/client/tally.h>
#include <capstan/rpc/entry-wire.h>

#include "client-fixture.h"

namespace capstan::client {
namespace {

using testing::HasSubstr;

const char* const WRONG_IDS[] = {"",    "../other/.bashrc", "a/b", ".a", "-o", "a\x1b]0;x\x07", "A", "a b",
                                 "a.b", "\xc3\xa4"};

TEST(ServerId, IsOfSmallLettersAndDigits) {
  for (const char* id : {"a", "0", "k3vq27aaaa", "owner", "0123456789abcdef0123", "job-1"})
    EXPECT_TRUE(isServerId(id)) << id;
  for (const char* id : WRONG_IDS) EXPECT_FALSE(isServerId(id)) << id;
  EXPECT_TRUE(isServerId(std::string(64, 'a')));
  EXPECT_FALSE(isServerId(std::string(65, 'a')));
}

TEST(Tally, KeepsAThousandFailuresAndCountsTheRest) {
  Tally tally(nullptr);
  for (int i = 0; i < 1000; ++i) tally.failed(std::to_string(i), {ErrorCode::DENIED, "no", {}});
  EXPECT_EQ(tally.summary.failures.size(), 1000u);
  for (int i = 0; i < 5000; ++i) tally.failed(std::to_string(i), {ErrorCode::IO, "no", {}});
  ASSERT_EQ(tally.summary.failures.size(), 1001u);
  EXPECT_EQ(tally.summary.failures[999].path, "999");
  EXPECT_EQ(tally.summary.failures[1000].error.code, ErrorCode::IO);
  EXPECT_EQ(tally.summary.failures[1000].error.message, "and 5000 more failed");
}

// Lists shares for ever, if `pages` is not set, each page with a cursor of its own.
class HostileGrants final : public schema::Grants::Server {
 public:
  HostileGrants(std::string id, std::string parent, uint32_t pageSize, unsigned pages)
      : id(std::move(id)), parent(std::move(parent)), pageSize(pageSize), pages(pages) {}

  kj::Promise<void> current(CurrentContext context) override {
    fill(context.getResults().initShare());
    return kj::READY_NOW;
  }
  kj::Promise<void> list(ListContext context) override {
    auto results = context.getResults();
    auto shares = results.initShares(pageSize);
    for (auto share : shares) fill(share);
    std::string cursor(rpc::asView(context.getParams().getCursor()));
    unsigned asked = cursor.empty() ? 1 : unsigned(std::stoul(cursor)) + 1;
    cursor = std::to_string(asked);
    results.setCursor(rpc::asData(cursor));
    results.setAtEnd(asked == pages);
    return kj::READY_NOW;
  }

 private:
  const std::string id, parent;
  const uint32_t pageSize;
  const unsigned pages;

  void fill(schema::Share::Builder share) {
    share.setId(id.c_str());
    share.setParent(parent.c_str());
  }
};

class HostileFile final : public schema::File::Server {
 public:
  explicit HostileFile(uint64_t told, uint64_t first, bool skips) : told(told), first(first), skips(skips) {}
  uint64_t sent = 0;

  kj::Promise<void> stat(StatContext context) override {
    Entry entry;
    entry.path = "file";
    entry.type = EntryType::FILE;
    entry.size = told;
    entry.version = "v";
    rpc::write(context.getResults().initEntry(), entry);
    return kj::READY_NOW;
  }
  kj::Promise<void> read(ReadContext context) override {
    std::string content(first, 'x');
    context.getResults().setData(rpc::asData(content));
    return kj::READY_NOW;
  }
  kj::Promise<void> stream(StreamContext context) override { return more(context, context.getParams().getSink()); }

 private:
  static constexpr uint64_t PIECE = 64 << 10;
  const uint64_t told, first;
  const bool skips;

  // Until nobody takes it any more.
  kj::Promise<void> more(StreamContext context, schema::ByteSink::Client sink) {
    sent += PIECE;
    KJ_REQUIRE(sent < (256 << 20), "nobody stops this");
    auto next = [this, context, sink]() mutable { return more(context, sink); };
    if (skips) {
      auto request = sink.skipRequest();
      request.setCount(PIECE);
      return request.send().then(kj::mv(next));
    }
    auto request = sink.writeRequest();
    std::string content(PIECE, 'x');
    request.setData(rpc::asData(content));
    return request.send().then(kj::mv(next));
  }
};

class HostileStore final : public schema::FileStore::Server {
 public:
  std::string shareId = "a";
  uint64_t told = 10, first = 10;
  bool skips = false;

  kj::Promise<void> share(ShareContext context) override {
    context.getResults().initShare().setId(shareId.c_str());
    std::string token(32, 't');
    context.getResults().setToken(rpc::asData(token));
    return kj::READY_NOW;
  }
  kj::Promise<void> open(OpenContext context) override {
    context.getResults().setFile(kj::heap<HostileFile>(told, first, skips));
    return kj::READY_NOW;
  }
};

class HostileAnswers : public ClientTest {
 protected:
  ~HostileAnswers() noexcept override = default;

  void share(std::string id, std::string parent, uint32_t pageSize = 1, unsigned pages = 1) {
    server.tree.grants = [=]() { return schema::Grants::Client(kj::heap<HostileGrants>(id, parent, pageSize, pages)); };
  }
  HostileStore& store() {
    auto own = kj::heap<HostileStore>();
    HostileStore& store = *own;
    held = schema::FileStore::Client(kj::mv(own));
    server.tree.fileStore = [this]() { return KJ_ASSERT_NONNULL(held); };
    return store;
  }

 private:
  kj::Maybe<schema::FileStore::Client> held;
};

TEST_F(HostileAnswers, AShareWithAnIdThatIsNoneIsRefused) {
  HostileStore& hostile = store();
  EXPECT_EQ(expectOk(run(client().share({}))).share.id, "a");
  for (const char* id : WRONG_IDS) {
    hostile.shareId = id;
    expectError(run(client().share({})), ErrorCode::CORRUPT);
  }
}

TEST_F(HostileAnswers, AListOfSharesWithAnIdThatIsNoneIsRefused) {
  for (auto& [id, parent] : {std::pair("../x", "owner"), {"x", "../x"}, {"", ""}}) {
    share(id, parent);
    expectError(run(client().shares()), ErrorCode::CORRUPT);
    expectError(run(client().currentShare()), ErrorCode::CORRUPT);
  }
  share("x", "");
  EXPECT_EQ(expectOk(run(client().shares())).size(), 1u);
}

TEST_F(HostileAnswers, AListOfSharesHasAnEnd) {
  share("x", "", 10'000, 0);
  EXPECT_THAT(expectError(run(client().shares()), ErrorCode::CORRUPT).message, HasSubstr("100000 shares"));
  share("x", "", 0, 0);
  expectError(run(client().shares()), ErrorCode::IO);
}

TEST_F(HostileAnswers, AJobWithAnIdThatIsNoneIsRefused) {
  server.tree.computing.idPrefix = "../\x1b[31m";
  Sorting sorting{Elements(std::vector<int64_t>{2, 1})};
  expectError(run(client().submit(sorting)), ErrorCode::CORRUPT);
  expectError(run(client().listJobs([](JobStatus&&) { ADD_FAILURE(); })), ErrorCode::CORRUPT);
}

TEST_F(HostileAnswers, AFileIsNoLongerThanWasToldWhenItIsRead) {
  HostileStore& hostile = store();
  hostile.told = 10;
  hostile.first = 11;
  expectError(run(client().download("file", local + "/file", {})), ErrorCode::CHANGED);
}

TEST_F(HostileAnswers, AFileIsNoLongerThanWasToldWhenItIsStreamed) {
  HostileStore& hostile = store();
  for (bool skips : {false, true}) {
    hostile.told = 1 << 20;
    hostile.first = 10;
    hostile.skips = skips;
    expectError(run(client().download("file", local + "/file", {})), ErrorCode::CHANGED);
    for (auto& left : std::filesystem::directory_iterator(local)) EXPECT_LE(left.file_size(), 1u << 20) << left;
  }
}

}  // namespace
}  // namespace capstan::client
