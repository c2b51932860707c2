// The one sentence for a line that is not the number that it should be, wherever such lines are read.
#pragma once

#include <string>
#include <string_view>

#include <capstan/base/error.h>
#include <capstan/base/number.h>
#include <capstan/base/text.h>

namespace capstan::server::compute {

// Of a line's text, so many bytes are shown at most.
inline constexpr size_t SHOWN_LINE_BYTES = 40;

// `invalidArgument`: "numbers.txt, line 17 is not an integer: "abc"". `source` is the raw name of what is read, or
// empty; `line` counts from 1; `type` is INT or FLOAT; `text` is what should have been the number.
inline Error lineError(std::string_view source, uint64_t line, std::string_view text, ElementType type) {
  std::string sentence = source.empty() ? "" : escapeForTerminal(source) + ", ";
  sentence += "line " + std::to_string(line);
  if (type == ElementType::FLOAT) {
    sentence += " is not a number: \"";
  } else {
    sentence += isInteger(text) ? " does not fit in 64 bits: \"" : " is not an integer: \"";
  }
  if (text.ends_with('\r')) text.remove_suffix(1);  // the line's end is not what is wrong with it
  size_t shown = text.size();
  if (shown > SHOWN_LINE_BYTES) {
    shown = SHOWN_LINE_BYTES;
    while (shown > SHOWN_LINE_BYTES - 3 && (text[shown] & 0xc0) == 0x80) --shown;  // not within a character
  }
  sentence += escapeForTerminal(text.substr(0, shown));
  sentence += shown < text.size() ? "...\"" : "\"";
  return {ErrorCode::INVALID_ARGUMENT, std::move(sentence), std::string(source)};
}

}  // namespace capstan::server::compute
