#include <capstan/sync/safety.h>

#include <algorithm>
#include <unordered_set>

#include <capstan/base/path.h>

namespace capstan::sync {
namespace {

constexpr uint64_t MANY_DELETIONS = 1000;

uint64_t withheldDeletions(const Plan& plan) {
  return std::count_if(plan.withheld.begin(), plan.withheld.end(), [](const Withheld& w) { return w.isDeletion; });
}

std::string entries(uint64_t count) { return std::to_string(count) + (count == 1 ? " entry" : " entries"); }

std::string howToGoOn(uint64_t count) {
  return "; if that is meant, run it again with --accept-deletes " + std::to_string(count);
}

std::optional<SafetyStop> checkRoots(const Evidence& evidence, uint64_t deletions) {
  if (!evidence.localRootReplaced && !evidence.remoteRootReplaced) return std::nullopt;
  std::string where = evidence.localRootReplaced ? "the local folder" : "the server's folder";
  return SafetyStop{where + " is another one than at the last run (is it not mounted?), and " + entries(deletions) +
                        " would be removed" + howToGoOn(deletions),
                    deletions, true};
}

std::optional<SafetyStop> checkAmount(const Evidence& evidence, uint64_t deletions, uint64_t planned) {
  bool isMostOfAll = planned > 0 && planned * 2 > evidence.agreedEntries;
  bool isMuch = planned >= MANY_DELETIONS || isMostOfAll;
  if (!isMuch) return std::nullopt;
  std::string of = isMostOfAll ? " of " + std::to_string(evidence.agreedEntries) : "";
  return SafetyStop{entries(planned) + of + " would be removed at once" + howToGoOn(deletions), deletions, true};
}

bool makesSomething(const Operation& operation) {
  using Kind = Operation::Kind;
  switch (operation.kind) {
    case Kind::MAKE_FOLDER:
    case Kind::PUT:
    case Kind::MAKE_SYMLINK:
    case Kind::MOVE:
    case Kind::COPY: return true;
    default: return false;
  }
}

}  // namespace

std::optional<SafetyStop> checkSafety(const Plan& plan, const Evidence& evidence) {
  uint64_t unexplained = withheldDeletions(plan);
  uint64_t deletions = plan.deletions + unexplained;
  bool isAccepted = evidence.acceptDeletes && *evidence.acceptDeletes == deletions;
  if (plan.deletions > 0 && !isAccepted) {
    if (auto stop = checkRoots(evidence, deletions)) return stop;
    if (auto stop = checkAmount(evidence, deletions, plan.deletions)) return stop;
  }
  if (isAccepted) return std::nullopt;
  if (unexplained == 0) return std::nullopt;
  return SafetyStop{entries(unexplained) + " of which nobody knows since when they are there " +
                        (unexplained == 1 ? "stays" : "stay") + " for now; to remove " +
                        (deletions == 1 ? "it" : "them") + ", run it again with --accept-deletes " +
                        std::to_string(deletions),
                    deletions, false};
}

void withholdDeletions(Plan& plan, const std::string& reason) {
  // What goes to make room for something is no deletion, though it stays too.
  std::unordered_set<std::string> made[2];
  for (const Operation& operation : plan.operations) {
    if (makesSomething(operation)) made[operation.side == Side::LOCAL ? 0 : 1].insert(operation.path);
  }
  std::vector<Operation> kept;
  kept.reserve(plan.operations.size());
  std::unordered_set<std::string> stays[2];
  for (Operation& operation : plan.operations) {
    int side = operation.side == Side::LOCAL ? 0 : 1;
    std::unordered_set<std::string>& here = stays[side];
    if (operation.kind == Operation::Kind::REMOVE) {
      here.insert(operation.path);
      plan.withheld.push_back({operation.path, operation.side, reason, !made[side].contains(operation.path)});
      continue;
    }
    bool isBlocked = here.contains(operation.path) && !operation.expected;
    for (std::string_view at = parentOf(operation.path); !isBlocked && !at.empty(); at = parentOf(at)) {
      isBlocked = here.contains(std::string(at));
    }
    if (isBlocked && (makesSomething(operation) || operation.kind == Operation::Kind::SET_METADATA)) {
      if (makesSomething(operation)) plan.withheld.push_back({operation.path, operation.side, reason, false});
      continue;
    }
    kept.push_back(std::move(operation));
  }
  plan.operations = std::move(kept);
  plan.deletions = 0;
}

}  // namespace capstan::sync
