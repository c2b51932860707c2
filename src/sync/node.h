// What the synchroniser knows about one path: what is there on each side, and what both sides last agreed about. Plain
// data; the vocabulary of everything in src/sync.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <capstan/base/entry.h>
#include <capstan/base/path.h>

namespace capstan::sync {

enum class Side { LOCAL, REMOTE };
inline int indexOf(Side side) { return side == Side::LOCAL ? 0 : 1; }
inline Side other(Side side) { return side == Side::LOCAL ? Side::REMOTE : Side::LOCAL; }

enum class Mode { PUSH, PULL, TWO_WAY };
std::string_view nameOf(Mode mode);  // "push", "pull", "two-way"
std::optional<Mode> modeByName(std::string_view name);

// What is at a path on one side.
struct Node {
  EntryType type = EntryType::UNSET;
  uint64_t size = 0;
  int64_t mtime = 0;  // nanoseconds since the epoch
  uint32_t mode = 0;
  std::string target;  // a symlink's

  // Another one whenever content or metadata are (of a folder: whatever the side likes; folders are compared by value).
  // At the server: the version. Opaque outside the side.
  std::string stamp;
  // The same after a rename on this side; 0: not known.
  uint64_t identity = 0;
  // XXH3-128 of a file's content, 16 bytes, where it is known; else empty.
  std::string digest;
  // False: the stamp is so young that the content may have been changed since without another stamp. Such a file is
  // looked into again.
  bool settled = true;
};

// What both sides had when they were last in step at this path. They differ in stamps and identities, and where one
// side cannot keep something (modes) in that too.
struct Agreed {
  Node local;
  Node remote;
  const Node& on(Side side) const { return side == Side::LOCAL ? local : remote; }
};

// The order of trees: by components, a folder before what is in it.
struct TreeOrder {
  using is_transparent = void;
  bool operator()(std::string_view a, std::string_view b) const { return comparePaths(a, b) < 0; }
};
template <typename T>
using ByPath = std::map<std::string, T, TreeOrder>;

// What on one side is not as it was agreed: what is there now, or nothing (then everything that was agreed below it is
// named too, each path by itself). "" (the root) never is in it.
using Changes = ByPath<std::optional<Node>>;

// One path about which the planner has to think: at least one side is not as agreed, or nothing was agreed. Where one
// side is as agreed, its node is the agreed one.
struct Difference {
  std::string path;
  std::optional<Agreed> agreed;
  std::optional<Node> local;
  std::optional<Node> remote;
  bool localChanged = false;  // not as agreed; with nothing agreed: something is there
  bool remoteChanged = false;
  const std::optional<Node>& on(Side side) const { return side == Side::LOCAL ? local : remote; }
  bool changedOn(Side side) const { return side == Side::LOCAL ? localChanged : remoteChanged; }
};

// Whether the side's node is still the one that was agreed: files and symlinks by stamp, folders by type, mode and
// identity. A file with an unsettled agreed stamp is not.
bool isAsAgreed(const Node& now, const Node& agreed);

}  // namespace capstan::sync
