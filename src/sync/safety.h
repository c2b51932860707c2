// When a plan must not be carried out: too much would be deleted, or the evidence for it is doubtful. Pure.
#pragma once

#include <optional>
#include <string>

#include <capstan/sync/plan.h>

namespace capstan::sync {

// What is known about the sides beside the plan.
struct Evidence {
  uint64_t agreedEntries = 0;      // how many entries the state knows
  bool localRootReplaced = false;  // another folder than at the last run (not mounted, restored, ...)
  bool remoteRootReplaced = false;
  std::optional<uint64_t> acceptDeletes;  // --accept-deletes
};

struct SafetyStop {
  std::string sentence;    // what is the matter, and how to go on
  uint64_t deletions = 0;  // the number that --accept-deletes must name; 0: it cannot be accepted
  bool wholly = true;      // nothing of the plan may be carried out; else only its deletions may not
};

// A plan is stopped wholly when more than half of what was agreed, or 1,000 entries and more, would go at once, or a
// root is another folder and anything would go; unless exactly this number of deletions was accepted. Deletions alone
// are held back when something is withheld as unexplained.
std::optional<SafetyStop> checkSafety(const Plan& plan, const Evidence& evidence);

// Takes the deletions (and what only works after them) out of a plan, into `withheld`.
void withholdDeletions(Plan& plan, const std::string& reason);

}  // namespace capstan::sync
