#include <capstan/client/cli/progress.h>

#include <wchar.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <vector>

#include <capstan/base/text.h>

namespace capstan::cli {

namespace {

constexpr uint64_t SECOND = 1'000'000'000;
constexpr uint64_t BETWEEN_DRAWS = SECOND / 10;
constexpr uint64_t BEFORE_FIRST_DRAW = 3 * SECOND / 10;
constexpr uint64_t RATE_WINDOW = 5 * SECOND;
constexpr uint64_t BETWEEN_SAMPLES = SECOND / 10;
constexpr unsigned BAR = 20;

struct CodePoint {
  wchar_t value;
  size_t length;  // in bytes
};

// Precondition: valid UTF-8.
CodePoint firstOf(std::string_view text) {
  unsigned char lead = text[0];
  size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  wchar_t value = length == 1 ? lead : lead & (0xFF >> (length + 1));
  for (size_t i = 1; i < length; ++i) value = value << 6 | (text[i] & 0x3F);
  return {value, length};
}

unsigned widthOf(wchar_t character) {
  int width = wcwidth(character);
  return width < 0 ? 1 : width;
}

// The end of a name is what tells files apart.
std::string lastColumns(std::string_view text, unsigned columns) {
  unsigned width = displayWidth(text);
  if (width <= columns) return std::string(text);
  if (columns < 4) return {};
  while (width > columns - 3) {
    CodePoint first = firstOf(text);
    width -= widthOf(first.value);
    text.remove_prefix(first.length);
  }
  return "..." + std::string(text);
}

std::string bar(double share) {
  unsigned filled = std::min(BAR, unsigned(share * BAR));
  std::string text(filled, '=');
  if (filled < BAR) text += '>';
  text.resize(BAR, ' ');
  return "[" + text + "]";
}

std::string timeLeft(uint64_t seconds) {
  std::array<char, 48> text;
  if (seconds >= 100 * 3600) return "days left";
  if (seconds >= 3600) {
    snprintf(text.data(), text.size(), "%u:%02u:%02u left", unsigned(seconds / 3600), unsigned(seconds / 60 % 60),
             unsigned(seconds % 60));
  } else {
    snprintf(text.data(), text.size(), "%u:%02u left", unsigned(seconds / 60), unsigned(seconds % 60));
  }
  return text.data();
}

// A part of the line. The lower the rank, the longer it stays when the terminal is narrow.
struct Part {
  std::string text;
  unsigned rank;
};

std::vector<Part> partsOf(const ProgressState& state) {
  std::vector<Part> parts;
  if (state.files > 1) {
    std::string more = state.totalsKnown ? "" : "+";
    parts.push_back({std::to_string(state.filesDone) + "/" + std::to_string(state.files) + more + " files", 3});
  }
  bool knowsShare = state.totalsKnown && state.bytes > 0;
  double share = knowsShare ? std::min(1.0, double(state.bytesDone) / double(state.bytes)) : 0;
  if (knowsShare) {
    std::string percent = std::to_string(unsigned(share * 100)) + "%";
    parts.push_back({std::string(4 - std::min<size_t>(4, percent.size()), ' ') + percent, 0});
    parts.push_back({bar(share), 5});
  }
  if (!state.isWork) {
    std::string bytes = formatSize(state.bytesDone);
    if (state.bytes > 0) bytes += " of " + formatSize(state.bytes) + (state.totalsKnown ? "" : "+");
    parts.push_back({bytes, 2});
    parts.push_back({formatSize(uint64_t(state.bytesPerSecond)) + "/s", 1});
  }
  if (auto seconds = secondsLeft(state)) parts.push_back({timeLeft(*seconds), 4});
  return parts;
}

}  // namespace

uint64_t steadyNow() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

unsigned displayWidth(std::string_view text) {
  unsigned width = 0;
  while (!text.empty()) {
    CodePoint first = firstOf(text);
    width += widthOf(first.value);
    text.remove_prefix(std::min(first.length, text.size()));
  }
  return width;
}

std::optional<uint64_t> secondsLeft(const ProgressState& state) {
  if (!state.totalsKnown || state.bytesPerSecond < 1 || state.bytes < state.bytesDone) return std::nullopt;
  return uint64_t(std::ceil(double(state.bytes - state.bytesDone) / state.bytesPerSecond));
}

std::string renderProgress(const ProgressState& state, unsigned columns) {
  auto parts = partsOf(state);
  constexpr unsigned GAP = 2;
  auto widthOfAll = [&]() {
    size_t width = parts.empty() ? 0 : (parts.size() - 1) * GAP;
    for (auto& part : parts) width += part.text.size();
    return width;
  };
  while (!parts.empty() && widthOfAll() > columns) {
    parts.erase(std::max_element(parts.begin(), parts.end(), [](auto& a, auto& b) { return a.rank < b.rank; }));
  }
  std::string line;
  for (auto& part : parts) {
    if (!line.empty()) line.append(GAP, ' ');
    line += part.text;
  }
  if (!state.current.empty() && line.size() + GAP < columns) {
    std::string name = lastColumns(escapeForTerminal(state.current), columns - line.size() - GAP);
    if (!name.empty()) line += std::string(GAP, ' ') + name;
  }
  return line;
}

class Meter::Share final : public client::Progress {
 public:
  explicit Share(Meter& meter) : meter(meter) { ++meter.sharesWithoutTotal; }
  ~Share() noexcept(false) {
    if (!known) --meter.sharesWithoutTotal;
  }
  KJ_DISALLOW_COPY(Share);

