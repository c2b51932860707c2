// Cycles over two folders that exist only in memory, where nothing goes wrong but what a test wants to.
#pragma once

#include <stdexcept>

#include <gtest/gtest.h>

#include <capstan/sync/cycle.h>

#include "../sim/fake-replica.h"

namespace capstan::sync {

class CycleTest : public testing::Test, public sim::Scheduler {
 protected:
  CycleTest() : waitScope(loop) { begin(Mode::TWO_WAY); }
  ~CycleTest() noexcept override {}

  // Begins anew, as another process would: what is kept is on the disks and in the state.
  void begin(Mode mode, std::optional<uint64_t> acceptDeletes = std::nullopt, uint64_t operationsAtOnce = 4096) {
    cycle = nullptr;
    local = std::make_unique<sim::FakeReplica>(*this, here, Side::LOCAL);
    remote = std::make_unique<sim::FakeReplica>(*this, there, Side::REMOTE);
    ignore = std::make_unique<IgnoreRules>(std::vector<IgnoreRules::Rule>{{"*.o", "--exclude", 0}},
                                           [this](std::string_view folder) -> Result<std::optional<std::string>> {
                                             if (rulesAreUnreadable) return *rulesAreUnreadable;
                                             auto item = here.find(joinPath(folder, IGNORE_FILE));
                                             return item == nullptr ? std::nullopt
                                                                    : std::optional<std::string>(item->content);
                                           });
    CycleOptions options;
    options.mode = mode;
    options.acceptDeletes = acceptDeletes;
    options.host = "host";
    options.now = [this]() { return ++now; };
    options.random = [](size_t count) { return std::string(count, 'r'); };
    options.operationsAtOnce = operationsAtOnce;
    cycle = std::make_unique<Cycle>(*local, *remote, *state, *ignore, std::move(options), [this](const Event& event) {
      if (event.operation == nullptr || event.error) return;
      auto& lines = event.kind == Event::Kind::PLANNED ? planned : carriedOut;
      lines.push_back(lineOf(*event.operation));
    });
  }

  CycleReport run(bool whole = false) { return cycle->run({whole, false}).wait(waitScope); }
  // A process that is killed when all of its first slice was carried out, and nothing of it is recorded.
  void killInRun(Mode mode) {
    begin(mode);
    local->beforeAnswer = remote->beforeAnswer = []() { throw std::runtime_error("killed"); };
    EXPECT_TRUE(run().error);
    letTimePass();
    begin(mode);
  }
  CycleReport dryRun() { return cycle->run({true, true}).wait(waitScope); }
  std::string explain(const std::string& path) {
    auto text = cycle->explain(path).wait(waitScope);
    return text.ok() ? *text : text.error().message;
  }

  static std::string lineOf(const Operation& operation) {
    auto source = operation.source.empty() || operation.source == operation.path ? "" : operation.source + " ";
    return std::string(operation.side == Side::LOCAL ? "here " : "there ") + std::string(nameOf(operation.kind)) + " " +
           source + operation.path;
  }

  // What a user does; the clock goes on afterwards, so that stamps are old enough.
  void write(sim::FakeDisk& disk, const std::string& path, const std::string& content) {
    ASSERT_TRUE(disk.write(path, content, content.size(), ++now, 0644, false));
    letTimePass();
  }
  void makeFolder(sim::FakeDisk& disk, const std::string& path) { ASSERT_TRUE(disk.makeFolder(path, 0755)); }
  void setMode(sim::FakeDisk& disk, const std::string& path, uint32_t mode) {
    ASSERT_TRUE(disk.setMetadata(path, mode, disk.find(path)->node.mtime));
    letTimePass();
  }
  void move(sim::FakeDisk& disk, const std::string& from, const std::string& to) {
    ASSERT_TRUE(disk.move(from, to, false));
  }
  void remove(sim::FakeDisk& disk, const std::string& path) { ASSERT_TRUE(disk.remove(path, false)); }
  void letTimePass() {
    here.advance();
    there.advance();
  }

  // "a=content folder/ folder/b=other"
  static std::string tree(const sim::FakeDisk& disk) {
    std::string text;
    for (auto& [path, item] : disk.view()) {
      text += (text.empty() ? "" : " ") + path;
      text += item.node.type == EntryType::DIRECTORY ? "/" : "=" + item.content;
    }
    return text;
  }

  // What was changed by cycles since the last call, in order.
  std::vector<std::string> takeOperations() {
    letTimePass();
    return std::exchange(carriedOut, {});
  }

  // Brings both sides into step.
  void settle(Mode mode) {
    begin(mode);
    for (int i = 0; i < 3; ++i) {
      auto report = run(true);
      ASSERT_TRUE(report.failures.empty() && !report.stop && !report.error) << report.summary();
      letTimePass();
    }
    ASSERT_EQ(tree(here), tree(there));
    begin(mode);
    ASSERT_FALSE(run(true).didSomething());
    takeOperations();
  }

  kj::Promise<void> pause() override {
    if (isStuck) return kj::NEVER_DONE;
    return kj::evalLater([]() {});
  }
  void note(const std::string&) override {}
  void complain(const std::string& line) override { ADD_FAILURE() << line; }
  sim::Random& random() override { return chance; }
  bool faults() const override { return false; }

  kj::EventLoop loop;
  kj::WaitScope waitScope;
  sim::Random chance{1};
  int64_t now = 1'700'000'000'000'000'000;
  sim::FakeDisk here{"here"}, there{"there"};
  std::unique_ptr<State> state = State::inMemory();
  std::unique_ptr<IgnoreRules> ignore;
  std::unique_ptr<sim::FakeReplica> local, remote;
  std::vector<std::string> planned, carriedOut;
  std::unique_ptr<Cycle> cycle;
  bool isStuck = false;                     // neither side answers
  std::optional<Error> rulesAreUnreadable;  // the ignore files are there, and cannot be read
};

inline Error errorWith(ErrorCode code, const std::string& path) { return Error{code, "it goes wrong", path}; }

}  // namespace capstan::sync
