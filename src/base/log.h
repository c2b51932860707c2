// The program's log: one line per event on standard error, levels, and no way for a peer to forge a line: control bytes
// are escaped and long lines cut off here, in one place. Callers pass no secrets. Thread-safe.
#pragma once

#include <functional>
#include <optional>
#include <string_view>

#include <kj/exception.h>
#include <kj/string.h>

namespace capstan::log {

enum class Level { DEBUG, INFO, WARNING, ERROR, OFF };

// Applies to all lines from now on. The default is INFO. In systemd's journal lines carry no time of their own, and a
// priority that it takes off.
void setLevel(Level level);
Level level();

// Whether a descriptor is the stream to systemd's journal that JOURNAL_STREAM tells of ("DEVICE:INODE"; null: none).
// The variable is inherited by programs whose output goes elsewhere.
bool isJournal(const char* journalStream, int fd);
// Whether this process's standard error is that.
bool isInJournal();
// What tells the journal the priority of a line, "<3>", before it (sd-daemon(3)). Empty where standard error is not the
// journal. The lines of this log have it already.
std::string_view priorityPrefix(Level level);

// Where lines go instead of standard error; an empty function goes back to it. For tests and for programs that embed a
// server. Called with a lock held: it must not log.
void setSink(std::function<void(Level, std::string_view)> sink);

// What is longer is cut off. systemd's journal makes several lines of one that is longer than 48 KiB (LineMax=), and
// escaping makes it up to four times as long.
inline constexpr size_t MAX_LINE_BYTES = 8 << 10;

void write(Level level, std::string_view line);

// log::info("connection from ", peer, " closed"): the parts are joined by kj::str.
template <typename... Parts>
void debug(Parts&&... parts) {
  if (level() <= Level::DEBUG) write(Level::DEBUG, kj::str(kj::fwd<Parts>(parts)...).cStr());
}
template <typename... Parts>
void info(Parts&&... parts) {
  if (level() <= Level::INFO) write(Level::INFO, kj::str(kj::fwd<Parts>(parts)...).cStr());
}
template <typename... Parts>
void warning(Parts&&... parts) {
  if (level() <= Level::WARNING) write(Level::WARNING, kj::str(kj::fwd<Parts>(parts)...).cStr());
}
template <typename... Parts>
void error(Parts&&... parts) {
  if (level() <= Level::ERROR) write(Level::ERROR, kj::str(kj::fwd<Parts>(parts)...).cStr());
}

// As long as one lives on a thread's stack, what KJ and Cap'n Proto have to say on that thread (failures that nobody
// was left to hear of, exceptions thrown while another one is on its way) are lines of this log. Otherwise it goes to
// standard error as it is, with bytes and line breaks that a peer may have chosen.
class LinesOfKj {
 public:
  LinesOfKj();
  LinesOfKj(const LinesOfKj&) = delete;
  LinesOfKj& operator=(const LinesOfKj&) = delete;

  // False where the stack is not the thread's own, which KJ would not have: AddressSanitizer may keep locals elsewhere.
  bool areTaken() const { return callback.has_value(); }

 private:
  class Callback final : public kj::ExceptionCallback {
   public:
    void logMessage(kj::LogSeverity severity, const char* file, int line, int contextDepth, kj::String&& text) override;
  };
  std::optional<Callback> callback;
};

}  // namespace capstan::log
