// From changes in the order in which they happened to notices: one for each path, of the last state, narrowed to the
// part of the tree that somebody watches. Pure, but for fillIn().
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <capstan/base/entry.h>
#include <capstan/server/files/change-journal.h>

namespace capstan::server::files {

// What a change means for somebody who watches what is at or below `path` only; nothing: it is none of theirs.
std::optional<Change> narrowed(Change change, const std::string& path);

// What becomes of many changes until they are told.
class Coalescing {
 public:
  void add(const Change& change);

  // In the order of the last change of each.
  std::vector<Change> take();

 private:
  struct Item {
    ChangeKind kind;
    std::string from;
    bool wasGone = false;  // it was removed in between: what is there now is another thing
    uint64_t order = 0;
  };
  using Items = std::map<std::string, Item>;

  void set(const std::string& path, ChangeKind kind);
  void move(const std::string& from, const std::string& to);
  // Forgets what is below a path whose notice covers it, and tells of `from` of those that were moved there.
  void coverBelow(const std::string& path);

  Items items;
  uint64_t count = 0;
};

struct FilledNotice {
  Change change;
  Entry entry;  // type UNSET: there is nothing
};

class Lookup {
 public:
  virtual ~Lookup() = default;
  // What is at the path, without following; nothing if there is nothing, type OTHER if it cannot be looked at. May
  // block.
  virtual std::optional<Entry> entryAt(const std::string& path) = 0;
};

// Looks at each path, and makes the kinds agree with what is there now. May answer more notices than changes (a moved
// thing that is gone is gone at both places), and fewer.
std::vector<FilledNotice> fillIn(std::vector<Change> changes, Lookup& lookup);

}  // namespace capstan::server::files
