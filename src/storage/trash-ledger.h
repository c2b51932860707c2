// What the runs of shares keep in the trash, as far as this process knows: what was found on disk, with what came
// since. Made so that a bound can be held at each displacement, without a look at the disk. Internal to the trash.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <capstan/storage/trash.h>

namespace capstan::storage {

// Thread-safe; nothing blocks. Runs are named as their folders are. Those of the owner are not in it.
class TrashLedger {
 public:
  struct Run {
    std::string name;
    std::string holder;
    int64_t began = 0;
  };

  // Of all runs of the holder, and of those who have it from them.
  uint64_t total(const std::string& holder) const;
  uint64_t bytes(const std::string& name) const;
  // The same runs one after the other, the oldest first, save those that keep nothing.
  struct Position {
    int64_t began = 0;
    std::string name;
    auto operator<=>(const Position&) const = default;
  };
  std::optional<Position> following(const std::string& holder, const std::optional<Position>& position) const;
  std::optional<std::string> latest(const std::string& holder) const;
  std::vector<std::string> names() const;  // of all

  // Something came into the run (or left it).
  void add(const Run& run, int64_t growth);
  // Something left a run that may be in here.
  void take(const std::string& name, uint64_t bytes);
  void forget(const std::string& name);

  // Around a look at the disk: what comes in between may or may not have been seen by it, and counts besides.
  uint64_t beforeLook(const std::string& name) const;
  void found(const Run& run, uint64_t bytes, uint64_t beforeLook);

  // What the tree held when each run was begun for the first time stays what it was.
  void remember(const Run& run, std::vector<TrashBound>& bounds);

  // The bounds that something came under since this was asked for the last time, and by whom, who was the last.
  struct Noted {
    TrashBound bound;
    std::string by;
  };
  void note(const std::vector<TrashBound>& bounds, const std::string& by);
  std::vector<Noted> takeNoted();

 private:
  struct Item {
    Run run;
    uint64_t bytes = 0;
    uint64_t came = 0;                       // in all
    std::map<std::string, uint64_t> before;  // by the holder that is bound
  };
  // Of a holder, with what those have who have it from them.
  struct Account {
    uint64_t total = 0;
    std::set<Position> runs;
  };

  Item& itemOf(const Run& run);
  void set(Item& item, uint64_t bytes);
  const Account* accountOf(const std::string& holder) const;

  // protected by mutex
  mutable std::mutex mutex;
  std::map<std::string, Item> items;
  std::map<std::string, Account> accounts;  // by holder
  std::map<std::string, Noted> noted;       // by the holder that is bound
};

}  // namespace capstan::storage
