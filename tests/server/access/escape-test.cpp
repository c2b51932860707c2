// Promise 10: nothing outside of a tree is reached, while somebody turns its folders into links that lead out and moves
// them about. Operations of every kind, generated from the schema: each method that takes a path, on what a share holds
// and on the served folder itself. CAPSTAN_OPERATIONS chooses how many for each (1,000,000 with CAPSTAN_TEST_LONG=1),
// CAPSTAN_SEED the random choices of the calls; a failure names it.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "../sharing.h"
#include "folder-image.h"
#include "matrix.h"

namespace capstan::server {
namespace {

using testing::HasSubstr;

constexpr uint64_t OPERATIONS = 4'000, LONG_OPERATIONS = 1'000'000;
constexpr unsigned AT_ONCE = 32;
constexpr unsigned SELDOM = 50;  // what costs the server much: once where others are done so often
constexpr uint64_t PER_EMPTYING = 5'000;
// What lies outside has it in its content and in its names.
const std::string SECRET = "SECRET", OUTSIDE_FILE = "file";

uint64_t fromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = getenv(name);
  return text == nullptr ? otherwise : std::stoull(text);
}

uint64_t operations() {
  return fromEnvironment("CAPSTAN_OPERATIONS", getenv("CAPSTAN_TEST_LONG") != nullptr ? LONG_OPERATIONS : OPERATIONS);
}

// Changes a folder without a pause: `x` is in turn a folder, a link that stays inside, and links that lead out;
// `in/file` too; `in/d` moves up, out of the folder and back. What clients have removed is made again. It follows no
// link itself, as clients can make `in` one that leads out.
class Flipper {
 public:
  Flipper(std::string folder, std::string spare, std::vector<std::string> waysOut)
      : folder(std::move(folder)), spare(std::move(spare)), waysOut(std::move(waysOut)), thread([this]() { run(); }) {}
  ~Flipper() {
    done = true;
    thread.join();
  }
  uint64_t turns() const { return count; }

 private:
  const std::string folder, spare;
  const std::vector<std::string> waysOut;
  std::atomic<bool> done{false};
  std::atomic<uint64_t> count{0};
  std::error_code ignored;  // the thread's
  std::thread thread;       // uses all of these

  void run() {
    for (; !done; ++count) {
      if (count % 16 == 0) renew();
      std::string x = folder + "/x", next = spare + "/next", aside = spare + "/aside";
      for (auto& target : waysOut) {
        if (symlink(target.c_str(), next.c_str()) == 0 && rename(next.c_str(), x.c_str()) != 0) clear(x);
        std::filesystem::remove(next, ignored);
      }
      clear(x);
      std::string in = folder + "/in";
      if (rename(in.c_str(), x.c_str()) == 0) rename(x.c_str(), in.c_str());
      flipInside();
    }
  }

  // Of what is in the folder `in`, if it is one.
  void flipInside() {
    int top = open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
    int in = openat(top, "in", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (in >= 0) {
      renameat(in, "d", AT_FDCWD, (spare + "/d").c_str());
      for (auto& target : waysOut) {
        if (symlinkat((target + "/" + OUTSIDE_FILE).c_str(), in, "next") == 0) renameat(in, "next", in, "file");
        unlinkat(in, "next", 0);
      }
      std::ofstream(spare + "/file") << "inside";
      renameat(AT_FDCWD, (spare + "/file").c_str(), in, "file");
      renameat(AT_FDCWD, (spare + "/d").c_str(), in, "d");
      close(in);
    }
    close(top);
    clear(spare + "/d");
  }

  void renew() {
    std::string fresh = spare + "/in";
    std::filesystem::create_directories(fresh + "/d");
    std::ofstream(fresh + "/file") << "inside";
    std::ofstream(fresh + "/d/file") << "inside";
    clear(folder + "/in");
    if (rename(fresh.c_str(), (folder + "/in").c_str()) != 0) clear(fresh);
  }

  void clear(const std::string& path) {
    std::string away = spare + "/away";
    if (rename(path.c_str(), away.c_str()) == 0) std::filesystem::remove_all(away, ignored);
  }
};

// One way to give a path to the server.
struct Kind {
  capnp::InterfaceSchema interface;
  capnp::InterfaceSchema::Method method;
  std::vector<Trail> paths;  // of one struct
  std::string name;
  uint64_t tried = 0, succeeded = 0;

