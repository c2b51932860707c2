// What capabilities let their holders do, for every method of every interface and every way of giving less, and every
// path that could lead out: generated from the schema, so that what is added to the protocol is tested, or fails here.
#include <cstdio>
#include <filesystem>
#include <set>

#include <capstan/server/access/rights.h>

#include "../sharing.h"
#include "folder-image.h"
#include "matrix.h"

namespace capstan::server {
namespace {

namespace fs = std::filesystem;

const std::string SECRET = "SECRET CONTENT";
constexpr size_t SECRET_SIZE = 31'337;

// One of each thing that can be held.
using Held = std::map<std::string, capnp::Capability::Client>;

class MatrixTest : public testing::Test {
 protected:
  ~MatrixTest() noexcept {}

  Sharing serving;
  Protocol protocol;
  std::unique_ptr<TestClient> owner;
  schema::Grants::Client ownersGrants = nullptr;
  std::vector<std::unique_ptr<TestClient>> guests;
  unsigned combinations = 0;

  void SetUp() override {
    layOut();
    serving.start();
    owner = std::make_unique<TestClient>(serving.connect());
    ownersGrants = serving.grantsOf(*owner, serving.token());
  }

  void layOut() {
    auto& base = serving.base;
    fs::remove_all(base / "root/sub");
    if (!fs::exists(base / "root/secret")) {
      base.write("root/secret/file", SECRET + std::string(SECRET_SIZE - SECRET.size(), '.'));
    }
    base.write("root/sub/victim", "victim");
    base.write("root/sub/folder/inner", "inner");
    base.link("root/sub/out", "../secret");
    base.link("root/sub/outfile", "../secret/file");
    base.link("root/sub/away", "/etc");
    base.link("root/sub/folder/parent", "../..");
    base.link("root/sub/around", "../sub/victim");
    base.link("root/sub/state", "../.capstan");
  }

  schema::Session::Client loginWith(const std::string& token) {
    guests.push_back(std::make_unique<TestClient>(serving.connect()));
    return guests.back()->session(token);
  }

  // Through the server, as any client would; what may not be had answers why.
  Held hold(schema::Session::Client session, schema::FileStore::Client store) {
    Held held;
    held.emplace("Session", session);
    held.emplace("FileStore", store);
    held.emplace("Grants", session.grantsRequest().send().getGrants());
    auto open = store.openRequest();
    open.setPath(rpc::asData("victim"));
    held.emplace("File", open.send().getFile());
    auto create = store.createRequest();
    create.setPath(rpc::asData("uploaded"));
    held.emplace("Upload", create.send().getUpload());
    held.emplace("Batch", store.beginRequest().send().getBatch());
    held.emplace("Subscription", store.watchRequest().send().getSubscription());
    held.emplace("Trash", store.trashRequest().send().getTrash());
    auto compute = session.computeRequest().send().getCompute();
    held.emplace("Compute", compute);
    auto collect = compute.collectRequest();
    collect.setType(schema::ElementType::INT);
    collect.setEncoding(schema::Encoding::LINES);
    held.emplace("ByteSink", collect.send().getSink());
    auto add = compute.addRequest();
    auto numbers = add.initOperands(2);
    for (auto number : numbers) number.setInt(1);
    held.emplace("Value", add.send().getValue());
    auto submit = compute.submitRequest();
    auto operands = submit.initTask().initAdd(2);
    for (auto operand : operands) operand.setInt(1);
    held.emplace("Job", submit.send().getJob());
    for (auto& [name, capability] : held) {
      serving.inTime(capability.whenResolved().catch_([](kj::Exception&&) {}));
    }
    return held;
  }

  static void fillUsually(capnp::DynamicStruct::Builder params, capnp::InterfaceSchema::Method method) {
    for (auto field : method.getParamType().getFields()) {
      std::string name = field.getProto().getName().cStr();
      if (!field.getType().isData()) continue;
      std::string value = name == "path" || name == "from" ? "victim" : name == "to" ? "moved" : "";
      if (name == "content") value = "changed";
      if (name == "target") value = "somewhere";
      if (!value.empty()) Protocol::set(params, {name}, value);
    }
  }

  struct Answer {
    Error error;
    std::string text;
  };
  using Fill = std::function<void(capnp::DynamicStruct::Builder)>;

