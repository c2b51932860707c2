#include <capstan/sync/plan.h>

#include <capstan/sync/conflicts.h>
#include <capstan/sync/decide.h>
#include <capstan/sync/draft.h>
#include <capstan/sync/moves.h>
#include <capstan/sync/order.h>

namespace capstan::sync {

std::string_view nameOf(Operation::Kind kind) {
  switch (kind) {
    case Operation::Kind::MAKE_FOLDER: return "make-folder";
    case Operation::Kind::PUT: return "put";
    case Operation::Kind::MAKE_SYMLINK: return "make-symlink";
    case Operation::Kind::SET_METADATA: return "set-metadata";
    case Operation::Kind::MOVE: return "move";
    case Operation::Kind::COPY: return "copy";
    case Operation::Kind::REMOVE: return "remove";
    case Operation::Kind::AGREE: return "agree";
    case Operation::Kind::FORGET: return "forget";
  }
  return "unknown";
}

Plan makePlan(const std::vector<Difference>& differences, const PlanOptions& options) {
  Draft draft(differences, options);
  recogniseMoves(draft);
  moveConflictsAside(draft);
  decide(draft);
  putInOrder(draft);
  return std::move(draft.plan);
}

}  // namespace capstan::sync
