// The order of lines: what of a line is its key, the 64 bits of it that are sorted first, and how lines are told apart
// whose 64 bits are the same. Keys are made so that a smaller one always comes first, also when descending.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

#include <capstan/base/number.h>
#include <capstan/server/compute/sort/sort.h>

namespace capstan::server::compute {

// Bytes that may be read, though not used, behind the end of a text that a LineOrder is given.
inline constexpr size_t TEXT_SLACK = 8;

class LineOrder {
 public:
  // `type` is what the keys are.
  LineOrder(ElementType type, const SortOptions& options)
      : type(type),
        descending(options.descending),
        unique(options.unique),
        field(options.field),
        separator(options.separator),
        flip(options.descending ? ~uint64_t(0) : 0) {}

  const ElementType type;
  const bool descending;
  const bool unique;
  const uint32_t field;
  const std::optional<char> separator;

  // Lines with equal keys may still differ, and that counts.
  bool ordersTies() const { return !unique && (type != ElementType::TEXT || field != 0); }

  // The field, or all of the line, which comes without its newline.
  std::string_view keyText(std::string_view line) const { return field == 0 ? line : fieldOf(line); }

  // Nothing if the key is no number, but should be one.
  std::optional<uint64_t> key(std::string_view line) const;

  // Of an int, and back. As key() for a number alone on its line.
  uint64_t keyOfInt(int64_t value) const { return (uint64_t(value) ^ SIGN) ^ flip; }
  int64_t intOfKey(uint64_t key) const { return int64_t((key ^ flip) ^ SIGN); }

  // Eight bytes of text from `depth` on, filled up with zeros; for texts that are the same before `depth`.
  uint64_t prefix(std::string_view text, size_t depth) const {
    size_t left = text.size() - depth;
    if (text.size() <= depth) return flip;
    uint64_t bytes;
    memcpy(&bytes, text.data() + depth, sizeof(bytes));
    bytes = __builtin_bswap64(bytes);
    if (left < 8) bytes &= ~(~uint64_t(0) >> (8 * left));
    return bytes ^ flip;
  }

  // Of texts that are the same before `depth`; negative, zero or positive, in the order that is wanted.
  int compareTexts(std::string_view a, std::string_view b, size_t depth) const {
    int order = a.substr(depth).compare(b.substr(depth));
    return descending ? -order : order;
  }
  // Of whole lines whose key()s are the same. Zero: `unique` keeps one of them, or they are the same.
  int compareTies(std::string_view a, std::string_view b) const {
    if (type == ElementType::TEXT) {
      int order = compareTexts(keyText(a), keyText(b), 0);
      if (order != 0 || !ordersTies()) return order;
    }
    return ordersTies() ? compareTexts(a, b, 0) : 0;
  }

 private:
  static constexpr uint64_t SIGN = uint64_t(1) << 63;
  const uint64_t flip;

  std::string_view fieldOf(std::string_view line) const;
};

// The int at `at`, written as formatInt() writes it, up to its newline; `at` is moved behind that. False, and `at` as
// it was, if there is something else. What is read has to end in a newline.
inline bool takeCanonicalInt(const char*& at, int64_t& value) {
  const char* c = at;
  bool negative = *c == '-';
  c += negative;
  const char* digits = c;
  uint64_t sum = 0;
  for (unsigned digit; (digit = unsigned(*c) - '0') < 10; ++c) sum = sum * 10 + digit;
  size_t length = size_t(c - digits);
  if (*c != '\n' || length == 0 || length > 19) return false;
  if (*digits == '0' && (length > 1 || negative)) return false;
  if (sum > uint64_t(INT64_MAX) + negative) return false;
  value = int64_t(negative ? -sum : sum);
  at = c + 1;
  return true;
}

}  // namespace capstan::server::compute
