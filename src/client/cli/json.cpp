#include <capstan/client/cli/json.h>

#include <array>
#include <charconv>
#include <cmath>

#include <capstan/base/text.h>

namespace capstan::cli {

void JsonWriter::beforeValue() {
  if (needsComma) out += ',';
  needsComma = true;
}

JsonWriter& JsonWriter::beginObject() {
  beforeValue();
  out += '{';
  needsComma = false;
  return *this;
}

JsonWriter& JsonWriter::endObject() {
  out += '}';
  needsComma = true;
  return *this;
}

JsonWriter& JsonWriter::beginArray() {
  beforeValue();
  out += '[';
  needsComma = false;
  return *this;
}

JsonWriter& JsonWriter::endArray() {
  out += ']';
  needsComma = true;
  return *this;
}

JsonWriter& JsonWriter::key(std::string_view name) {
  value(name);
  out += ':';
  needsComma = false;
  return *this;
}

JsonWriter& JsonWriter::value(std::string_view bytes) {
  beforeValue();
  out += '"';
  out += escapeForJson(bytes);
  out += '"';
  return *this;
}

JsonWriter& JsonWriter::value(bool truth) { return raw(truth ? "true" : "false"); }

JsonWriter& JsonWriter::value(double number) {
  if (!std::isfinite(number)) return null();
  std::array<char, 32> buffer;
  auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number).ptr;
  return raw(std::string_view(buffer.data(), end - buffer.data()));
}

JsonWriter& JsonWriter::null() { return raw("null"); }

JsonWriter& JsonWriter::raw(std::string_view json) {
  beforeValue();
  out += json;
  return *this;
}

}  // namespace capstan::cli