  Answer call(capnp::Capability::Client capability, capnp::InterfaceSchema interface,
              capnp::InterfaceSchema::Method method, const Fill& fill) {
    auto dynamic = capability.castAs<capnp::DynamicCapability>(interface);
    auto request = dynamic.newRequest(method);
    fill(request);
    Answer answer;
    // Also what streams: as a call by itself, so that its own answer is heard.
    auto answered = request.send().then([&](capnp::Response<capnp::DynamicStruct>&& response) {
      answer.text = kj::str(response).cStr();
      if (response.getSchema().findFieldByName("outcome") == nullptr || !response.has("outcome")) return;
      auto outcome = response.get("outcome").as<schema::Outcome>();
      KJ_IF_MAYBE (error, rpc::errorIn(outcome)) answer.error = *error;
    });
    auto failure = kj::runCatchingExceptions([&]() {
      // It is answered at once only if it is refused, and then before the call after it.
      if (std::string(method.getProto().getName().cStr()) == "ended") {
        auto flush = capability.castAs<schema::Subscription>().flushRequest().send().ignoreResult();
        serving.inTime(flush.catch_([](kj::Exception&&) {}));
        if (!answered.poll(serving.io.waitScope)) return;
      }
      serving.inTime(kj::mv(answered));
    });
    KJ_IF_MAYBE (exception, failure) answer.error = rpc::errorFromException(*exception);
    return answer;
  }

  // Calls everything there is. `ended`: nothing but this error is answered.
  void tryAll(const std::string& how, Held& held, const Rights& rights, ErrorCode ended = ErrorCode::UNSET) {
    std::string root = serving.base / "root";
    for (auto& [name, interface] : protocol.interfaces()) {
      if (CLIENTS.contains(name)) continue;
      auto capability = held.find(name);
      ASSERT_NE(capability, held.end()) << "nobody knows how to get a " << name << "; say it in hold()";
      for (auto method : Protocol::methodsOf(interface)) {
        std::string what = how + ": " + name + "." + method.getProto().getName().cStr();
        auto* terms = termsOf(method.getContainingInterface().getProto().getId(), method.getOrdinal());
        ASSERT_NE(terms, nullptr) << what;
        ASSERT_NE(terms->needs, schema::Right::UNSET) << what << " has no $needs in the schema";
        bool mayHold = canBeHeld(name, rights);
        bool allowed = ended == ErrorCode::UNSET && mayHold && rights.permit(terms->needs);
        std::string before = imageOf(root);
        auto answer = call(capability->second, interface, method, [&](auto params) { fillUsually(params, method); });
        ++combinations;
        if (allowed) {
          EXPECT_NE(answer.error.code, ErrorCode::DENIED) << what << ": " << answer.error.message;
          EXPECT_NE(answer.error.code, ErrorCode::REVOKED) << what;
          EXPECT_NE(answer.error.code, ErrorCode::EXPIRED) << what;
          continue;
        }
        bool wasEver = ended == ErrorCode::UNSET || !mayHold;
        auto expected = wasEver && ended == ErrorCode::UNSET ? ErrorCode::DENIED : ended;
        // What was never had answers why it was not.
        bool isRefused = answer.error.code == expected || (!mayHold && answer.error.code == ErrorCode::DENIED);
        EXPECT_TRUE(isRefused) << what << ": " << int(answer.error.code) << " " << answer.error.message;
        EXPECT_EQ(before, imageOf(root)) << what << " has changed something";
      }
    }
  }

  // One call with a path that must not lead out of `sub`; what a batch was given is carried out too.
  void attack(const std::string& name, capnp::InterfaceSchema interface, capnp::InterfaceSchema::Method method,
              schema::Session::Client session, schema::FileStore::Client store, const Trail& trail,
              const std::string& attempt, const std::string& what) {
    layOut();
    std::string root = serving.base / "root", inside = serving.base / "root/sub";
    std::string before = imageOf(root, inside);
    auto held = holdOne(name, session, store);
    auto answer = call(held, interface, method, [&](auto params) {
      fillUsually(params, method);
      Protocol::set(params, trail, attempt);
    });
    if (name == "Batch") {
      kj::runCatchingExceptions(
          [&]() { answer.text += kj::str(serving.wait(held.castAs<schema::Batch>().commitRequest().send())).cStr(); });
    }
    EXPECT_EQ(before, imageOf(root, inside)) << what << " has changed what is outside";
    EXPECT_EQ(answer.text.find(std::to_string(SECRET_SIZE)), std::string::npos) << what << " " << answer.text;
    EXPECT_EQ(answer.text.find(SECRET), std::string::npos) << what;
    bool isOpen = std::string(method.getProto().getName().cStr()) == "open";
    EXPECT_FALSE(isOpen && answer.error.code == ErrorCode::UNSET) << what << " was opened";
  }

