// How far a transfer is, as a line on the terminal: what is counted (Meter), how it looks in so many columns
// (renderProgress, pure), and when it is drawn (ProgressLine).
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <kj/common.h>

#include <capstan/client/cli/screen.h>
#include <capstan/client/transfer-types.h>

namespace capstan::cli {

// Nanoseconds of a clock that never goes back.
using Clock = std::function<uint64_t()>;
uint64_t steadyNow();

struct ProgressState {
  uint64_t files = 0;
  uint64_t filesDone = 0;
  uint64_t bytes = 0;
  uint64_t bytesDone = 0;  // resumed ones included
  bool totalsKnown = false;
  double bytesPerSecond = 0;  // lately
  std::string current;        // the file started last; raw bytes
  bool isWork = false;        // what is counted are no bytes: only its share is shown
};

// One line of at most `columns` columns, without control characters: as much as fits of files, percentage, bar, bytes,
// rate, time left, name. Never longer; may be empty.
std::string renderProgress(const ProgressState& state, unsigned columns);

// "3:04 left" and so on; nothing where it cannot be known.
std::optional<uint64_t> secondsLeft(const ProgressState& state);

// Columns that UTF-8 text takes on a terminal.
unsigned displayWidth(std::string_view text);

// Counts what one command transfers. Belongs to one event loop.
class Meter {
 public:
  explicit Meter(Clock clock = steadyNow);
  KJ_DISALLOW_COPY(Meter);

  // For one of the transfers that are counted together; the totals are known when each share knows its own. The meter
  // must outlive it.
  std::unique_ptr<client::Progress> share();

  ProgressState state() const;

  // Begins to count anew; with `isWork` units that mean nothing to people. No share may be left.
  void startOver(bool isWork);

  // Called after each change, and for each file that is done; may be empty.
  std::function<void()> onChange;
  std::function<void(std::string_view path, uint64_t size)> onFileDone;

 private:
  class Share;
  struct Sample {
    uint64_t time;
    uint64_t moved;
  };
  Clock clock;
  ProgressState counts;
  unsigned sharesWithoutTotal = 0;
  uint64_t moved = 0;  // without what was resumed: only this tells the rate
  mutable std::deque<Sample> samples;

  void changed();
};

// Feeds a meter with how far a computation is: first the bytes of its input, if that has to be sent, then its work. The
// percentage of the work never goes back, although its total may grow.
class WorkMeter {
 public:
  // The meter must outlive it, and has no other shares meanwhile.
  explicit WorkMeter(Meter& meter);

  // So many bytes of input will be sent; nothing: nobody knows how many.
  void sending(std::optional<uint64_t> bytes);
  void sent(uint64_t bytes) {
    if (!isWorking) share->advanced(bytes);
  }

  // `what` is for people; `total` 0: not known yet.
  void report(std::string_view what, uint64_t done, uint64_t total);

 private:
  Meter& meter;
  std::unique_ptr<client::Progress> share;
  bool isWorking = true;
  uint64_t shown = 0;  // in millionths

  void begin(bool work);
};

// Draws a meter on the screen's standard error, at most ten times a second, and not at all for what is done at once.
// Gone without a trace when it is destroyed.
class ProgressLine final : public Transient {
 public:
  ProgressLine(Screen& screen, const Meter& meter, Clock clock = steadyNow);
  ~ProgressLine() noexcept(false);

  // Draws if it is time to. To be called on changes, and now and then without.
  void tick();

  void hide() override;
  void show() override;

 private:
  Screen& screen;
  const Meter& meter;
  const Clock clock;
  const uint64_t begin;
  Transient* const before;
  uint64_t lastDraw = 0;
  unsigned drawnWidth = 0;  // columns that are on the terminal now

  std::string erasure() const;
  void redraw();
};

}  // namespace capstan::cli
