// Servers that are killed at any moment, over and over in the same folder: no job that was acknowledged is lost, none
// has two ends, and none is run to an end twice.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include <map>
#include <random>

#include "job-house.h"

#include <capstan/base/log.h>

namespace capstan::server::compute {
namespace {

// Servers over one folder before all is looked at and a new folder is begun.
constexpr unsigned ROUNDS_OF_CAMPAIGN = 10;
constexpr int LONGEST_LIFE_MILLISECONDS = 80;
constexpr int SORTED_LINES = 2000;

ComputeLimits noLimits() {
  ComputeLimits limits;
  limits.jobsQueued = limits.jobsKept = limits.jobDeaths = 1'000'000;
  return limits;
}

// A task of any kind whose label is what it gives, and which stores that as a file that must not be there before.
StoredTask randomTask(std::mt19937& random, JobHouse& house, const std::string& name) {
  int64_t a = random() % 1000, b = random() % 1000;
  StoredTask task;
  switch (random() % 4) {
    case 0: task = addTask({a, b}); break;
    case 1: task = taskOn(JobKind::SUM, intLines(std::to_string(a) + "\n" + std::to_string(b) + "\n")); break;
    case 2: {
      std::string file = house.jobs->newInputName(), text = std::to_string(a) + "\n" + std::to_string(b);
      auto made = house.spool->newFile(file, nullptr);
      KJ_REQUIRE(made.ok() && (*made)->append(text).ok() && (*made)->flush().ok() && house.spool->flushFolder().ok());
      task = taskOn(JobKind::SUM, InputFile{file, {ElementType::INT, Encoding::LINES, 2, text.size(), false}});
      break;
    }
    default: {
      std::string lines;
      for (int i = SORTED_LINES; i > 0; --i) lines += std::to_string(a * 10'000 + i) + "\n";
      task = taskOn(JobKind::SORT, intLines(lines));
      b = -1;
    }
  }
  task.label = b < 0 ? "sorted " + std::to_string(a) : std::to_string(a + b);
  if (random() % 2 == 0) task.output = StoredOutput{"out/" + name, {Expectation::Kind::ABSENT, {}}, {}, true, {}};
  return task;
}

std::string expected(const std::string& label, bool binary) {
  if (!label.starts_with("sorted ")) {
    int64_t sum = std::stoll(label);
    return binary ? std::string(reinterpret_cast<const char*>(&sum), sizeof(sum)) : label + "\n";
  }
  std::string lines;
  for (int i = 1; i <= SORTED_LINES; ++i) lines += std::to_string(std::stoll(label.substr(7)) * 10'000 + i) + "\n";
  return lines;
}

// The server that is killed. It tells what it has told its clients, a line each, to `to`.
class Victim {
 public:
  Victim(const std::string& root, unsigned seed, int to) : random(seed), seed(seed), to(to), house(root, noLimits()) {}

  [[noreturn]] void live() {
    tell("ready");
    for (auto& record : house.jobs->list("owner", {}, 0).jobs) tellEnd(record);
    while (true) {
      submitSome();
      if (random() % 2 == 0) cancelOne();
      if (random() % 3 == 0 && !records.empty()) {
        auto record = records[random() % records.size()];
        house.wait(record);
        tellEnd(record);
      }
    }
  }

 private:
  std::mt19937 random;
  const unsigned seed;
  const int to;
  JobHouse house;
  std::vector<std::shared_ptr<JobRecord>> records;
  unsigned submitted = 0;

  void tell(const std::string& line) { KJ_REQUIRE(write(to, (line + "\n").data(), line.size() + 1) > 0); }
  void tellEnd(const std::shared_ptr<JobRecord>& record) {
    auto status = house.status(record);
    if (!hasEnded(status.state)) return;
    tell("E " + status.id + " " + std::to_string(int(status.state)) + " " + std::to_string(status.ended));
  }

  void submitSome() {
    std::vector<std::pair<std::string, kj::Promise<JobHouse::Submitted>>> submits;
    for (unsigned count = 1 + random() % 6; count > 0; --count) {
      // Some keys are the same in all rounds of a campaign, and so are their tasks.
      bool shared = random() % 4 == 0;
      unsigned number = shared ? random() % 20 : submitted++;
      std::string key = shared ? "shared-" + std::to_string(number) : "";
      std::string name = shared ? key : std::to_string(seed) + "-" + std::to_string(number);
      std::mt19937 ofTask(shared ? number : random());
      submits.emplace_back(key, house.jobs->submit("owner", randomTask(ofTask, house, name), key));
    }
    for (auto& [key, promise] : submits) {
      auto record = promise.wait(house.waitScope);
      KJ_REQUIRE(record.ok(), record.error().message.c_str());
      tell("A " + idOf(**record) + " " + (key.empty() ? "-" : key));
      records.push_back(*record);
    }
  }

  void cancelOne() {
    auto record = records[random() % records.size()];
    house.cancel(record);
    tellEnd(record);
  }
};

// What clients were told by all servers of a campaign.
struct Told {
  std::map<std::string, std::string> ends;  // of ids: state and time
  std::map<std::string, std::string> keys;  // to ids
  std::set<std::string> acknowledged;

  void hear(const std::string& line) {
    std::stringstream words(line);
    std::string what, id, rest, time;
    words >> what >> id >> rest >> time;
    if (what == "A") {
      acknowledged.insert(id);
      if (rest != "-") {
        EXPECT_EQ(keys.try_emplace(rest, id).first->second, id) << "two jobs for the key " << rest;
      }
    } else if (what == "E") {
      EXPECT_EQ(ends.try_emplace(id, rest + " " + time).first->second, rest + " " + time) << "two ends of " << id;
    }
  }
};

// How long a server lives: from its very beginning, so that it may die over that, or once it serves.
struct Life {
  std::chrono::milliseconds length;
  bool onceReady;
};

// Runs a server until it is killed.
void runVictim(const std::string& root, unsigned seed, Life life, Told& told) {
  int pipes[2];
  ASSERT_EQ(pipe2(pipes, O_CLOEXEC), 0);
  pid_t child = fork();
  if (child == 0) {
    auto failure = kj::runCatchingExceptions([&]() { Victim(root, seed, pipes[1]).live(); });
    KJ_IF_MAYBE (exception, failure) KJ_LOG(ERROR, *exception);
    _exit(3);
  }
  close(pipes[1]);
  std::string heard;
  bool killed = false;
  auto end = std::chrono::steady_clock::now() + (life.onceReady ? std::chrono::seconds(60) : life.length);
  while (true) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
    if (left <= 0 && !killed) {
      kill(child, SIGKILL);
      killed = true;
    }
    pollfd waiting{pipes[0], POLLIN, 0};
    if (poll(&waiting, 1, killed ? -1 : int(left)) == 0) continue;
    char buffer[4096];
    ssize_t size = read(pipes[0], buffer, sizeof(buffer));
    if (size <= 0) break;
    if (heard.empty() && life.onceReady) end = std::chrono::steady_clock::now() + life.length;
    heard.append(buffer, size_t(size));
  }
  close(pipes[0]);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "the server failed by itself";
  std::stringstream lines(heard);
  for (std::string line; std::getline(lines, line);) told.hear(line);
}

// Lets all jobs end, and compares.
void settle(const std::string& root, const Told& told) {
  JobHouse house(root, noLimits());
  for (auto& id : told.acknowledged) {
    auto found = house.jobs->find("owner", id);
    ASSERT_TRUE(found.ok()) << id << " was lost";
    auto status = house.wait(*found);
    auto end = told.ends.find(id);
    if (end != told.ends.end()) {
      EXPECT_EQ(end->second, std::to_string(int(status.state)) + " " + std::to_string(status.ended)) << id;
    }
    // A file that was placed a second time would have been there already.
    ASSERT_NE(status.state, JobState::FAILED) << id << ": " << status.failureMessage;
    bool isDone = status.state == JobState::DONE;
    if (!status.output.empty()) {
      std::string path = root + "/" + status.output;
      ASSERT_EQ(std::filesystem::exists(path), isDone) << id << " " << status.label;
      if (isDone) {
        auto content = readFile(path);
        EXPECT_TRUE(content.ok() && *content == expected(status.label, false)) << id << " " << status.label;
      }
    } else if (isDone) {
      EXPECT_EQ(house.result(*found), expected(status.label, true)) << id << " " << status.label;
    }
  }
  // Those whose server died before it could say that it has them end too.
  house.turnUntil([&]() { return house.jobs->unfinished() == 0; });
}

TEST(JobsCrash, EachJobHasOneEndWheneverServersDie) {
  bool isLong = getenv("CAPSTAN_TEST_LONG") != nullptr;
  unsigned rounds = isLong ? 1000 : 30;
  const char* given = getenv("CAPSTAN_TEST_SEED");
  unsigned seed = given == nullptr ? 20261121 : unsigned(std::stoul(given));
  std::cout << "CAPSTAN_TEST_SEED=" << seed << std::endl;
  log::setLevel(log::Level::ERROR);
  std::mt19937 random(seed);
  size_t jobs = 0;
  for (unsigned round = 0; round < rounds;) {
    storage::TempFolder temp;
    Told told;
    for (unsigned i = 0; i < ROUNDS_OF_CAMPAIGN && round < rounds; ++i, ++round) {
      Life life{std::chrono::milliseconds(random() % LONGEST_LIFE_MILLISECONDS), random() % 2 == 0};
      runVictim(temp.path(), random(), life, told);
    }
    settle(temp.path(), told);
    jobs += told.acknowledged.size();
    if (HasFatalFailure()) return;
  }
  std::cout << jobs << " jobs" << std::endl;
  EXPECT_GT(jobs, rounds) << "the servers had no time to do anything";
}

}  // namespace
}  // namespace capstan::server::compute
