// What is to be done so that both sides are in step: a pure function of what differs and the mode. Knows no disk, clock
// or network; the table test in tests/sync/plan-test.cpp is its specification.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <capstan/sync/node.h>

namespace capstan::sync {

// One step. Carried out in the order of the plan; each under the expectation that what is there now is what was seen.
// Where an earlier operation of the plan has made, moved or changed what this one names (on either side), what came of
// that one counts: its node takes the place of `expected`, `sourceNode` or `node`, because stamps change with a rename.
// Of `node` only the stamp and identity, though: a folder may be made writable for as long as something comes into it,
// and gets its mode by a later SET_METADATA, which must not be forgotten if that is not reached. All paths are those at
// that point of the plan, also in what is agreed: it is to be recorded in the same order.
struct Operation {
  enum class Kind {
    MAKE_FOLDER,
    PUT,  // a file's content from the other side, where it is at `source`
    MAKE_SYMLINK,
    SET_METADATA,  // mode (and, of files, mtime)
    MOVE,          // on the same side, from `source`; a folder with all that is in it; replaces a file or symlink
    COPY,          // on the same side, from `source`: a file with the same content; metadata as in `node`
    REMOVE,        // a file, symlink or empty folder: what is in it has operations of its own, before
    AGREE,         // nothing to do: both sides have the same; it only has to be recorded
    FORGET,        // neither side has it any more
  };
  Kind kind = Kind::AGREE;
  Side side = Side::REMOTE;        // that is changed
  std::string path;                // that is changed, made or removed
  std::string source;              // see the kinds; else empty
  Node node;                       // what is to be at `path` afterwards: what the other side has (its stamp and all)
  std::optional<Node> expected;    // what is at `path` now (nothing: nothing)
  std::optional<Node> sourceNode;  // what is at `source` now
  std::string reason;              // for people, a clause: "it is new here", "it was removed locally"
  // A MOVE that keeps one of two contents under another name. Nothing is agreed there by it, and what was agreed does
  // not move along: else what the other side does not have yet would look as if it had been removed there.
  bool isConflict = false;
};
std::string_view nameOf(Operation::Kind kind);

// Something that stays as it is, and why: for reports and `explain`.
struct Withheld {
  std::string path;
  Side side = Side::REMOTE;
  std::string reason;
  bool isDeletion = false;  // it would have been removed (counts for --accept-deletes)
};

struct Conflict {
  std::string path;
  std::string kept;  // the name under which the other content is kept
  std::string reason;
};

struct Plan {
  std::vector<Operation> operations;
  std::vector<Withheld> withheld;
  std::vector<Conflict> conflicts;
  uint64_t deletions = 0;  // files, folders and symlinks that go without anything in their place
};

struct PlanOptions {
  Mode mode = Mode::PUSH;
  // What the target of a one-way mode has and the source never had: removed, because the target is a mirror, unless
  // this says that nobody knows since when it is there (the first run, another set of ignore rules, a lost state).
  std::function<bool(std::string_view path)> isUnexplained;
  // Folders of which nobody knows what is in them, on one side or the other: they are not removed, nor replaced by
  // something else, and neither are those that they are in. What is in them must not be among the differences.
  std::function<bool(std::string_view path)> isUnread;
  // Removes what is unexplained too.
  bool acceptUnexplained = false;
  // The name for a content that has to give way: "report.conflict-20261121-101500-HOST.txt".
  std::function<std::string(std::string_view path)> conflictPath;
  // A file with this content at this side that is as agreed, so that COPY can be used in place of PUT; empty: none.
  std::function<std::string(Side side, const Node& node)> findContent;
  // What is agreed about a path that is not among the differences; for folders that must not be removed because
  // something in them stays, and for names that are taken.
  std::function<std::optional<Agreed>(std::string_view path)> agreedAt;
  bool checkContent = false;  // --checksum: equal size and time are no proof of equal content
};

// Joins what both sides tell into differences, in tree order. `agreedAt` answers what was agreed about a path.
std::vector<Difference> differencesOf(const Changes& local, const Changes& remote,
                                      const std::function<std::optional<Agreed>(std::string_view)>& agreedAt);

// Of which files the digest has to be known before planning, because both sides have one of the same size, and nothing
// tells whether they are the same: paths, per side.
struct DigestsWanted {
  std::vector<std::string> local;
  std::vector<std::string> remote;
};
DigestsWanted digestsWanted(const std::vector<Difference>& differences, const PlanOptions& options);

// Pure and deterministic: the same input gives the same plan. The operations are in an order in which each finds what
// it needs; when all have succeeded, both sides are in step but for what is withheld. Moves are recognised by identity
// (then size and time), with folders as a whole where they went as a whole; failing that, by content.
Plan makePlan(const std::vector<Difference>& differences, const PlanOptions& options);

}  // namespace capstan::sync
