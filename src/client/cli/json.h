// A small writer of JSON text. Own, because names of files are bytes: what is not UTF-8 has to become lone surrogates
// (\udcXX), which common libraries refuse to write. Pure.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace capstan::cli {

// Writes one document, without spaces or newlines. The caller keeps the order: key() before each value inside an
// object.
class JsonWriter {
 public:
  JsonWriter& beginObject();
  JsonWriter& endObject();
  JsonWriter& beginArray();
  JsonWriter& endArray();
  JsonWriter& key(std::string_view name);

  JsonWriter& value(std::string_view bytes);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(bool truth);
  JsonWriter& value(double number);  // what JSON cannot write (NaN, infinity) becomes null
  JsonWriter& value(std::unsigned_integral auto number) { return raw(std::to_string(number)); }
  JsonWriter& value(std::signed_integral auto number) { return raw(std::to_string(number)); }
  JsonWriter& null();
  // A finished JSON value.
  JsonWriter& raw(std::string_view json);

  template <typename T>
  JsonWriter& field(std::string_view name, T&& content) {
    key(name);
    return value(std::forward<T>(content));
  }

  const std::string& text() const { return out; }

 private:
  std::string out;
  bool needsComma = false;

  void beforeValue();
};

}  // namespace capstan::cli