  void total(uint64_t newFiles, uint64_t newBytes, bool totalsKnown) override {
    meter.counts.files += newFiles - files;
    meter.counts.bytes += newBytes - bytes;
    files = newFiles;
    bytes = newBytes;
    if (totalsKnown && !known) {
      known = true;
      --meter.sharesWithoutTotal;
    }
    meter.changed();
  }

  void advanced(uint64_t count) override {
    meter.counts.bytesDone += count;
    meter.moved += count;
    meter.changed();
  }

  void fileStarted(std::string_view path, uint64_t) override {
    meter.counts.current = path;
    meter.changed();
  }

  void fileDone(std::string_view path, uint64_t size) override {
    ++meter.counts.filesDone;
    if (meter.onFileDone) meter.onFileDone(path, size);
    meter.changed();
  }

  void resumed(std::string_view, uint64_t offset) override {
    meter.counts.bytesDone += offset;
    meter.changed();
  }

 private:
  Meter& meter;
  uint64_t files = 0;
  uint64_t bytes = 0;
  bool known = false;
};

Meter::Meter(Clock clock) : clock(std::move(clock)) {}

std::unique_ptr<client::Progress> Meter::share() { return std::make_unique<Share>(*this); }

void Meter::changed() {
  uint64_t now = clock();
  if (samples.empty() || now - samples.back().time >= BETWEEN_SAMPLES) samples.push_back({now, moved});
  if (onChange) onChange();
}

ProgressState Meter::state() const {
  ProgressState state = counts;
  state.totalsKnown = sharesWithoutTotal == 0;
  uint64_t now = clock();
  // The last sample older than the window stays, as the window's left edge.
  while (samples.size() > 1 && now - samples[1].time >= RATE_WINDOW) samples.pop_front();
  if (!samples.empty() && now > samples.front().time) {
    state.bytesPerSecond = double(moved - samples.front().moved) * double(SECOND) / double(now - samples.front().time);
  }
  return state;
}

void Meter::startOver(bool isWork) {
  counts = {};
  counts.isWork = isWork;
  moved = 0;
  samples.clear();
}

WorkMeter::WorkMeter(Meter& meter) : meter(meter) { begin(true); }

void WorkMeter::begin(bool work) {
  share = nullptr;
  meter.startOver(work);
  share = meter.share();
  isWorking = work;
}

void WorkMeter::sending(std::optional<uint64_t> bytes) {
  begin(false);
  share->total(1, bytes.value_or(0), bytes.has_value());
}

void WorkMeter::report(std::string_view what, uint64_t done, uint64_t total) {
  constexpr uint64_t WHOLE = 1'000'000;
  if (!isWorking) begin(true);
  share->fileStarted(what, 0);
  if (total == 0) return;
  share->total(1, WHOLE, true);
  uint64_t reached = uint64_t(std::min(1.0, double(done) / double(total)) * WHOLE);
  if (reached > shown) share->advanced(reached - shown);
  shown = std::max(shown, reached);
}

ProgressLine::ProgressLine(Screen& screen, const Meter& meter, Clock clock)
    : screen(screen), meter(meter), clock(std::move(clock)), begin(this->clock()), before(screen.setTransient(this)) {}

ProgressLine::~ProgressLine() noexcept(false) {
  hide();
  screen.setTransient(before);
}

void ProgressLine::tick() {
  uint64_t now = clock();
  if (now - begin < BEFORE_FIRST_DRAW) return;
  if (lastDraw != 0 && now - lastDraw < BETWEEN_DRAWS) return;
  lastDraw = now;
  redraw();
}

// A terminal that became narrower since has wrapped the line.
std::string ProgressLine::erasure() const {
  if (drawnWidth == 0) return {};
  unsigned rows = (drawnWidth - 1) / std::max(1u, screen.width());
  std::string text = "\r";
  if (rows > 0) text += "\x1b[" + std::to_string(rows) + "A";
  return text + "\x1b[J";
}

void ProgressLine::redraw() {
  unsigned columns = screen.width();
  // The last column stays free: a cursor behind it wraps on some terminals.
  std::string line = renderProgress(meter.state(), columns > 1 ? columns - 1 : 0);
  screen.draw(erasure() + line);
  drawnWidth = displayWidth(line);
}

void ProgressLine::hide() {
  if (drawnWidth == 0) return;
  screen.draw(erasure());
  drawnWidth = 0;
}

void ProgressLine::show() {
  if (lastDraw != 0) redraw();
}

}  // namespace capstan::cli