  std::string methodName() const { return method.getProto().getName().cStr(); }
};

std::vector<Kind> kindsOf(const Protocol& protocol) {
  std::map<std::string, Kind> kinds;
  for (auto& [name, interface] : protocol.interfaces()) {
    if (CLIENTS.contains(name)) continue;
    for (auto method : interface.getMethods()) {
      for (auto& trail : Protocol::bytesIn(method)) {
        if (!PATHS.contains(trail.back())) continue;
        Trail holder(trail.begin(), trail.end() - 1);
        std::string key =
            name + "." + method.getProto().getName().cStr() + (holder.empty() ? "" : ".") + textOf(holder);
        kinds.try_emplace(key, Kind{interface, method, {}, key}).first->second.paths.push_back(trail);
      }
    }
  }
  std::vector<Kind> list;
  for (auto& [key, kind] : kinds) list.push_back(kind);
  return list;
}

class Escaping : public testing::Test, private kj::TaskSet::ErrorHandler {
 protected:
  ~Escaping() noexcept {}

  Sharing serving;
  storage::TempFolder outside;
  const uint64_t seed = fromEnvironment("CAPSTAN_SEED", std::random_device()());
  std::mt19937_64 random{seed};
  std::vector<Kind> kinds = kindsOf(Protocol());
  std::unique_ptr<TestClient> owner, client;
  schema::Session::Client session = nullptr;
  schema::FileStore::Client store = nullptr, ownersStore = nullptr;
  std::string prefix;  // of every path
  std::vector<std::string> runs;
  uint64_t left = 0, inside = 0, notices = 0;
  std::string escape;  // the first answer that tells of what lies outside

  void SetUp() override {
    for (auto where : {outside / "", serving.base / "root/other/"}) {
      std::filesystem::create_directories(where + "d/" + SECRET);
      std::ofstream(where + OUTSIDE_FILE) << SECRET;
      std::ofstream(where + "d/" + OUTSIDE_FILE) << SECRET;
      std::ofstream(where + SECRET) << SECRET;
    }
    serving.base.makeFolder("root/sub");
    serving.base.makeFolder("spare");
    serving.start();
    owner = std::make_unique<TestClient>(serving.connect());
    client = std::make_unique<TestClient>(serving.connect());
    ownersStore = owner->fileStore(serving.token());
  }

  uint64_t below(uint64_t limit) { return random() % limit; }

  std::string anyPath() {
    static const std::vector<std::string> PATHS_WITHIN = {
        "x",       "x/file",      "x/d",     "x/d/file",  "x/new",        "x/d/new",   "x/new/deep", "in",
        "in/file", "in/new",      "in/d",    "in/d/file", "in/d/new",     "y",         "y/file",     "y/d/file",
        "",        "x/d/file/no", "in/link", "y/new",     "in/link/file", "in/link/d", "in/d/link"};
    std::string path = PATHS_WITHIN[below(PATHS_WITHIN.size())];
    return path.empty() || prefix.empty() ? path : prefix + "/" + path;
  }

  // What a client is told.
  void look(const Kind& kind, const std::string& told) {
    if (escape.empty() && told.find(SECRET) != std::string::npos) escape = kind.name + " told: " + told;
    if (told.find("inside") != std::string::npos) ++inside;
  }
  template <typename Answer>
  bool isGood(const Kind& kind, Answer& answer) {
    look(kind, kj::str(answer).cStr());
    return errorOf(answer).code == ErrorCode::UNSET;
  }

  void fill(const Kind& kind, capnp::DynamicStruct::Builder params) {
    for (auto field : params.getSchema().getFields()) {
      std::string name = field.getProto().getName().cStr();
      if (name == "run" && !runs.empty()) Protocol::set(params, {name}, runs[below(runs.size())]);
      if (name == "rights") params.init(field).as<schema::Rights>().setWrite(true);
      if (name == "maxEntries") params.set(field, 100);
    }
    for (auto& trail : kind.paths) {
      auto holder = Protocol::holderOf(params, trail);
      for (auto field : holder.getSchema().getFields()) {
        std::string name = field.getProto().getName().cStr();
        Trail sibling = trail;
        sibling.back() = name;
        if (field.getType().isBool()) holder.set(field, below(2) == 1);
        if (name == "content") Protocol::set(params, sibling, "changed");
        if (name == "target") Protocol::set(params, sibling, anyTarget());
      }
      Protocol::set(params, trail, anyPath());
    }
    if (kind.name == "Compute.submit.task.output.file") {
      auto task = params.get("task").as<schema::Task>();
      for (auto operand : task.initAdd(2)) operand.setInt(1);
      task.getOutput().getFile().setStore(store);
    }
    if (kind.methodName() == "watch") params.set("watcher", capnp::DynamicCapability::Client(newWatcher()));
  }

