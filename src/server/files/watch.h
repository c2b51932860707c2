// One watcher of the tree: a place in the journal of changes, and one call to the client under way at a time. What
// changes meanwhile waits in the journal, which is there anyhow: a watcher that never answers costs nothing.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <kj/timer.h>

#include <capstan/server/access/guarded.h>
#include <capstan/server/files/change-journal.h>
#include <capstan/server/files/folder-state.h>
#include <capstan/server/files/notices.h>
#include <capstan/server/files/noticing.h>
#include <capstan/server/files/slot.h>
#include <capstan/server/files/view.h>

namespace capstan::server::files {

struct WatchSettings {
  std::string path;
  kj::Duration minimumInterval = 0 * kj::NANOSECONDS;
};

// The place of a subscription, and the noticing of changes as long as there is one. Belongs to the connection's loop.
struct WatchSlot : public Slot {
  WatchSlot(Slot slot, Noticing& noticing) : Slot(kj::mv(slot)), interest(noticing) {}

 private:
  Noticing::Interest interest;
};

// Belongs to its connection's loop. Ends when it is dropped, or when the watcher's method fails.
class SubscriptionServer final : public Guarded<schema::Subscription> {
 public:
  // From `position` in the journal; nothing: of a time that is not known any more.
  SubscriptionServer(FolderState& folder, std::shared_ptr<const View> view, WatchSlot slot,
                     schema::Watcher::Client watcher, WatchSettings settings, std::optional<uint64_t> position);

 protected:
  kj::Promise<void> flush(FlushContext context) override;
  kj::Promise<void> ended(EndedContext context) override;

 private:
  struct Waiting {
    uint64_t number;
    kj::Own<kj::PromiseFulfiller<void>> fulfiller;
  };

  kj::Promise<void> run();
  kj::Promise<void> waitForChanges();
  kj::Promise<void> waitForInterval();
  kj::Promise<void> tell();
  kj::Promise<void> send(std::vector<FilledNotice> notices);
  kj::Promise<void> told(uint64_t number);
  kj::Promise<void> untilTold(uint64_t number);
  void fail(kj::Exception&& exception);

  FolderState& folder;
  const std::shared_ptr<const View> view;
  kj::Maybe<WatchSlot> slot;  // null once it has ended
  kj::Maybe<schema::Watcher::Client> watcher;
  const WatchSettings settings;
  kj::Timer* const timer;
  uint64_t position;  // what was read of the journal
  uint64_t answered;  // what the watcher has been told
  bool overflow;
  kj::TimePoint earliest = kj::origin<kj::TimePoint>();  // of the next notice
  std::vector<Waiting> waiting;
  kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>> hurry;
  std::vector<kj::Own<kj::PromiseFulfiller<void>>> waitingForEnd;
  kj::Promise<void> running;
};

}  // namespace capstan::server::files
