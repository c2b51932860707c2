#include <capstan/sync/conflict-name.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <ctime>

#include <capstan/base/path.h>

namespace capstan::sync {
namespace {

constexpr std::string_view MARK = ".conflict-";
constexpr size_t DATE_BYTES = 15;        // 20261121-101500
constexpr size_t MAX_HOST_BYTES = 64;    // as long as Linux lets a host's name be
constexpr size_t MAX_ENDING_BYTES = 32;  // a longer one is no ending, but part of the name

std::string dateOf(int64_t time) {
  constexpr int64_t SECOND = 1'000'000'000;
  time_t seconds = time / SECOND - (time % SECOND < 0 ? 1 : 0);
  tm fields{};
  gmtime_r(&seconds, &fields);
  char text[64];
  snprintf(text, sizeof text, "%04d%02d%02d-%02d%02d%02d", fields.tm_year + 1900, fields.tm_mon + 1, fields.tm_mday,
           fields.tm_hour, fields.tm_min, fields.tm_sec);
  return text;
}

std::string cleaned(std::string_view host) {
  std::string clean(host.substr(0, MAX_HOST_BYTES));
  for (char& c : clean) {
    bool isFit = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
    if (!isFit) c = '-';
  }
  return clean.empty() ? "host" : clean;
}

// Where ".txt" begins; the end if there is none. A point at the beginning makes a hidden name, not an ending.
size_t endingOf(std::string_view name) {
  size_t point = name.rfind('.');
  bool isEnding = point != std::string_view::npos && point > 0 && point + 1 < name.size() &&
                  name.size() - point <= MAX_ENDING_BYTES && name.find_first_not_of('.') < point;
  return isEnding ? point : name.size();
}

// At most so many bytes, without a character that is cut in two.
std::string_view shortened(std::string_view text, size_t bytes) {
  if (text.size() <= bytes) return text;
  size_t end = bytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end == 0 ? bytes : end);
}

bool isDate(std::string_view text) {
  if (text.size() != DATE_BYTES) return false;
  for (size_t i = 0; i < DATE_BYTES; ++i) {
    if (i == 8 ? text[i] != '-' : !std::isdigit(static_cast<unsigned char>(text[i]))) return false;
  }
  return true;
}

}  // namespace

std::string conflictPath(std::string_view path, int64_t time, std::string_view host,
                         const std::function<bool(std::string_view)>& isTaken) {
  std::string_view name = baseNameOf(path);
  std::string_view stem = name.substr(0, endingOf(name));
  std::string_view ending = name.substr(stem.size());
  std::string middle = std::string(MARK) + dateOf(time) + "-" + cleaned(host);
  for (unsigned number = 1;; ++number) {
    std::string tail = middle + (number == 1 ? "" : "-" + std::to_string(number)) + std::string(ending);
    std::string candidate(shortened(stem, MAX_NAME_BYTES - tail.size()));
    std::string whole = joinPath(parentOf(path), candidate + tail);
    if (!isTaken || !isTaken(whole)) return whole;
  }
}

bool isConflictName(std::string_view path) {
  std::string_view name = baseNameOf(path);
  for (size_t at = name.find(MARK); at != std::string_view::npos; at = name.find(MARK, at + 1)) {
    std::string_view rest = name.substr(at + MARK.size());
    if (at > 0 && rest.size() > DATE_BYTES + 1 && isDate(rest.substr(0, DATE_BYTES)) && rest[DATE_BYTES] == '-') {
      return true;
    }
  }
  return false;
}

}  // namespace capstan::sync
