// What the planner's steps work on, one after the other: moves are recognised and conflicts moved aside (moves.h,
// conflicts.h), then each path is decided by itself (decide.h), then it is all put in order (order.h). Internal to the
// planner.
//
// Every move changes the draft as if it had been carried out already: what was agreed at the old place, and what the
// changed side has there, is at the new place from then on. So the steps after it see only what is still different, and
// all later operations name the new paths.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include <capstan/sync/compare.h>
#include <capstan/sync/plan.h>

namespace capstan::sync {

struct Decision {
  enum class Kind { NOTHING, AGREE, FORGET, CREATE, UPDATE, SET_METADATA, REPLACE, REMOVE, WITHHOLD };
  Kind kind = Kind::NOTHING;
  Side side = Side::REMOTE;  // that is changed
  std::string_view reason;   // a literal
  bool isDeletion = false;   // of WITHHOLD
};

// One path, as it is when the moves up to now have been carried out.
struct Item {
  std::optional<Agreed> agreed;
  std::optional<Node> local;
  std::optional<Node> remote;

  Decision decision;
  bool isMade = false;                // has its operation already
  bool isNeeded[2] = {false, false};  // by side: something is to be made in it
  bool hasStayer[2] = {false, false};
  bool hasOnlyStayingDeletions[2] = {true, true};  // all that stays in it would go if that were accepted

  std::optional<Node>& on(Side side) { return side == Side::LOCAL ? local : remote; }
  const std::optional<Node>& on(Side side) const { return side == Side::LOCAL ? local : remote; }
  // Not what was agreed, be it by its stamp only.
  bool isChangedOn(Side side) const;
  // Nothing has to be done or recorded about it.
  bool isInStep() const { return agreed && !isChangedOn(Side::LOCAL) && !isChangedOn(Side::REMOTE); }
};

class Draft {
 public:
  Draft(const std::vector<Difference>& differences, const PlanOptions& options);

  const PlanOptions& options;
  // A path that is not in it is as agreed on both sides, or nothing is there on either.
  ByPath<Item> items;
  Plan plan;  // up to now: `moves` are not yet in it
  // MOVEs and the folders that they need, in order.
  std::vector<Operation> moves;
  // Of folders that have to stay writable until everything in them is done.
  std::vector<Operation> lateMetadata;

  Item* find(std::string_view path);
  // Everything at and below a path that is in `items`, in tree order.
  std::vector<std::string> pathsWithin(std::string_view folder) const;
  void eraseIfInStep(const std::string& path);
  void eraseIfEmpty(const std::string& path);

  // A new folder as the other side has it. Writable for now if something is to come into it.
  Operation makeFolder(Side side, const std::string& path, const Node& node, std::string_view reason, bool hasContent);

  // The side's node has moved from one path to another.
  void recordMoved(Side side, const std::string& from, const std::string& to);
  // Where what was at `original` on this side before the plan is after the moves; empty: overwritten by one of them.
  std::string placeOf(Side side, const std::string& original) const;

 private:
  struct Places {
    std::unordered_map<std::string, std::string> nowAt;     // by the original path
    std::unordered_map<std::string, std::string> original;  // by the path now
  };
  Places places[2];
};

// The sides from which changes are taken over.
std::vector<Side> sourcesOf(Mode mode);

}  // namespace capstan::sync
