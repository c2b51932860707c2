#include <capstan/server/compute/convert.h>

#include <cstring>

#include <capstan/base/text.h>

namespace capstan::server::compute {

namespace {

constexpr size_t SHOWN_BYTES = 40;

template <typename T>
void appendBytes(std::string& to, T value) {
  char bytes[sizeof(T)];
  memcpy(bytes, &value, sizeof(T));
  to.append(bytes, sizeof(T));
}

Error notANumber(std::string_view line, std::string_view what) {
  return {ErrorCode::INVALID_ARGUMENT,
          "\"" + escapeForTerminal(line.substr(0, SHOWN_BYTES)) + "\" is not " + std::string(what),
          {}};
}

}  // namespace

Status appendBinary(std::string& to, ElementType type, std::string_view line) {
  if (type == ElementType::INT) {
    auto value = parseInt(line);
    if (!value) return notANumber(line, "an integer");
    appendBytes(to, *value);
  } else {
    auto value = parseFloat(line);
    if (!value) return notANumber(line, "a number");
    appendBytes(to, *value);
  }
  return okStatus();
}

void appendLines(std::string& to, ElementType type, std::string_view binary) {
  for (; binary.size() >= BINARY_ELEMENT_BYTES; binary.remove_prefix(BINARY_ELEMENT_BYTES)) {
    char text[MAX_FLOAT_TEXT + 1];
    char* end;
    if (type == ElementType::INT) {
      int64_t value;
      memcpy(&value, binary.data(), sizeof(value));
      end = formatInt(value, text);
    } else {
      double value;
      memcpy(&value, binary.data(), sizeof(value));
      end = formatFloat(value, text);
    }
    *end++ = '\n';
    to.append(text, size_t(end - text));
  }
}

}  // namespace capstan::server::compute
