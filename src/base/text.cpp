#include <capstan/base/text.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <limits>

namespace capstan {

namespace {

// Length of the UTF-8 sequence at the beginning of `bytes`, or 0 if there is none (RFC 3629, table in section 4).
size_t utf8Length(std::string_view bytes) {
  auto at = [&](size_t i) { return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0u; };
  auto within = [&](size_t i, unsigned low, unsigned high) { return at(i) >= low && at(i) <= high; };
  auto tail = [&](size_t i) { return within(i, 0x80, 0xbf); };
  unsigned first = at(0);
  if (bytes.empty()) return 0;
  if (first < 0x80) return 1;
  if (within(0, 0xc2, 0xdf)) return tail(1) ? 2 : 0;
  if (first == 0xe0) return within(1, 0xa0, 0xbf) && tail(2) ? 3 : 0;
  if (first == 0xed) return within(1, 0x80, 0x9f) && tail(2) ? 3 : 0;
  if (within(0, 0xe1, 0xef)) return tail(1) && tail(2) ? 3 : 0;
  if (first == 0xf0) return within(1, 0x90, 0xbf) && tail(2) && tail(3) ? 4 : 0;
  if (within(0, 0xf1, 0xf3)) return tail(1) && tail(2) && tail(3) ? 4 : 0;
  if (first == 0xf4) return within(1, 0x80, 0x8f) && tail(2) && tail(3) ? 4 : 0;
  return 0;
}

// U+0080 to U+009F: control characters that some terminals obey.
bool isC1(std::string_view bytes, size_t length) {
  return length == 2 && bytes[0] == '\xc2' && static_cast<unsigned char>(bytes[1]) < 0xa0;
}

// The number of a character of two or three bytes; 0 for others.
unsigned codePointOf(std::string_view character) {
  auto bits = [&](size_t i) { return static_cast<unsigned char>(character[i]) & 0x3fu; };
  if (character.size() == 2) return (static_cast<unsigned char>(character[0]) & 0x1fu) << 6 | bits(1);
  if (character.size() == 3) return (static_cast<unsigned char>(character[0]) & 0x0fu) << 12 | bits(1) << 6 | bits(2);
  return 0;
}

bool isJoiner(unsigned number) { return number == 0x200c || number == 0x200d; }

bool turnsOrHides(unsigned number) {
  return number == 0x61c || (number >= 0x200b && number <= 0x200f) || (number >= 0x2028 && number <= 0x202e) ||
         (number >= 0x2060 && number <= 0x206f) || number == 0xfeff;
}

// Whether there is a whole character beyond ASCII that begins at `at` and is shown as it is, whatever stands beside it.
bool isShownAt(std::string_view text, size_t at) {
  auto rest = text.substr(std::min(at, text.size()));
  size_t length = utf8Length(rest);
  return length > 1 && !isC1(rest, length) && !turnsOrHides(codePointOf(rest.substr(0, length)));
}

bool isShownBefore(std::string_view text, size_t at) {
  for (size_t length = 2; length <= 4 && length <= at; ++length) {
    if (utf8Length(text.substr(at - length, length)) == length) return isShownAt(text, at - length);
  }
  return false;
}

// Whether the character at `at` would show a name as another one: it turns the direction of text (U+061C, U+200E,
// U+200F, U+202A to U+202E, U+2066 to U+2069), ends lines (U+2028, U+2029), or takes no room (U+200B to U+200D, U+2060
// to U+206F, U+FEFF). The joiners U+200C and U+200D may stay between two characters beyond ASCII that stay too: words
// of some scripts and many emoji are written with them.
bool isDeceptive(std::string_view text, size_t at, size_t length) {
  unsigned number = codePointOf(text.substr(at, length));
  if (isJoiner(number)) return !isShownBefore(text, at) || !isShownAt(text, at + length);
  return turnsOrHides(number);
}

constexpr char HEX[] = "0123456789abcdef";

void appendHexByte(std::string& to, std::string_view prefix, unsigned char byte) {
  to += prefix;
  to += HEX[byte >> 4];
  to += HEX[byte & 15];
}

int hexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The decimal number at the beginning of `text` ("1", "1.5"), which is cut off; nothing if there is none.
std::optional<double> takeNumber(std::string_view& text) {
  double number = 0;
  auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (problem != std::errc() || std::signbit(number) || !std::isfinite(number)) return std::nullopt;
  text.remove_prefix(end - text.data());
  return number;
}

std::optional<uint64_t> scaled(double number, double factor) {
  double result = number * factor;
  if (result >= 9.2e18) return std::nullopt;
  return static_cast<uint64_t>(std::llround(result));
}

std::string lowerCase(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
  }
  return result;
}

template <typename... Args>
std::string formatted(const char* format, Args... args) {
  std::array<char, 96> buffer;
  int length = snprintf(buffer.data(), buffer.size(), format, args...);
  return std::string(buffer.data(), size_t(length));
}

}  // namespace

bool isUtf8(std::string_view bytes) {
  while (!bytes.empty()) {
    size_t length = utf8Length(bytes);
    if (length == 0) return false;
    bytes.remove_prefix(length);
  }
  return true;
}

std::string escapeForTerminal(std::string_view bytes) {
  std::string result;
  result.reserve(bytes.size());
  const std::string_view whole = bytes;
  while (!bytes.empty()) {
    auto first = static_cast<unsigned char>(bytes[0]);
    size_t length = utf8Length(bytes);
    bool hidden = isC1(bytes, length) || isDeceptive(whole, whole.size() - bytes.size(), length);
    if (length == 0 || hidden || first < 0x20 || first == 0x7f || first == '\\') {
      if (!hidden) length = 1;
      if (first == '\n') {
        result += "\\n";
      } else if (first == '\t') {
        result += "\\t";
      } else if (first == '\\') {
        result += "\\\\";
      } else {
        for (char c : bytes.substr(0, length)) appendHexByte(result, "\\x", static_cast<unsigned char>(c));
      }
    } else {
      result += bytes.substr(0, length);
    }
    bytes.remove_prefix(length);
  }
  return result;
}

