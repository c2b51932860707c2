// Elements from one encoding to the other, a piece at a time. Pure.
#pragma once

#include <string>
#include <string_view>

#include <capstan/base/error.h>
#include <capstan/base/number.h>

namespace capstan::server::compute {

// Appends the number that a line (without newline) holds as 8 bytes. Errors: invalidArgument.
Status appendBinary(std::string& to, ElementType type, std::string_view line);

// Appends each element of `binary` (whole elements) as a line.
void appendLines(std::string& to, ElementType type, std::string_view binary);

}  // namespace capstan::server::compute
