// What the trash of a server tells: runs, and what they have displaced. Plain data; see schema/files.capnp, Trash.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <capstan/base/entry.h>
#include <capstan/base/error.h>

namespace capstan::client {

struct Run {
  std::string id;  // 16 bytes
  std::string label;
  std::string client;
  int64_t began = 0, ended = 0;  // nanoseconds since the epoch
  uint64_t created = 0, replaced = 0, removed = 0, moved = 0;
  uint64_t bytes = 0;
  bool canUndo = false;
  std::string undoneBy;  // empty: nobody
};

struct TrashItem {
  std::string run;
  Entry entry;  // `path`: where it was
  int64_t displaced = 0;
};

struct UndoSummary {
  uint64_t undone = 0;
  uint64_t failed = 0;
  std::vector<Error> failures;  // the first of them
  std::string run;              // of the undo, by which it can be undone itself
};

}  // namespace capstan::client