  std::string anyTarget() {
    const std::vector<std::string> targets = {outside.path(), "in",       "d",          "..",
                                              "../../other",  "../other", outside / "d"};
    return targets[below(targets.size())];
  }

  schema::Watcher::Client newWatcher() {
    struct Watching final : public schema::Watcher::Server {
      Escaping& test;
      explicit Watching(Escaping& test) : test(test) {}
      kj::Promise<void> notify(NotifyContext context) override {
        std::string told = kj::str(context.getParams()).cStr();
        test.notices += context.getParams().getNotices().size();
        if (test.escape.empty() && told.find(SECRET) != std::string::npos) test.escape = "a watch told: " + told;
        return kj::READY_NOW;
      }
    };
    return kj::heap<Watching>(*this);
  }

  // Whose method it is; batches are new ones, and carried out at the end of the operation.
  capnp::Capability::Client holderOf(const Kind& kind) {
    std::string name = kind.interface.getShortDisplayName().cStr();
    if (name == "FileStore") return store;
    if (name == "Trash") return store.trashRequest().send().getTrash();
    if (name == "Compute") return session.computeRequest().send().getCompute();
    if (name == "Batch") return store.beginRequest().send().getBatch();
    ADD_FAILURE() << "nobody knows how to get a " << name << "; say it here";
    return nullptr;
  }