  capnp::Capability::Client holdOne(const std::string& name, schema::Session::Client session,
                                    schema::FileStore::Client store) {
    if (name == "FileStore") return store;
    if (name == "Batch") return store.beginRequest().send().getBatch();
    if (name == "Trash") return store.trashRequest().send().getTrash();
    if (name == "Compute") return session.computeRequest().send().getCompute();
    auto all = hold(session, store);
    return all.at(name);
  }

  static bool canBeHeld(const std::string& name, const Rights& rights) {
    static const std::set<std::string> WRITERS = {"Upload", "Batch"};
    static const std::set<std::string> COMPUTERS = {"Compute", "ByteSink", "Value", "Job"};
    return (!WRITERS.contains(name) || rights.write) && (!COMPUTERS.contains(name) || rights.compute);
  }
};

TEST_F(MatrixTest, EveryMethodDoesWhatWasGrantedAndNothingElse) {
  for (bool write : {false, true}) {
    for (bool compute : {false, true}) {
      layOut();
      Rights rights{write, compute, false};
      std::string how = std::string(write ? "write" : "read") + (compute ? "+compute" : "");
      auto made = serving.share(*owner, {"sub", write, compute});
      ASSERT_FALSE(made.token.empty()) << made.error.message;
      auto session = loginWith(made.token);
      auto held = hold(session, session.fileStoreRequest().send().getFileStore());
      tryAll("share " + how, held, rights);
      layOut();
      auto request = owner->fileStore(serving.token()).subtreeRequest();
      request.setPath(rpc::asData("sub"));
      request.initRights().setWrite(write);
      auto whole = owner->session(serving.token());
      held = hold(whole, request.send().getStore());
      // What is not a tree is the login's, here the owner's.
      for (auto name : {"Session", "Compute", "ByteSink", "Value", "Job", "Grants"}) held.erase(name);
      auto limited = loginWith(made.token);
      auto others = hold(limited, limited.fileStoreRequest().send().getFileStore());
      for (auto& [name, capability] : others) held.emplace(name, capability);
      tryAll("subtree " + how, held, rights);
    }
  }
  printf("%u combinations of methods and what is granted\n", combinations);
}

TEST_F(MatrixTest, NothingSucceedsAfterTheEndOfAGrant) {
  Rights all{true, true, false};
  auto revoked = serving.share(*owner, {"sub", true, true});
  auto session = loginWith(revoked.token);
  auto store = session.fileStoreRequest().send().getFileStore();
  auto held = hold(session, store);
  auto child = serving.share(store, {"", true, true});
  ASSERT_FALSE(child.token.empty()) << child.error.message;
  auto childSession = loginWith(child.token);
  auto childHeld = hold(childSession, childSession.fileStoreRequest().send().getFileStore());
  EXPECT_EQ(serving.revoke(ownersGrants, revoked.id).ended, 2u);
  tryAll("revoked", held, all, ErrorCode::REVOKED);
  tryAll("parent revoked", childHeld, all, ErrorCode::REVOKED);

  auto expiring = serving.share(*owner, {.path = "sub", .write = true, .compute = true, .lifetime = 5'000'000'000});
  auto shortSession = loginWith(expiring.token);
  auto shortStore = shortSession.fileStoreRequest().send().getFileStore();
  auto shortHeld = hold(shortSession, shortStore);
  ASSERT_TRUE(serving.eventually([&]() { return serving.statError(shortStore).code == ErrorCode::EXPIRED; }));
  tryAll("expired", shortHeld, all, ErrorCode::EXPIRED);
  printf("%u combinations of methods and ends\n", combinations);
}

// Names of fields that hold other bytes than paths: whoever adds one says here, or in PATHS, which it is.
const std::set<std::string> OTHERS = {
    "content", "cursor", "since",          "target",    "version", "value", "base",  "resumeKey", "run",  "data",
    "before",  "bytes",  "idempotencyKey", "separator", "token",   "text",  "lines", "elements",  "texts"};

const std::vector<std::string> ATTEMPTS = {"..",
                                           "../secret/file",
                                           "/etc/passwd",
                                           "/",
                                           "out",
                                           "out/file",
                                           "out/new",
                                           "outfile",
                                           "away",
                                           "away/passwd",
                                           "around",
                                           "folder/..",
                                           "folder/parent/secret/file",
                                           "folder/parent/sub/victim",
                                           "folder/../../secret/file",
                                           "state",
                                           "state/trash",
                                           ".capstan",
                                           ".capstan/shares",
                                           "./victim",
                                           "folder//inner",
                                           "victim/"};

TEST_F(MatrixTest, NoPathLeadsOutOfATree) {
  auto made = serving.share(*owner, {"sub", true, true});
  auto session = loginWith(made.token);
  auto shared = session.fileStoreRequest().send().getFileStore();
  auto request = owner->fileStore(serving.token()).subtreeRequest();
  request.setPath(rpc::asData("sub"));
  request.initRights().setWrite(true);
  schema::FileStore::Client subtree = request.send().getStore();
  unsigned tried = 0;
  for (auto& [name, interface] : protocol.interfaces()) {
    if (CLIENTS.contains(name)) continue;
    for (auto method : Protocol::methodsOf(interface)) {
      for (auto& trail : Protocol::bytesIn(method)) {
        std::string field = name + "." + method.getProto().getName().cStr() + "." + textOf(trail);
        bool isPath = PATHS.contains(trail.back());
        ASSERT_TRUE(isPath || OTHERS.contains(trail.back())) << field << ": is it a path? Say so in this test";
        if (!isPath) continue;
        for (auto& attempt : ATTEMPTS) {
          attack(name, interface, method, session, shared, trail, attempt, field + " = " + attempt);
          attack(name, interface, method, session, subtree, trail, attempt, "subtree: " + field + " = " + attempt);
          tried += 2;
        }
      }
    }
  }
  printf("%u attempts to leave a tree by a path\n", tried);
}

TEST_F(MatrixTest, JobsStoreWhereTheirGrantLetsThemAndNowhereElse) {
  auto submit = [&](schema::Session::Client session, schema::FileStore::Client store, const std::string& path) {
    auto request = session.computeRequest().send().getCompute().submitRequest();
    auto task = request.initTask();
    for (auto operand : task.initAdd(2)) operand.setInt(1);
    auto file = task.getOutput().initFile();
    file.setStore(store);
    file.setPath(rpc::asData(path));
    return serving.wait(request.send());
  };
  auto stateOf = [&](schema::Job::Client job) {
    auto wait = job.waitRequest();
    wait.setTimeout(20'000'000'000);
    return serving.wait(wait.send()).getStatus().getState();
  };
  std::string root = serving.base / "root", inside = serving.base / "root/sub", before = imageOf(root, inside);
  auto reading = loginWith(serving.share(*owner, {"sub", false, true}).token);
  auto refused = submit(reading, reading.fileStoreRequest().send().getFileStore(), "result");
  EXPECT_EQ(errorOf(refused).code, ErrorCode::DENIED);

  auto writing = loginWith(serving.share(*owner, {"sub", true, true}).token);
  auto store = writing.fileStoreRequest().send().getFileStore();
  auto narrower = store.subtreeRequest();
  narrower.initRights();
  EXPECT_EQ(errorOf(submit(writing, narrower.send().getStore(), "result")).code, ErrorCode::DENIED);
  EXPECT_EQ(errorOf(submit(reading, store, "result")).code, ErrorCode::INVALID_ARGUMENT)
      << "a store of another connection is none of this one's";
  EXPECT_EQ(stateOf(submit(writing, store, "out/result").getJob()), schema::JobState::FAILED);
  EXPECT_EQ(imageOf(root, inside), before);
  EXPECT_EQ(stateOf(submit(writing, store, "result").getJob()), schema::JobState::DONE);
  EXPECT_EQ(serving.base.read("root/sub/result"), "2\n");
}

}  // namespace
}  // namespace capstan::server
