// What has changed in the served folder, in order: a ring of the last changes, each with a number. Whoever wants to
// hear of changes keeps a number and asks for what came after it.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <kj/async.h>

namespace capstan::server::files {

enum class ChangeKind : uint16_t { UNSET, CREATED, CHANGED, REMOVED, MOVED, SUBTREE };  // the numbers of Notice.Kind

struct Change {
  ChangeKind kind = ChangeKind::UNSET;  // UNSET: changes were lost here; look at everything
  std::string path;
  std::string from;  // with MOVED
};

// Thread-safe.
class ChangeJournal {
 public:
  struct Options {
    size_t changes = 100'000;
    size_t bytes = 32 << 20;  // of paths
  };
  ChangeJournal();
  explicit ChangeJournal(Options options);
  KJ_DISALLOW_COPY(ChangeJournal);

  void add(std::vector<Change> changes);

  // The number that the next change gets.
  uint64_t end() const;

  struct Page {
    std::vector<Change> changes;  // without those that only say that something was lost
    uint64_t next = 0;            // the number to go on from
    bool overflow = false;        // changes after `from` are not known any more, or never were
  };
  // What came at `from` and later, at most `max` changes and about a MiB of paths.
  Page read(uint64_t from, size_t max) const;

  // Resolves when there is something at `number`. On the calling event loop.
  kj::Promise<void> reaches(uint64_t number);

  // Numbers as what clients keep: with 16 random bytes of this journal, so that a cursor of another one is known as
  // that (nothing).
  std::string cursorOf(uint64_t number) const;
  std::optional<uint64_t> numberOf(std::string_view cursor) const;

 private:
  using Waiter = kj::CrossThreadPromiseFulfiller<void>;

  // constant after construction
  const Options options;
  const std::string epoch;
  // protected by mutex
  mutable std::mutex mutex;
  std::deque<Change> ring;
  uint64_t first = 0;  // the number of ring.front()
  size_t bytes = 0;
  std::vector<kj::Own<Waiter>> waiters;
};

}  // namespace capstan::server::files
