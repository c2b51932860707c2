#include <capstan/sync/decide.h>

namespace capstan::sync {
namespace {

using Kind = Decision::Kind;

constexpr std::string_view NEW_ON[] = {"it is new here", "it is new at the server"};
constexpr std::string_view CHANGED_ON[] = {"it was changed here", "it was changed at the server"};
constexpr std::string_view METADATA_ON[] = {"its mode or time was changed here",
                                            "its mode or time was changed at the server"};
constexpr std::string_view TYPE_ON[] = {"it is something else here", "it is something else at the server"};
constexpr std::string_view REMOVED_ON[] = {"it was removed here", "it was removed at the server"};
constexpr std::string_view EXTRA_ON[] = {"the server does not have it", "it is not here"};  // by the side that has it
constexpr std::string_view MIRROR_ON[] = {"it is another one here, and this is a mirror of the server",
                                          "it is another one at the server, and that is a mirror of this folder"};
constexpr std::string_view STAYER = "something in it stays";
constexpr std::string_view UNREAD = "what is in it is not known";
constexpr std::string_view UNEXPLAINED = "nobody knows since when it is there";

std::string_view of(const std::string_view (&reasons)[2], Side side) { return reasons[indexOf(side)]; }

// Both have something: what the other side gets from `winner`.
Decision takeOver(const Item& item, Side winner, bool sameContent, std::string_view reason) {
  const Node& from = *item.on(winner);
  const Node& to = *item.on(other(winner));
  if (sameContent) return {Kind::SET_METADATA, other(winner), reason};
  bool folderInvolved = from.type == EntryType::DIRECTORY || to.type == EntryType::DIRECTORY;
  return {folderInvolved ? Kind::REPLACE : Kind::UPDATE, other(winner),
          from.type == to.type ? reason : of(TYPE_ON, winner)};
}

// One was looked into and is not what was agreed, the other is: a folder that was moved brings together such files.
// Times alone may be too young to tell.
bool isOneKnownToBeAnother(const Item& item) {
  if (item.local->digest.empty() == item.remote->digest.empty()) return false;
  if (!item.agreed || agreedDigest(*item.agreed).empty()) return false;
  Side known = item.local->digest.empty() ? Side::REMOTE : Side::LOCAL;
  return changeOf(item.on(known), item.agreed, known) == Change::CONTENT &&
         changeOf(item.on(other(known)), item.agreed, other(known)) != Change::CONTENT;
}

bool haveSameContent(const Item& item, const PlanOptions& options) {
  if (item.local->type != item.remote->type) return false;
  if (item.local->type == EntryType::FILE && isOneKnownToBeAnother(item)) return false;
  if (isSameContent(*item.local, *item.remote, options.checkContent)) return true;
  bool isKnown = !item.local->digest.empty() && !item.remote->digest.empty();
  return !isKnown && item.agreed && changeOf(item.local, item.agreed, Side::LOCAL) != Change::CONTENT &&
         changeOf(item.remote, item.agreed, Side::REMOTE) != Change::CONTENT;
}

Decision decideOneWay(const Item& item, const std::string& path, Side source, const PlanOptions& options) {
  Side target = other(source);
  if (!item.on(source) && !item.on(target)) return {Kind::FORGET, target, of(REMOVED_ON, source)};
  if (!item.on(target)) {
    return {Kind::CREATE, target, item.agreed ? of(REMOVED_ON, target) : of(NEW_ON, source)};
  }
  if (!item.on(source)) {
    if (item.agreed) return {Kind::REMOVE, target, of(REMOVED_ON, source)};
    if (options.acceptUnexplained || !options.isUnexplained || !options.isUnexplained(path)) {
      return {Kind::REMOVE, target, of(EXTRA_ON, target)};
    }
    return {Kind::WITHHOLD, target, UNEXPLAINED, true};
  }
  bool same = haveSameContent(item, options);
  if (same && isSameMetadata(*item.local, *item.remote, item.agreed)) return {Kind::AGREE, target, {}};
  Change changed = changeOf(item.on(source), item.agreed, source);
  std::string_view reason = changed == Change::NONE || !item.agreed ? of(MIRROR_ON, target)
                            : same                                  ? of(METADATA_ON, source)
                                                                    : of(CHANGED_ON, source);
  return takeOver(item, source, same, reason);
}

// Only one side has it.
Decision decideMissing(const Item& item, Side has) {
  if (!item.agreed) return {Kind::CREATE, other(has), of(NEW_ON, has)};
  if (changeOf(item.on(has), item.agreed, has) != Change::NONE) return {Kind::CREATE, other(has), of(CHANGED_ON, has)};
  return {Kind::REMOVE, has, of(REMOVED_ON, other(has))};
}

Side winnerOfMetadata(const Item& item, Change local, Change remote) {
  if (item.agreed && remote == Change::NONE) return Side::LOCAL;
  if (item.agreed && local == Change::NONE) return Side::REMOTE;
  return item.local->mtime > item.remote->mtime ? Side::LOCAL : Side::REMOTE;
}

Decision decideTwoWay(const Item& item, const PlanOptions& options) {
  if (!item.local && !item.remote) return {Kind::FORGET, Side::REMOTE, of(REMOVED_ON, Side::LOCAL)};
  if (!item.local) return decideMissing(item, Side::REMOTE);
  if (!item.remote) return decideMissing(item, Side::LOCAL);
  bool same = haveSameContent(item, options);
  if (same && isSameMetadata(*item.local, *item.remote, item.agreed)) return {Kind::AGREE, Side::REMOTE, {}};
  Change local = changeOf(item.local, item.agreed, Side::LOCAL);
  Change remote = changeOf(item.remote, item.agreed, Side::REMOTE);
  if (same) {
    Side winner = winnerOfMetadata(item, local, remote);
    return takeOver(item, winner, true, of(METADATA_ON, winner));
  }
  Side winner = local == Change::CONTENT ? Side::LOCAL : Side::REMOTE;
  return takeOver(item, winner, false, of(CHANGED_ON, winner));
}

// What nobody could look into stays, on both sides. It counts for no deletion that could be accepted.
void keepUnread(Item& item, const std::string& path, const PlanOptions& options) {
  Decision& decision = item.decision;
  bool isRemoved = decision.kind == Kind::REMOVE || (decision.kind == Kind::WITHHOLD && decision.isDeletion) ||
                   (decision.kind == Kind::REPLACE && isFolder(item.on(decision.side)));
  if (isRemoved && options.isUnread && options.isUnread(path)) {
    decision = {Kind::WITHHOLD, decision.side, UNREAD, false};
  }
}

// What is decided inside a folder comes before the folder itself is: a folder in which something is made has to be
// there, and one in which something stays cannot go.
void adjustFolder(Item& item) {
  Decision& decision = item.decision;
  int side = indexOf(decision.side);
  if (decision.kind == Kind::REMOVE && item.isNeeded[1 - side]) {
    decision = {Kind::CREATE, other(decision.side), "something in it was changed"};
  } else if (decision.kind == Kind::REMOVE && item.hasStayer[side]) {
    decision = {Kind::WITHHOLD, decision.side, STAYER, item.hasOnlyStayingDeletions[side]};
  } else if (decision.kind == Kind::REPLACE && item.hasStayer[side]) {
    decision = {Kind::WITHHOLD, decision.side, STAYER, false};
  }
}

void tellParent(Draft& draft, const std::string& path, const Decision& decision) {
  bool isMade = decision.kind == Kind::CREATE || decision.kind == Kind::REPLACE;
  if (!isMade && decision.kind != Kind::WITHHOLD) return;
  Item* parent = draft.find(parentOf(path));
  if (parent == nullptr) return;
  int side = indexOf(decision.side);
  if (isMade) {
    parent->isNeeded[side] = true;
  } else {
    parent->hasStayer[side] = true;
    if (!decision.isDeletion) parent->hasOnlyStayingDeletions[side] = false;
  }
}

}  // namespace

void decide(Draft& draft) {
  const PlanOptions& options = draft.options;
  for (auto& [path, item] : draft.items) {
    item.decision = options.mode == Mode::TWO_WAY
                        ? decideTwoWay(item, options)
                        : decideOneWay(item, path, options.mode == Mode::PUSH ? Side::LOCAL : Side::REMOTE, options);
    keepUnread(item, path, options);
  }
  for (auto at = draft.items.rbegin(); at != draft.items.rend(); ++at) {
    adjustFolder(at->second);
    tellParent(draft, at->first, at->second.decision);
  }
  for (const auto& [path, item] : draft.items) {
    const Decision& decision = item.decision;
    if (decision.kind != Kind::WITHHOLD) continue;
    draft.plan.withheld.push_back({path, decision.side, std::string(decision.reason), decision.isDeletion});
  }
}

}  // namespace capstan::sync
