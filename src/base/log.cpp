#include <capstan/base/log.h>

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <capstan/base/text.h>

namespace capstan::log {

namespace {

std::atomic<Level> currentLevel{Level::INFO};

std::mutex sinkMutex;
std::function<void(Level, std::string_view)> sink;  // protected by sinkMutex

spdlog::logger& logger() {
  static std::shared_ptr<spdlog::logger> instance = [] {
    auto made = spdlog::stderr_logger_mt("capstan");
    // The journal stamps each line itself; what begins one there is write()'s.
    made->set_pattern(isInJournal() ? "%v" : "%Y-%m-%d %H:%M:%S.%e %l: %v");
    made->set_level(spdlog::level::trace);
    made->flush_on(spdlog::level::trace);
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum translated(Level level) {
  switch (level) {
    case Level::DEBUG: return spdlog::level::debug;
    case Level::INFO: return spdlog::level::info;
    case Level::WARNING: return spdlog::level::warn;
    case Level::ERROR: return spdlog::level::err;
    case Level::OFF: break;
  }
  return spdlog::level::off;
}

}  // namespace

void setLevel(Level level) { currentLevel = level; }
Level level() { return currentLevel.load(std::memory_order_relaxed); }

bool isJournal(const char* journalStream, int fd) {
  struct stat status;
  if (journalStream == nullptr || fstat(fd, &status) < 0) return false;
  return journalStream == std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino);
}

bool isInJournal() {
  static const bool is = isJournal(getenv("JOURNAL_STREAM"), STDERR_FILENO);
  return is;
}

std::string_view priorityPrefix(Level level) {
  if (!isInJournal()) return {};
  switch (level) {
    case Level::DEBUG: return "<7>";
    case Level::INFO: return "<6>";
    case Level::WARNING: return "<4>";
    case Level::ERROR: return "<3>";
    case Level::OFF: break;
  }
  return {};
}

void setSink(std::function<void(Level, std::string_view)> newSink) {
  std::lock_guard lock(sinkMutex);
  sink = std::move(newSink);
}

void write(Level level, std::string_view line) {
  std::string escaped = escapeForTerminal(line.substr(0, MAX_LINE_BYTES));
  if (line.size() > MAX_LINE_BYTES) escaped += " ...";
  std::lock_guard lock(sinkMutex);
  if (sink) {
    sink(level, escaped);
  } else {
    if (isInJournal()) {
      auto name = spdlog::level::to_string_view(translated(level));
      std::string begin(priorityPrefix(level));
      begin.append(name.data(), name.size()).append(": ");
      escaped.insert(0, begin);
    }
    logger().log(translated(level), escaped);
  }
}

namespace {

Level levelOf(kj::LogSeverity severity) {
  switch (severity) {
    case kj::LogSeverity::DBG: return Level::DEBUG;
    case kj::LogSeverity::INFO: return Level::INFO;
    case kj::LogSeverity::WARNING: return Level::WARNING;
    default: return Level::ERROR;
  }
}

}  // namespace

LinesOfKj::LinesOfKj() {
  // KJ wants less than 64 KiB between the object and the frame of its constructor, which is called from here.
  constexpr ptrdiff_t NEAR = 48 << 10;
  auto distance = reinterpret_cast<char*>(this) - static_cast<char*>(__builtin_frame_address(0));
  if (distance > -NEAR && distance < NEAR) callback.emplace();
}

void LinesOfKj::Callback::logMessage(kj::LogSeverity severity, const char* file, int line, int, kj::String&& text) {
  Level level = levelOf(severity);
  if (log::level() <= level) write(level, kj::str(file, ":", line, ": ", text).cStr());
}

}  // namespace capstan::log
