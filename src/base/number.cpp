#include <capstan/base/number.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

namespace capstan {
namespace {

bool isBlank(char c) { return c == ' ' || c == '\t' || c == '\r'; }
bool isDigit(char c) { return unsigned(c - '0') < 10; }

std::string_view withoutBlanks(std::string_view text) {
  while (!text.empty() && isBlank(text.front())) text.remove_prefix(1);
  while (!text.empty() && isBlank(text.back())) text.remove_suffix(1);
  return text;
}

struct Signed {
  bool negative;
  std::string_view rest;
};

Signed splitSign(std::string_view text) {
  if (text.empty() || (text.front() != '-' && text.front() != '+')) return {false, text};
  return {text.front() == '-', text.substr(1)};
}

bool allDigits(std::string_view text) {
  for (char c : text) {
    if (!isDigit(c)) return false;
  }
  return !text.empty();
}

// `lower` is in lower case.
bool equalsIgnoringCase(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((text[i] | 0x20) != lower[i]) return false;
  }
  return true;
}

std::optional<double> parseName(std::string_view text) {
  if (equalsIgnoringCase(text, "nan")) return std::numeric_limits<double>::quiet_NaN();
  if (equalsIgnoringCase(text, "inf") || equalsIgnoringCase(text, "infinity")) {
    return std::numeric_limits<double>::infinity();
  }
  return std::nullopt;
}

// The exponent of `text`, which is digits with a sign at most, held within what no text in memory can make up for.
int64_t clampedExponent(std::string_view text) {
  constexpr int64_t FAR = int64_t(1) << 60;
  auto [negative, digits] = splitSign(text);
  int64_t value = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || value > FAR) value = FAR;
  return negative ? -value : value;
}

// For digits with point and exponent that are out of a double's range: whether because they are too large. Decided by
// the decimal place of the first digit that is not zero.
bool isTooLarge(std::string_view text) {
  size_t exponentAt = text.find_first_of("eE");
  std::string_view mantissa = text.substr(0, exponentAt);
  int64_t exponent = exponentAt == std::string_view::npos ? 0 : clampedExponent(text.substr(exponentAt + 1));
  size_t point = std::min(mantissa.find('.'), mantissa.size());
  size_t first = mantissa.find_first_not_of("0.");
  if (first == std::string_view::npos) return false;
  int64_t place = first < point ? int64_t(point - first) : -int64_t(first - point - 1);
  return place + exponent > 0;
}

}  // namespace

std::optional<int64_t> parseInt(std::string_view text) {
  text = withoutBlanks(text);
  auto [negative, digits] = splitSign(text);
  if (digits.empty()) return std::nullopt;
  // 18 digits always fit. Most numbers are so short, and this is faster than checking each step.
  if (digits.size() <= 18) {
    int64_t value = 0;
    for (char c : digits) {
      if (!isDigit(c)) return std::nullopt;
      value = value * 10 + (c - '0');
    }
    return negative ? -value : value;
  }
  if (!isDigit(digits.front())) return std::nullopt;  // from_chars takes a '-' of its own
  int64_t value;
  const char* begin = negative ? text.data() : digits.data();
  const char* end = digits.data() + digits.size();
  auto [stopped, error] = std::from_chars(begin, end, value);
  if (error != std::errc() || stopped != end) return std::nullopt;
  return value;
}

bool isInteger(std::string_view text) { return allDigits(splitSign(withoutBlanks(text)).rest); }

std::optional<double> parseFloat(std::string_view text) {
  auto [negative, rest] = splitSign(withoutBlanks(text));
  if (rest.empty()) return std::nullopt;
  double value;
  if (isDigit(rest.front()) || rest.front() == '.') {
    const char* end = rest.data() + rest.size();
    auto [stopped, error] = std::from_chars(rest.data(), end, value);
    if (stopped != end) return std::nullopt;
    if (error == std::errc::result_out_of_range) {
      value = isTooLarge(rest) ? std::numeric_limits<double>::infinity() : 0.0;
    } else if (error != std::errc()) {
      return std::nullopt;
    }
  } else {
    std::optional<double> named = parseName(rest);
    if (!named) return std::nullopt;
    value = *named;
  }
  return negative ? -value : value;
}

std::optional<Number> parseNumber(std::string_view text) {
  if (isInteger(text)) {
    if (std::optional<int64_t> value = parseInt(text)) return Number(*value);
    return std::nullopt;
  }
  if (std::optional<double> value = parseFloat(text)) return Number(*value);
  return std::nullopt;
}

bool isCanonicalInt(std::string_view text) {
  bool negative = !text.empty() && text.front() == '-';
  std::string_view digits = text.substr(negative ? 1 : 0);
  if (!allDigits(digits)) return false;
  if (digits.front() == '0') return digits.size() == 1 && !negative;
  return digits.size() <= 18 || parseInt(text).has_value();
}

char* formatInt(int64_t value, char* to) { return std::to_chars(to, to + MAX_INT_TEXT, value).ptr; }

char* formatFloat(double value, char* to) {
  auto put = [to](std::string_view text) { return static_cast<char*>(mempcpy(to, text.data(), text.size())); };
  if (std::isnan(value)) return put("nan");  // the sign of a NaN means nothing, and to_chars would write it
  if (std::isinf(value)) return put(value < 0 ? "-inf" : "inf");
  double magnitude = std::abs(value);
  bool plain = value == 0 || (magnitude >= 1e-4 && magnitude < 1e16);
  auto format = plain ? std::chars_format::fixed : std::chars_format::scientific;
  char* end = std::to_chars(to, to + MAX_FLOAT_TEXT - 2, value, format).ptr;
  for (const char* c = to; c != end; ++c) {
    if (*c == '.' || *c == 'e') return end;
  }
  *end++ = '.';
  *end++ = '0';
  return end;
}

std::string formatNumber(const Number& value) {
  char buffer[MAX_FLOAT_TEXT];
  char* end = std::holds_alternative<int64_t>(value) ? formatInt(std::get<int64_t>(value), buffer)
                                                     : formatFloat(std::get<double>(value), buffer);
  return std::string(buffer, size_t(end - buffer));
}

std::string_view name(ElementType type) {
  switch (type) {
    case ElementType::UNSET: return "unset";
    case ElementType::INT: return "int";
    case ElementType::FLOAT: return "float";
    case ElementType::TEXT: return "text";
  }
  return "unknown";
}

std::string_view name(Encoding encoding) {
  switch (encoding) {
    case Encoding::UNSET: return "unset";
    case Encoding::LINES: return "lines";
    case Encoding::BINARY: return "binary";
  }
  return "unknown";
}

std::optional<ElementType> parseElementType(std::string_view text) {
  for (ElementType type : {ElementType::INT, ElementType::FLOAT, ElementType::TEXT}) {
    if (text == name(type)) return type;
  }
  return std::nullopt;
}

}  // namespace capstan
