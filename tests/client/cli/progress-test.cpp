// Progress on a terminal that is played by a string, and a clock that is set by hand.
#include <capstan/client/cli/progress.h>

#include <clocale>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace capstan::cli {
namespace {

using testing::HasSubstr;

constexpr uint64_t SECOND = 1'000'000'000;
constexpr uint64_t MIB = 1 << 20;

ProgressState halfWay() {
  ProgressState state;
  state.files = 10;
  state.filesDone = 4;
  state.bytes = 100 * MIB;
  state.bytesDone = 50 * MIB;
  state.totalsKnown = true;
  state.bytesPerSecond = 10 * MIB;
  state.current = "photos/boat.jpg";
  return state;
}

TEST(RenderProgress, ShowsNoBytesOfWorkThatHasNone) {
  ProgressState state;
  state.bytes = 200;
  state.bytesDone = 90;
  state.totalsKnown = true;
  state.bytesPerSecond = 10;
  state.isWork = true;
  state.current = "sort, running";
  std::string line = renderProgress(state, 160);
  EXPECT_THAT(line, HasSubstr("45%"));
  EXPECT_THAT(line, HasSubstr("0:11 left"));
  EXPECT_THAT(line, HasSubstr("sort, running"));
  EXPECT_EQ(line.find(" B"), std::string::npos) << line;
}

TEST(RenderProgress, TellsBytesRateTimeLeftFilesAndName) {
  std::string line = renderProgress(halfWay(), 160);
  for (auto* part :
       {"4/10 files", "50%", "[==========>", "50.0 MiB of 100 MiB", "10.0 MiB/s", "0:05 left", "photos/boat.jpg"}) {
    EXPECT_THAT(line, HasSubstr(part)) << line;
  }
}

TEST(RenderProgress, IsNeverWiderThanTheTerminal) {
  ProgressState state = halfWay();
  state.current = "a/very/long/name/\xe4\xb8\xad\xe6\x96\x87\xe4\xb8\xad\xe6\x96\x87\n\x1b[2J.bin";
  for (unsigned columns = 0; columns < 200; ++columns) {
    std::string line = renderProgress(state, columns);
    EXPECT_LE(displayWidth(line), columns);
    EXPECT_EQ(line.find_first_of("\n\x1b"), std::string::npos);
  }
  EXPECT_THAT(renderProgress(state, 6), HasSubstr("50%")) << "what matters most stays longest";
}

TEST(RenderProgress, PromisesNothingWhileTotalsGrow) {
  ProgressState state = halfWay();
  state.totalsKnown = false;
  std::string line = renderProgress(state, 160);
  EXPECT_THAT(line, HasSubstr("4/10+ files"));
  EXPECT_EQ(line.find('%'), std::string::npos);
  EXPECT_EQ(line.find("left"), std::string::npos);
  state.bytesPerSecond = 0;
  state.totalsKnown = true;
  EXPECT_FALSE(secondsLeft(state)) << "a stalled transfer has no end in sight";
}

TEST(DisplayWidth, CountsColumns) {
  setlocale(LC_CTYPE, "C.UTF-8");
  EXPECT_EQ(displayWidth("abc"), 3u);
  EXPECT_EQ(displayWidth("\xc3\xbc"), 1u);
  EXPECT_EQ(displayWidth("\xe4\xb8\xad"), 2u);
}

class FakeScreen final : public Screen {
 public:
  FakeScreen() : Screen(-1, -1) {}
  unsigned columns = 80;
  std::string drawn;
  unsigned draws = 0;
  unsigned width() const override { return columns; }
  void draw(std::string_view bytes) override {
    drawn += bytes;
    ++draws;
  }
};

struct Drawing : public testing::Test {
  ~Drawing() noexcept override = default;
  uint64_t now = 100 * SECOND;
  FakeScreen screen;
  Meter meter{[this]() { return now; }};
  std::unique_ptr<client::Progress> share = meter.share();
  ProgressLine line{screen, meter, [this]() { return now; }};
};

TEST_F(Drawing, ShowsNothingForWhatIsDoneAtOnce) {
  now += SECOND / 10;
  line.tick();
  EXPECT_EQ(screen.draws, 0u);
}

TEST_F(Drawing, RedrawsAtMostTenTimesASecond) {
  now += SECOND;
  for (unsigned i = 0; i < 1000; ++i) {
    line.tick();
    now += SECOND / 1000;
  }
  EXPECT_LE(screen.draws, 11u);
  EXPECT_GE(screen.draws, 9u);
}

TEST_F(Drawing, MakesWayAndComesBack) {
  share->total(1, MIB, true);
  now += SECOND;
  line.tick();
  screen.drawn.clear();
  line.hide();
  EXPECT_EQ(screen.drawn, "\r\x1b[J");
  screen.drawn.clear();
  line.hide();
  EXPECT_EQ(screen.drawn, "") << "there is nothing left to take away";
  line.show();
  EXPECT_THAT(screen.drawn, HasSubstr("of 1.0 MiB"));
}

TEST_F(Drawing, TakesAwayTheRowsOfALineThatANarrowerTerminalHasWrapped) {
  share->total(1, 100 * MIB, true);
  now += SECOND;
  line.tick();
  unsigned width = displayWidth(screen.drawn);
  screen.drawn.clear();
  screen.columns = width / 2;
  line.hide();
  EXPECT_THAT(screen.drawn, testing::StartsWith("\r\x1b[" + std::to_string((width - 1) / (width / 2)) + "A"));
}

TEST_F(Drawing, KnowsTheRateOfLately) {
  share->total(1, 1000 * MIB, true);
  for (unsigned i = 0; i < 100; ++i) {
    share->advanced(10 * MIB / 10);
    now += SECOND / 10;
  }
  EXPECT_NEAR(meter.state().bytesPerSecond, 10 * MIB, MIB / 2);
  now += 60 * SECOND;
  EXPECT_LT(meter.state().bytesPerSecond, MIB / 10) << "it has stalled";
}

TEST_F(Drawing, CountsWhatWasThereAlreadyAsDoneButNotAsFast) {
  share->total(1, 1000 * MIB, true);
  share->resumed("f", 900 * MIB);
  now += SECOND;
  share->advanced(MIB);
  EXPECT_EQ(meter.state().bytesDone, 901 * MIB);
  EXPECT_LT(meter.state().bytesPerSecond, 2 * MIB);
}

TEST(WorkMeter, NeverGoesBackAlthoughTheTotalGrows) {
  Meter meter([]() { return SECOND; });
  WorkMeter work(meter);
  auto shown = [&]() {
    ProgressState state = meter.state();
    return state.bytes == 0 ? 0.0 : double(state.bytesDone) / double(state.bytes);
  };
  work.report("sort, running", 0, 0);
  EXPECT_FALSE(meter.state().totalsKnown);
  work.report("sort, running", 50, 100);
  EXPECT_NEAR(shown(), 0.5, 1e-5);
  work.report("sort, running", 60, 200);
  EXPECT_NEAR(shown(), 0.5, 1e-5);
  work.report("sort, running", 150, 200);
  EXPECT_NEAR(shown(), 0.75, 1e-5);
  work.report("sort, running", 300, 200);
  EXPECT_EQ(shown(), 1.0) << "never more than all";
}

TEST(WorkMeter, ShowsTheBytesOfTheInputBeforeTheWork) {
  Meter meter([]() { return SECOND; });
  WorkMeter work(meter);
  EXPECT_TRUE(meter.state().isWork);
  work.sending(100 * MIB);
  work.sent(40 * MIB);
  EXPECT_THAT(renderProgress(meter.state(), 160), HasSubstr("40.0 MiB of 100 MiB"));
  work.report("sum, running", 1, 4);
  std::string line = renderProgress(meter.state(), 160);
  EXPECT_THAT(line, HasSubstr("25%"));
  EXPECT_THAT(line, HasSubstr("sum, running"));
  EXPECT_EQ(line.find("MiB"), std::string::npos) << line;
  work.sending(std::nullopt);
  work.report("sum, running", 2, 4);
  EXPECT_TRUE(meter.state().totalsKnown) << "that the input's size was never known is over";
}

TEST_F(Drawing, AddsUpSharesAndKnowsTheTotalWhenAllDo) {
  auto other = meter.share();
  share->total(2, 10, true);
  other->total(1, 5, false);
  EXPECT_EQ(meter.state().files, 3u);
  EXPECT_EQ(meter.state().bytes, 15u);
  EXPECT_FALSE(meter.state().totalsKnown);
  other->total(3, 7, true);
  EXPECT_EQ(meter.state().files, 5u);
  EXPECT_TRUE(meter.state().totalsKnown);
}

}  // namespace
}  // namespace capstan::cli