  // With what the call has answered, to see where it leads.
  kj::Promise<bool> goOn(Kind& kind, capnp::Capability::Client holder, capnp::Response<capnp::DynamicStruct> answer) {
    look(kind, kj::str(answer).cStr());
    if (kind.interface.getProto().getId() == capnp::typeId<schema::Batch>()) {
      return holder.castAs<schema::Batch>().commitRequest().send().then([this, &kind](auto&& committed) {
        bool good = isGood(kind, committed);
        for (auto result : committed.getResults()) good = good && errorOf(result).code == ErrorCode::UNSET;
        return good;
      });
    }
    auto outcome = answer.get("outcome").as<schema::Outcome>();
    if (rpc::errorIn(outcome) != nullptr) return false;
    std::string name = kind.methodName();
    if (name == "open") return readAll(kind, answer.get("file").as<schema::File>());
    if (name == "create") {
      auto upload = answer.get("upload").as<schema::Upload>();
      auto write = upload.writeRequest();
      write.setData(rpc::asData("changed"));
      return write.send().then([this, &kind, upload]() mutable {
        return upload.commitRequest().send().then([this, &kind](auto&& committed) { return isGood(kind, committed); });
      });
    }
    if (name == "subtree") return lookAround(kind, answer.get("store").as<schema::FileStore>());
    if (name == "share") {
      std::string token(rpc::asView(answer.get("token").as<capnp::Data>()));
      return lookAround(kind, client->fileStore(token));
    }
    if (name == "submit") {
      auto wait = answer.get("job").as<schema::Job>().waitRequest();
      wait.setTimeout(20'000'000'000);
      return wait.send().then([this, &kind](auto&& waited) {
        return isGood(kind, waited) && waited.getStatus().getState() == schema::JobState::DONE;
      });
    }
    return true;
  }

  kj::Promise<bool> readAll(Kind& kind, schema::File::Client file) {
    auto read = file.readRequest();
    read.setCount(100);
    auto digest = file.digestRequest();
    digest.setAlgorithm(schema::DigestAlgorithm::SHA256);
    auto chunks = file.chunksRequest();
    auto digesting = digest.send().then([this, &kind](auto&& answer) { isGood(kind, answer); });
    auto chunking = chunks.send().then([this, &kind](auto&& answer) { isGood(kind, answer); });
    return read.send()
        .then([this, &kind](auto&& answer) { return isGood(kind, answer); })
        .then([a = kj::mv(digesting), b = kj::mv(chunking)](bool good) mutable {
          return a.then([b = kj::mv(b), good]() mutable { return b.then([good]() { return good; }); });
        });
  }

  kj::Promise<bool> lookAround(Kind& kind, schema::FileStore::Client there) {
    auto list = there.listRequest();
    list.setRecursive(true);
    auto open = there.openRequest();
    open.setPath(rpc::asData("file"));
    auto reading = readAll(kind, open.send().getFile()).catch_([](kj::Exception&&) { return false; });
    return list.send().then([this, &kind, reading = kj::mv(reading)](auto&& answer) mutable -> kj::Promise<bool> {
      bool good = isGood(kind, answer);
      return reading.then([good](bool) { return good; });
    });
  }

  kj::Promise<void> operate() {
    auto& kind = kinds[below(kinds.size())];
    bool isCostly = kind.methodName() == "share" || kind.methodName() == "submit" || kind.methodName() == "watch";
    if (isCostly && below(SELDOM) != 0) return operate();
    ++kind.tried;
    auto holder = holderOf(kind);
    auto request = holder.castAs<capnp::DynamicCapability>(kind.interface).newRequest(kind.method);
    fill(kind, request);
    return request.send()
        .then([this, &kind, holder](capnp::Response<capnp::DynamicStruct>&& answer) mutable {
          return goOn(kind, holder, kj::mv(answer));
        })
        .catch_([this, &kind](kj::Exception&& exception) {
          look(kind, rpc::errorFromException(exception).message);
          return false;
        })
        .then([&kind](bool good) { kind.succeeded += good; });
  }

  // One of those that go on at once.
  kj::Promise<void> keepOperating() {
    if (left == 0 || !escape.empty()) return kj::READY_NOW;
    --left;
    auto housekeeping = left % PER_EMPTYING == 0 ? emptyTrash() : left % 16 == 0 ? learnRuns() : kj::READY_NOW;
    return housekeeping.then([this]() { return operate(); }).then([this]() { return keepOperating(); });
  }

  kj::Promise<void> emptyTrash() {
    return ownersStore.trashRequest().send().getTrash().emptyRequest().send().ignoreResult();
  }
  kj::Promise<void> learnRuns() {
    auto request = store.trashRequest().send().getTrash().runsRequest();
    request.setMaxRuns(8);
    return request.send().then([this](auto&& answer) {
      runs.clear();
      for (auto run : answer.getRuns()) runs.emplace_back(rpc::asView(run.getId()));
    });
  }
  void taskFailed(kj::Exception&& exception) override { ADD_FAILURE() << rpc::errorFromException(exception).message; }

  void operateWhileFlipped(const std::vector<std::string>& waysOut, const std::vector<std::string>& untouchables) {
    std::string before;
    for (auto& folder : untouchables) before += imageOf(folder);
    left = operations();
    printf("seed %llu, %llu operations of %zu kinds\n", (unsigned long long)seed, (unsigned long long)left,
           kinds.size());
    auto watch = store.watchRequest();
    watch.setWatcher(newWatcher());
    watch.getOptions().setPath(rpc::asData(prefix));
    auto subscription = watch.send().getSubscription();
    {
      Flipper flipper(serving.base / "root/sub", serving.base / "spare", waysOut);
      kj::TaskSet slots(*this);
      for (unsigned i = 0; i < AT_ONCE; ++i) slots.add(keepOperating());
      slots.onEmpty().wait(serving.io.waitScope);
      EXPECT_GT(flipper.turns(), 0u);
    }
    EXPECT_EQ(escape, "") << "seed " << seed;
    std::string after;
    for (auto& folder : untouchables) after += imageOf(folder);
    EXPECT_EQ(before, after) << "seed " << seed;
    for (auto& each : std::filesystem::recursive_directory_iterator(serving.base / "root/sub")) {
      std::string path = each.path();
      if (each.is_symlink() || !each.is_regular_file()) continue;
      EXPECT_THAT(serving.base.read(path.substr(serving.base.path().size() + 1)), testing::Not(HasSubstr(SECRET)))
          << path;
    }
    EXPECT_GT(notices, 0u) << "changes were told";
    EXPECT_GT(inside, 0u) << "links that stay inside lead to what is there";
    for (auto& kind : kinds) {
      printf("  %-40s %8llu, of which %8llu succeeded\n", kind.name.c_str(), (unsigned long long)kind.tried,
             (unsigned long long)kind.succeeded);
    }
  }
};

TEST_F(Escaping, FromAShareIsNotPossibleHoweverItsFoldersChange) {
  auto made = serving.share(ownersStore, {"sub", true, true});
  ASSERT_FALSE(made.token.empty()) << made.error.message;
  session = client->session(made.token);
  store = session.fileStoreRequest().send().getFileStore();
  std::string other = serving.base / "root/other";
  operateWhileFlipped({outside.path(), "in", "../other", other, "in/d/..", "../other/d/..", "../../root/other"},
                      {outside.path(), other});
}

TEST_F(Escaping, FromTheServedFolderIsNotPossibleHoweverItsFoldersChange) {
  session = client->session(serving.token());
  store = session.fileStoreRequest().send().getFileStore();
  prefix = "sub";
  // What else is served may be reached; it tells nothing then.
  std::filesystem::remove_all(serving.base / "root/other");
  std::string up = "../../../../../../../../..";
  operateWhileFlipped(
      {outside.path(), "in", up + outside.path(), "in/d/../../.." + up + outside.path(), outside / "d/.."},
      {outside.path()});
}

}  // namespace
}  // namespace capstan::server