std::string escapeForJson(std::string_view bytes) {
  std::string result;
  result.reserve(bytes.size());
  const std::string_view whole = bytes;
  while (!bytes.empty()) {
    auto first = static_cast<unsigned char>(bytes[0]);
    size_t length = utf8Length(bytes);
    if (length == 0) {
      appendHexByte(result, "\\udc", first);
      length = 1;
    } else if (first == '"' || first == '\\') {
      result += '\\';
      result += bytes[0];
    } else if (first == '\n') {
      result += "\\n";
    } else if (first == '\t') {
      result += "\\t";
    } else if (first == '\r') {
      result += "\\r";
    } else if (first < 0x20 || first == 0x7f) {
      appendHexByte(result, "\\u00", first);
    } else if (isC1(bytes, length)) {
      appendHexByte(result, "\\u00", static_cast<unsigned char>(bytes[1]));
    } else if (isDeceptive(whole, whole.size() - bytes.size(), length)) {
      unsigned number = codePointOf(bytes.substr(0, length));
      appendHexByte(result, "\\u", static_cast<unsigned char>(number >> 8));
      appendHexByte(result, {}, static_cast<unsigned char>(number & 0xff));
    } else {
      result += bytes.substr(0, length);
    }
    bytes.remove_prefix(length);
  }
  return result;
}

std::string toHex(std::string_view bytes) {
  std::string result;
  result.reserve(bytes.size() * 2);
  for (char c : bytes) appendHexByte(result, {}, static_cast<unsigned char>(c));
  return result;
}

std::optional<std::string> fromHex(std::string_view hex) {
  if (hex.size() % 2 != 0) return std::nullopt;
  std::string result;
  result.reserve(hex.size() / 2);
  for (size_t i = 0; i < hex.size(); i += 2) {
    int high = hexValue(hex[i]), low = hexValue(hex[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    result += static_cast<char>(high * 16 + low);
  }
  return result;
}

std::optional<uint64_t> parseSize(std::string_view text) {
  auto number = takeNumber(text);
  if (!number) return std::nullopt;
  std::string unit = lowerCase(text);
  if (unit.empty() || unit == "b") return scaled(*number, 1);
  static constexpr std::string_view LETTERS = "kmgt";
  size_t power = LETTERS.find(unit[0]);
  if (power == std::string_view::npos) return std::nullopt;
  std::string_view rest = std::string_view(unit).substr(1);
  if (rest.empty() || rest == "ib") return scaled(*number, std::pow(1024.0, power + 1.0));
  if (rest == "b") return scaled(*number, std::pow(1000.0, power + 1.0));
  return std::nullopt;
}

std::optional<uint64_t> parseDuration(std::string_view text) {
  auto number = takeNumber(text);
  if (!number) return std::nullopt;
  constexpr double SECOND = 1e9;
  if (text == "ns") return scaled(*number, 1);
  if (text == "us") return scaled(*number, 1e3);
  if (text == "ms") return scaled(*number, 1e6);
  if (text.empty() || text == "s") return scaled(*number, SECOND);
  if (text == "m") return scaled(*number, 60 * SECOND);
  if (text == "h") return scaled(*number, 3600 * SECOND);
  if (text == "d") return scaled(*number, 86400 * SECOND);
  return std::nullopt;
}

std::string formatSize(uint64_t bytes) {
  if (bytes < 1024) return formatted("%llu B", static_cast<unsigned long long>(bytes));
  static constexpr const char* UNITS[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = double(bytes) / 1024;
  size_t unit = 0;
  while (value >= 999.95 && unit + 1 < std::size(UNITS)) {
    value /= 1024;
    ++unit;
  }
  return formatted(value < 99.95 ? "%.1f %s" : "%.0f %s", value, UNITS[unit]);
}

std::string formatDuration(uint64_t nanoseconds) {
  if (nanoseconds < 1'000'000'000) return formatted("%.1f ms", double(nanoseconds) / 1e6);
  auto seconds = static_cast<unsigned long long>(nanoseconds / 1'000'000'000);
  auto tenths = static_cast<unsigned long long>(nanoseconds / 100'000'000 % 10);
  if (seconds < 60 && tenths != 0) return formatted("%llu.%llu s", seconds, tenths);
  if (seconds < 60) return formatted("%llu s", seconds);
  if (seconds < 3600) return formatted("%llu:%02llu", seconds / 60, seconds % 60);
  std::string clock = formatted("%llu:%02llu:%02llu", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
  return seconds < 86400 ? clock : formatted("%llu d ", seconds / 86400) + clock;
}

std::string formatTime(int64_t nanosecondsSinceEpoch) {
  constexpr int64_t BILLION = 1'000'000'000;
  int64_t fraction = nanosecondsSinceEpoch % BILLION;
  time_t seconds = nanosecondsSinceEpoch / BILLION;
  if (fraction < 0) {
    fraction += BILLION;
    --seconds;
  }
  tm parts{};
  gmtime_r(&seconds, &parts);
  return formatted("%04d-%02d-%02dT%02d:%02d:%02d.%09lldZ", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                   parts.tm_hour, parts.tm_min, parts.tm_sec, static_cast<long long>(fraction));
}

}  // namespace capstan
