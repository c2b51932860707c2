// What mutations give to the trash: a run is told of each change that is made in its name, and takes in what is
// displaced. Internal to the committer, the kinds of mutation, and the trash.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>

#include <capstan/base/entry.h>
#include <capstan/base/error.h>

namespace capstan::storage {

class Round;

// One entry of a run's journal.
struct RunRecord {
  enum class Kind : uint8_t {
    BEGIN = 1,     // label in `path`, client in `from`
    INTENT = 2,    // what is at `path` is about to become `number`; see Run::reserve()
    CREATED = 3,   // at `path`; `number` is 1 if it came with all that is in it
    REPLACED = 4,  // `path`, which is `number` now
    REMOVED = 5,   // `path`, which is `number` now; 0: an empty folder that is not kept
    MOVED = 6,     // from `from` to `path`; if something was at `path`, it was REMOVED before
    METADATA = 7,  // of `path`, which had `mode` and `mtime`
    VOID = 8,      // the intent `number` came to nothing
    UNDONE = 9,    // by the run whose id is in `path`
    OPENED = 10,   // somebody adds to the run; the id of the system's boot in `path`
    CLOSED = 11,   // in order, by the same
  };
  Kind kind{};
  uint64_t number = 0;  // a name in the run's folder of displaced things
  int64_t time = 0;     // nanoseconds since the epoch
  std::string path;
  std::string from;
  Version after;                      // of what is at the path now; empty: nothing, or a folder
  EntryType type = EntryType::UNSET;  // of what was displaced, made or moved
  uint32_t mode = 0;
  int64_t mtime = 0;
  uint64_t inode = 0;   // of what is displaced (INTENT); of what was made or moved
  uint64_t placed = 0;  // INTENT: inode of what is to take the place, by way of the slot; 0: nothing
};

// Used on the committer's thread, save id(). Its methods block.
class Run {
 public:
  virtual ~Run() noexcept(false) = default;
  virtual const std::string& id() const = 0;
  // Whether two things can change places in one step, on this file system.
  virtual bool exchanges() const = 0;

  // A place for something that is about to be displaced: a name in a folder on the same file system that nothing has.
  // Before this returns it is on record (though not durable) what is meant to come there, so that a crash in the middle
  // can be put right: the intent's path, from, and inode of what is displaced. Where what takes the place comes from
  // the trash itself, `origin` is where it has to go back to then: a path below the trash's folder. `placed`: the inode
  // of what takes the place, if that stands in the slot for a moment; nothing else in there is ever thrown away.
  struct Slot {
    uint64_t number = 0;
    int folder = -1;  // owned by the run
    std::string name;
  };
  virtual Result<Slot> reserve(const std::string& path, const std::string& from, const struct stat& displaced,
                               const std::string& origin, uint64_t placed = 0) = 0;
  // The slot stays empty.
  virtual void giveUp(const Slot& slot) = 0;

  // Why nothing more may be done in its name: its holder keeps too much in the trash (`quota`).
  virtual Status mayGoOn() { return okStatus(); }

  // A change was made. Time is filled in.
  virtual void record(RunRecord record) = 0;

  // Writes what was recorded so far, and names to the round what has to be flushed for it. To be called before the
  // flush that makes the changes durable.
  virtual void write(Round& round) = 0;
};

}  // namespace capstan::storage
