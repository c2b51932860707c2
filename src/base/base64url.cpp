#include <capstan/base/base64url.h>

#include <cstdint>

namespace capstan {

namespace {

constexpr std::string_view ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr unsigned DIGIT_BITS = 6;

}  // namespace

std::string toBase64Url(std::string_view bytes) {
  std::string text;
  uint32_t bits = 0;
  unsigned count = 0;  // of the bits that are not written yet
  for (char byte : bytes) {
    bits = bits << 8 | uint8_t(byte);
    for (count += 8; count >= DIGIT_BITS; count -= DIGIT_BITS) text += ALPHABET[bits >> (count - DIGIT_BITS) & 63];
  }
  if (count > 0) text += ALPHABET[bits << (DIGIT_BITS - count) & 63];
  return text;
}

std::optional<std::string> fromBase64Url(std::string_view text) {
  if (text.size() % 4 == 1) return std::nullopt;
  std::string bytes;
  uint32_t bits = 0;
  unsigned count = 0;
  for (char digit : text) {
    size_t value = ALPHABET.find(digit);
    if (value == std::string_view::npos) return std::nullopt;
    bits = bits << DIGIT_BITS | uint32_t(value);
    count += DIGIT_BITS;
    if (count >= 8) {
      count -= 8;
      bytes += char(bits >> count & 0xff);
    }
  }
  bool leftOver = (bits & ((1u << count) - 1)) != 0;  // bits that no encoder sets
  return leftOver ? std::nullopt : std::optional(std::move(bytes));
}

}  // namespace capstan
