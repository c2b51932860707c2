#include <capstan/server/compute/sort/line-order.h>

#include <limits>

#include <capstan/server/compute/sort/sort-kernel.h>

namespace capstan::server::compute {

namespace {

bool isBlank(char c) { return c == ' ' || c == '\t'; }

std::string_view fieldBetweenBlanks(std::string_view line, uint32_t number) {
  size_t at = 0;
  while (true) {
    while (at < line.size() && isBlank(line[at])) ++at;
    size_t begin = at;
    while (at < line.size() && !isBlank(line[at])) ++at;
    if (--number == 0 || at == line.size()) return number == 0 ? line.substr(begin, at - begin) : line.substr(at);
  }
}

std::string_view fieldBetween(std::string_view line, uint32_t number, char separator) {
  size_t begin = 0;
  while (true) {
    size_t end = line.find(separator, begin);
    if (--number == 0) return line.substr(begin, end == std::string_view::npos ? end : end - begin);
    if (end == std::string_view::npos) return line.substr(line.size());
    begin = end + 1;
  }
}

}  // namespace

std::string_view LineOrder::fieldOf(std::string_view line) const {
  return separator ? fieldBetween(line, field, *separator) : fieldBetweenBlanks(line, field);
}

std::optional<uint64_t> LineOrder::key(std::string_view line) const {
  std::string_view text = keyText(line);
  if (type == ElementType::TEXT) return prefix(text, 0);
  if (type == ElementType::INT) {
    std::optional<int64_t> value = parseInt(text);
    if (!value) return std::nullopt;
    return keyOfInt(*value);
  }
  std::optional<double> value = parseFloat(text);
  if (!value) return std::nullopt;
  if (*value != *value) return std::numeric_limits<uint64_t>::max();  // last in either direction
  return (uint64_t(orderedFromDouble(*value == 0 ? 0.0 : *value)) ^ SIGN) ^ flip;
}

}  // namespace capstan::server::compute
