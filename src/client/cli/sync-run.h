// One `capstan sync` while it runs: feeds what the service tells to the terminal, and ends it when it is done or a
// signal comes.
#pragma once

#include <capstan/client/cli/context.h>
#include <capstan/client/cli/own-loop.h>
#include <capstan/sync/service.h>

namespace capstan::cli {

struct SyncWish {
  sync::ServiceOptions options;
  bool once = false;
  bool dryRun = false;
};

// Belongs to one event loop. `context` must outlive it.
class SyncRun {
 public:
  // `whenSignalled`: empty where somebody else ends the command, by dropping the promise.
  SyncRun(Context& context, SyncWish wish, WhenSignalled whenSignalled);
  KJ_DISALLOW_COPY(SyncRun);

  // Answers the exit status. Of a continuous run: 130 or 143 after a signal, when the operation under way is done; a
  // second signal ends it at once.
  kj::Promise<int> run();

 private:
  Context& context;
  const SyncWish wish;
  const WhenSignalled whenSignalled;
  sync::Service service;

  kj::Own<kj::Refcounted> progressLine;
  kj::Own<kj::PromiseFulfiller<int>> over;  // the share has ended: with this exit status
  std::unique_ptr<client::Progress> share;  // of what the progress line shows
  uint64_t shownBytes = 0;
  std::string lastTrouble;  // told once, not every few seconds

  kj::Promise<int> runOnce();
  kj::Promise<int> keepInStep();
  void onEvent(const sync::Event& event);
  void onStarted(const sync::Event& event);
  void onOperation(const char* name, const sync::Event& event);
  void onCycleEnded(const sync::CycleReport& report);
  void onConnection(const sync::Event& event);
  void showProgress(const sync::Event& event);
  void endProgress();
  void tellTroubles(const sync::CycleReport& report);
  void tellFailures(const sync::CycleReport& report);
  void tellUnread(const sync::CycleReport& report);
  int finish(const sync::CycleReport& report);
};

}  // namespace capstan::cli
