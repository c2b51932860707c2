// Drives into each limit that is counted, for a connection, a share and the server: whoever takes too much gets a
// sentence that names the limit, and the others, who hold as many things as they may, notice nothing.
#include <capstan/server/access/limits.h>

#include "../sharing.h"

namespace capstan::server {
namespace {

using testing::HasSubstr;

constexpr uint64_t FEW = 3;
constexpr uint64_t UNIT_BYTES = 1 << 20;  // of what is counted in bytes, one thing has so many

class SilentWatcher final : public schema::Watcher::Server {};

// One connection that takes things until it is told to stop.
class Taker {
 public:
  Taker(Sharing& serving, std::string token)
      : serving(serving), token(std::move(token)), client(serving.connect()), store(client.fileStore(this->token)) {
    // The session that it came from is let go of with the second call at the latest.
    stat();
    stat();
  }

  // One more; UNSET where it was given.
  Error take(Resource resource) {
    switch (resource) {
      case Resource::CONNECTIONS: {
        more.push_back(std::make_unique<TestClient>(serving.connect()));
        return serving.loginError(*more.back(), token);
      }
      case Resource::LOGINS: return hold(client.login(token), [](auto& answer) { return answer.getSession(); });
      case Resource::CALLS:
      case Resource::STREAMS: return stream();
      case Resource::FILES: {
        auto request = store.openRequest();
        request.setPath(rpc::asData("file"));
        return hold(request.send(), [](auto& answer) { return answer.getFile(); });
      }
      case Resource::UPLOADS: return hold(createRequest().send(), [](auto& answer) { return answer.getUpload(); });
      case Resource::STAGED_BYTES: return upload();
      case Resource::BATCHES: return hold(store.beginRequest().send(), [](auto& answer) { return answer.getBatch(); });
      case Resource::BATCH_BYTES:
      case Resource::BATCH_STAGED_BYTES: return batch(resource == Resource::BATCH_STAGED_BYTES);
      case Resource::SUBSCRIPTIONS: {
        auto request = store.watchRequest();
        request.setWatcher(kj::heap<SilentWatcher>());
        return hold(request.send(), [](auto& answer) { return answer.getSubscription(); });
      }
      case Resource::VALUES: {
        auto request = client.session(token).computeRequest().send().getCompute().addRequest();
        for (auto operand : request.initOperands(2)) operand.setInt(1);
        return hold(request.send(), [](auto& answer) { return answer.getValue(); });
      }
    }
    KJ_UNREACHABLE;
  }

  // What does not touch the limit.
  Error stat() { return serving.statError(store, "file"); }
  void dropAll() {
    streams.clear();
    sink.release();
    sink.held = true;
    held.clear();
    more.clear();
  }

 private:
  Sharing& serving;
  const std::string token;
  TestClient client;
  schema::FileStore::Client store;
  std::vector<std::unique_ptr<TestClient>> more;
  std::vector<capnp::Capability::Client> held;
  HeldSink::State sink{.held = true};
  std::vector<kj::Promise<void>> streams;

  template <typename Promise, typename Get>
  Error hold(Promise&& promise, Get get) {
    auto answer = serving.wait(kj::mv(promise));
    Error error = errorOf(answer);
    if (error.code == ErrorCode::UNSET) held.push_back(get(answer));
    return error;
  }

  capnp::Request<schema::FileStore::CreateParams, schema::FileStore::CreateResults> createRequest() {
    auto request = store.createRequest();
    request.setPath(rpc::asData("new" + std::to_string(held.size())));
    return request;
  }

  // A stream whose sink takes nothing: it goes on, as a call in flight.
  Error stream() {
    auto open = store.openRequest();
    open.setPath(rpc::asData("file"));
    auto opened = serving.wait(open.send());
    Error error = errorOf(opened);
    if (error.code != ErrorCode::UNSET) return error;
    auto request = opened.getFile().streamRequest();
    request.setSink(kj::heap<HeldSink>(sink));
    request.setCount(UINT64_MAX);
    size_t before = sink.waiting.size();
    bool answered = false;
    streams.push_back(request.send()
                          .then([&](auto&& answer) {
                            error = errorOf(answer);
                            answered = true;
                          })
                          .eagerlyEvaluate(nullptr));
    EXPECT_TRUE(serving.eventually([&]() { return answered || sink.waiting.size() > before; }));
    if (answered) streams.pop_back();
    return error;
  }

  Error upload() {
    auto created = serving.wait(createRequest().send());
    auto upload = created.getUpload();
    auto write = upload.writeRequest();
    write.initData(UNIT_BYTES);
    serving.wait(write.send());
    // What a stream was refused shows in the answer to what follows.
    Error error = errorOf(serving.wait(upload.endRequest().send()));
    if (error.code == ErrorCode::UNSET) held.push_back(kj::mv(upload));
    return error;
  }

