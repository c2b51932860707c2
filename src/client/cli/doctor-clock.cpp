#include <capstan/client/cli/doctor-clock.h>

#include <sys/stat.h>
#include <sys/timex.h>

#include <ctime>

#include <capstan/base/text.h>

namespace capstan::cli {

namespace {

constexpr int64_t DAY = 86'400;
constexpr int64_t SECOND = 1'000'000'000;  // nanoseconds
// Clocks of file systems lag behind, and networks delay.
constexpr int64_t TOLERANCE = 5;

std::string dateOf(int64_t time) { return formatTime(time * SECOND).substr(0, 16) + "Z"; }

}  // namespace

Finding judgeClock(const ClockFacts& facts) {
  const std::string CHECK = "clock";
  const std::string SET = "set the clock, and let it be kept right: timedatectl set-ntp true";
  // A day for those who build in one time zone and keep files' times in another.
  if (facts.programChanged && facts.now + DAY < *facts.programChanged) {
    return Finding::problem(CHECK,
                            "the clock shows " + dateOf(facts.now) + ", but this program is of " +
                                dateOf(*facts.programChanged) + ": certificates look as if they were not valid yet",
                            SET);
  }
  if (facts.serverChanged && *facts.serverChanged > facts.now + TOLERANCE) {
    uint64_t ahead = uint64_t(*facts.serverChanged - facts.now) * uint64_t(SECOND);
    return Finding::warning(CHECK,
                            "the served folder was last changed " + formatDuration(ahead) +
                                " from now: the clock here is late, or the server's is early",
                            SET + ", on both machines");
  }
  if (facts.isSynchronised == false) {
    return Finding::warning(CHECK, "the clock shows " + dateOf(facts.now) + ", and nothing keeps it right (no NTP)",
                            "run: timedatectl set-ntp true (in a container: see to the clock of its host)");
  }
  return Finding::ok(CHECK, "the clock shows " + dateOf(facts.now) +
                                (facts.isSynchronised ? ", and is kept right by others' (NTP)" : ""));
}

Finding lookAtClock(std::optional<int64_t> serverChanged) {
  ClockFacts facts;
  facts.now = time(nullptr);
  facts.serverChanged = serverChanged;
  struct stat program;
  if (stat("/proc/self/exe", &program) == 0) facts.programChanged = program.st_mtim.tv_sec;
  timex kernel{};
  if (int state = adjtimex(&kernel); state >= 0) {
    facts.isSynchronised = state != TIME_ERROR && (kernel.status & STA_UNSYNC) == 0;
  }
  return judgeClock(facts);
}

}  // namespace capstan::cli
