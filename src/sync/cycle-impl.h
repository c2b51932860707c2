// The inside of a cycle, shared by the files that make it up: cycle.cpp (the sequence of steps), cycle-look.cpp (what
// is there), execute.cpp (carrying out), explain.cpp. Not for anybody else.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <capstan/sync/cycle.h>
#include <capstan/sync/safety.h>

namespace capstan::sync {

using PathSet = std::set<std::string, TreeOrder>;

// What one cycle has found and means to do; dropped at its end.
struct Pass {
  Cycle::Request request;
  CycleReport report;
  Replica::Look local, remote;
  bool lookedAgain = false;
  bool firstRun = false;
  bool otherRules = false;
  bool localRootReplaced = false, remoteRootReplaced = false;
  std::vector<Difference> differences;
  PathSet unread;   // differences that could not be judged in this cycle
  PathSet unknown;  // folders with what is in them, for which a side could not be looked into
  Plan plan;
  std::optional<Error> broken;  // the connection (or the state) failed while the plan was carried out
  std::set<std::string_view> recorded;
  std::vector<std::pair<std::string, std::string>> moved;  // from, to: what was agreed there moved along, in this order
  bool changedServer = false;                              // so that there is something to undo
  bool failed = false;                                     // something was not done, or not recorded
  bool held = false;                                       // deletions were withheld
  bool sawMoves = false;  // a move of a folder failed: what is below it must be looked at as well

  Replica::Look& on(Side side) { return side == Side::LOCAL ? local : remote; }
  // Or none at all, where one is to be.
  bool sawOtherRoot() const {
    return localRootReplaced || remoteRootReplaced || !local.rootExists || !remote.rootExists;
  }
  bool isPlain() const { return !failed && !held && unread.empty(); }
};

class Execution;

struct Cycle::Impl {
  Impl(Replica& local, Replica& remote, State& state, IgnoreRules& ignore, CycleOptions options, OnEvent onEvent);
  ~Impl() noexcept(false);

  // Constant after construction.
  Replica& local;
  Replica& remote;
  State& state;
  IgnoreRules& ignore;
  const CycleOptions options;
  const OnEvent onEvent;

  // Kept from cycle to cycle: paths that were not brought into step, so that no look has to name them again; and
  // whether they are too many for that.
  PathSet again;
  bool wholeNext = false;
  PathSet unsureRules;  // folders whose ignore files are changing
  // Folders that could not be looked into the last time, by side (indexOf): each look tries them again, and of what
  // turns up in them nobody knows since when it is there. In the state too.
  PathSet unreadable[2];
  std::optional<uint64_t> acceptDeletes;

  // Of the cycle under way.
  std::unique_ptr<Pass> pass;
  std::unique_ptr<Execution> execution;
  bool cancelled = false;
  kj::Own<kj::PromiseFulfiller<void>> cancelFulfiller;
  ServiceStatus::Phase phase = ServiceStatus::Phase::IDLE;
  uint64_t operations = 0, operationsDone = 0, bytes = 0, bytesDone = 0;

  Replica& on(Side side) { return side == Side::LOCAL ? local : remote; }
  // Also when the first run has not come to its end yet.
  bool knowsSomething() const { return !pass->firstRun || state.count() > 0; }
  void tell(Event event) const {
    if (onEvent) onEvent(event);
  }
  std::function<std::optional<Agreed>(std::string_view)> agreedAt() {
    return [this](std::string_view path) { return state.find(path); };
  }

  // cycle.cpp: the steps. Each answers whether the next one is to follow.
  kj::Promise<CycleReport> run(Request request);
  kj::Promise<void> planAndExecute();
  kj::Promise<void> executePlan();
  void begin(const Request& request);
  void breakOff();
  Status rememberRoots();
  void makeThePlan();
  PlanOptions planOptions();
  void dropKept();
  bool isLeftAlone(const Difference& difference, bool isBusy, bool holdsKept);
  bool isInTheWay(const Difference& difference) const;
  bool checkPlan();
  bool isUnexplained(std::string_view path) const;
  void noteUnreadable();
  void tellPlan();
  void finish();
  void remember();
  void keepUnresolved();
  void closeConflicts(std::vector<std::string> gone);
  kj::Promise<void> lookForConflicts();
  void keepExtras();
  CycleReport takeReport();

  // cycle-look.cpp
  kj::Promise<bool> look(bool whole);
  kj::Promise<bool> judgeLooks(Result<Replica::Look> local, Result<Replica::Look> remote, bool whole);
  bool judgeRoots(bool whole, bool& lookAgain);
  bool judgeRules(bool& lookAgain);
  bool rulesAreUnreadable();
  void noteRules();
  bool readRulesAgain();
  void forgetIgnored();
  void addAllAsGone(Side side);
  void keepForLater(const Changes& changes);
  kj::Promise<void> lookAtAgain();
  void takeUnread(Side side, const std::string& path, Error error);
  void leaveUnread();
  void mergeOne(Side side, const std::string& path, const std::optional<Node>& now);
  kj::Promise<void> readDigests();
  kj::Promise<void> readDigestsOf(Side side, std::vector<std::string> paths);

  // explain.cpp
  kj::Promise<Result<std::string>> explainNodes(std::string path, std::optional<Node> local,
                                                std::optional<Node> remote);
};

// Whether paths can be taken up by themselves in the next cycle; else everything is looked at.
bool mayGoOneByOne(const PathSet& paths);

// Whether an operation changes something that people can see.
inline bool isVisible(const Operation& operation) {
  return operation.kind != Operation::Kind::AGREE && operation.kind != Operation::Kind::FORGET;
}

}  // namespace capstan::sync