  Error batch(bool withContent) {
    auto batch = serving.wait(store.beginRequest().send()).getBatch();
    auto add = batch.addRequest();
    auto operations = add.initOperations(1);
    if (withContent) {
      auto put = operations[0].initPut();
      put.setPath(rpc::asData("batched"));
      put.initContent(UNIT_BYTES);
    } else {
      auto link = operations[0].initSymlink();
      link.setPath(rpc::asData("batched"));
      link.initTarget(4000);
    }
    serving.wait(add.send());
    stat();  // when this is answered, so is that
    Error error;
    serving.wait(batch.addRequest().send().catch_(
        [&](kj::Exception&& exception) { error = rpc::errorFromException(exception); }));
    if (error.code == ErrorCode::UNSET) held.push_back(kj::mv(batch));
    return error;
  }
};

struct Row {
  Limit limit;
};
void PrintTo(const Row& row, std::ostream* out) { *out << rowOf(row.limit).fullName(); }

std::vector<Row> countedRows() {
  std::vector<Row> rows;
  for (const LimitRow& row : limitTable()) {
    if (row.resource) rows.push_back({row.limit});
  }
  return rows;
}

class LimitDriveTest : public testing::TestWithParam<Row> {
 protected:
  ~LimitDriveTest() noexcept {}

  Sharing serving;
  const LimitRow& row = rowOf(GetParam().limit);
  std::unique_ptr<TestClient> owner;

  void start() {
    uint64_t most = row.unit == LimitUnit::BYTES ? std::max(FEW * UNIT_BYTES, row.least) : FEW;
    if (row.resource == Resource::BATCH_BYTES) most = row.least;
    serving.limit(row.limit, most);
    serving.base.write("root/file", std::string(1000, 'x'));
    serving.start();
    owner = std::make_unique<TestClient>(serving.connect());
  }

  std::string tokenOf(const std::string& label) {
    if (row.scope != LimitScope::GRANT) return serving.token();
    auto made = serving.share(*owner, {.write = true, .compute = true, .label = label});
    EXPECT_EQ(made.error.code, ErrorCode::UNSET) << made.error.message;
    return made.token;
  }

  std::string holder() const {
    switch (row.scope) {
      case LimitScope::CONNECTION: return "this connection";
      case LimitScope::GRANT: return "the share \"greedy\"";
      default: return "the server";
    }
  }

  uint64_t refused() {
    auto answer = serving.wait(owner->session(serving.token()).statusRequest().send());
    return answer.getStatus().getLimits()[unsigned(row.limit)].getRefused();
  }
};

TEST_P(LimitDriveTest, TellsWhoeverTakesTooMuchAndLeavesTheOthersAlone) {
  start();
  Taker greedy(serving, tokenOf("greedy")), modest(serving, tokenOf("modest"));
  ASSERT_EQ(modest.take(*row.resource).code, ErrorCode::UNSET);

  Error error;
  uint64_t taken = 0;
  for (; taken < 100 && error.code == ErrorCode::UNSET; ++taken) error = greedy.take(*row.resource);
  ASSERT_EQ(error.code, ErrorCode::LIMIT) << error.message;
  EXPECT_THAT(error.message, HasSubstr(row.fullName()));
  EXPECT_THAT(error.message, HasSubstr(holder()));
  if (row.resource != Resource::BATCH_BYTES) {
    // One is held by the modest one, or is the connection that the greedy one came with.
    bool oneIsTaken = row.scope == LimitScope::SERVER || row.resource == Resource::CONNECTIONS;
    EXPECT_EQ(taken - 1, oneIsTaken ? FEW - 1 : FEW);
  }
  EXPECT_EQ(greedy.take(*row.resource).code, ErrorCode::LIMIT) << "it stays so";

  bool allCallsAreTaken = row.limit == Limit::SERVER_CALLS;
  if (!allCallsAreTaken) {
    EXPECT_EQ(modest.stat().code, ErrorCode::UNSET);
  }
  if (row.scope != LimitScope::SERVER) {
    EXPECT_EQ(modest.take(*row.resource).code, ErrorCode::UNSET) << "others may take as many";
  }
  greedy.dropAll();
  EXPECT_TRUE(serving.eventually([&]() { return greedy.take(*row.resource).code == ErrorCode::UNSET; }));
  EXPECT_GE(refused(), 2u);
}

std::string nameOfTest(const testing::TestParamInfo<Row>& info) {
  std::string name = rowOf(info.param.limit).fullName();
  for (char& each : name) {
    if (each == '.' || each == '-') each = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, LimitDriveTest, testing::ValuesIn(countedRows()), nameOfTest);

}  // namespace
}  // namespace capstan::server
