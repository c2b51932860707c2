// One simulated life of a server and its clients: users edit both sides while the synchroniser runs, everything goes
// wrong that can, then all is quiet, and what was promised is checked. The same seed lives the same life.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <kj/async.h>

#include <capstan/sync/cycle.h>

#include "fake-disk.h"
#include "fake-replica.h"
#include "random.h"

namespace capstan::sync::sim {

struct Life {
  std::vector<std::string> complaints;  // what was promised and not kept
  std::string trace;
  uint64_t cycles = 0;
};

class Simulation final : public Scheduler {
 public:
  explicit Simulation(uint64_t seed);
  ~Simulation() noexcept(false);
  Life run();

  kj::Promise<void> pause() override;
  void note(const std::string& line) override;
  void complain(const std::string& line) override;
  Random& random() override { return chance; }
  bool faults() const override { return noisy; }

 private:
  struct Client {
    Client(Mode mode, std::string name) : mode(mode), local(std::move(name)) {}
    const Mode mode;
    FakeDisk local;
    std::unique_ptr<State> state;
    std::optional<uint64_t> acceptDeletes;
    std::unique_ptr<IgnoreRules> ignore;
    std::unique_ptr<FakeReplica> localSide, remoteSide;
    std::unique_ptr<Cycle> cycle;
    kj::Maybe<kj::Promise<void>> running;
    std::optional<CycleReport> report;
  };
  // What a user wrote and no user took away again.
  struct Token {
    bool onlyAtPath = false;        // the trash is no place for it
    FakeDisk* ignoredOn = nullptr;  // it is ignored, and has to stay there
  };

  void restart(Client& client);
  void begin(Client& client, Cycle::Request request);
  void drive();
  void noisyPhase();
  void trouble();
  bool quietPhase();
  void quietCycle(Client& client, bool whole);

  // users.cpp
  void edit(FakeDisk& disk);
  void userWrites(FakeDisk& disk);
  void userMoves(FakeDisk& disk);
  void userRemoves(FakeDisk& disk);
  void userChangesRules();
  std::string pickFolder(FakeDisk& disk);
  std::string pickPath(FakeDisk& disk);
  std::string pickExisting(FakeDisk& disk);
  void forgetTokens(FakeDisk& disk, const std::string& path);
  int64_t time() { return now += 1 + static_cast<int64_t>(chance.below(5)); }

  // checks.cpp
  void checkTokens();
  void checkSides(Client& client);
  std::unique_ptr<IgnoreRules> rulesOf(FakeDisk& local) const;
  bool mayDiffer(Client& client, const IgnoreRules& rules, const std::string& path);

  Random chance;
  Life life;
  kj::EventLoop loop;
  kj::WaitScope waitScope;
  int64_t now = 1'700'000'000'000'000'000;
  bool noisy = true;
  bool twoWayOnly = true;
  // Then files of equal size and time are taken to be equal, as at a first run: a stated policy.
  bool stateWasLost = false;
  // What was done may not have been recorded, and looks like a first run too; then it matters which contents were
  // written without another time or stamp.
  bool mayHaveForgotten = false;
  std::set<std::string> writtenUnseen;
  // Something was left alone, in a folder perhaps that was to go: whether that can go now is tried by looks at
  // everything.
  bool someLeftAlone = false;
  uint64_t tokens = 0;
  std::map<std::string, Token> live;
  FakeDisk server{"server"};
  std::vector<std::unique_ptr<Client>> clients;
  std::vector<kj::Own<kj::PromiseFulfiller<void>>> waiting;
};

}  // namespace capstan::sync::sim
