// Numbers as Capstan computes with them, and as people write them: 64-bit integers and IEEE doubles, the types and
// encodings of elements. Pure functions, without locale. Shared by the server's sorting and the client's checking of
// what was typed, so that both take the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace capstan {

// The numbers of the same enums in schema/compute.capnp.
enum class ElementType : uint16_t { UNSET, INT, FLOAT, TEXT };
enum class Encoding : uint16_t { UNSET, LINES, BINARY };

inline constexpr size_t BINARY_ELEMENT_BYTES = 8;

using Number = std::variant<int64_t, double>;

// A decimal integer: blanks (space, tab, CR) around it, an optional sign, digits. Nothing if it is not one, or does not
// fit in 64 bits.
std::optional<int64_t> parseInt(std::string_view text);
// The same with optional point and exponent, and "inf", "infinity", "nan" in any case with an optional sign; rounded
// to nearest, so that what is too large is infinite and what is too small is zero. No hexadecimal.
std::optional<double> parseFloat(std::string_view text);
// Whether it is a decimal integer as parseInt() takes it, but of any size: tells what does not fit from what is none.
bool isInteger(std::string_view text);
// An integer if it looks like one (no point, exponent or name), else a double. Nothing for an integer that does not fit
// in 64 bits: it is not rounded.
std::optional<Number> parseNumber(std::string_view text);

// Whether `text` is how formatInt() writes the integer that it is: no blanks, no '+', no leading zeros, not "-0".
bool isCanonicalInt(std::string_view text);

// Room that each of the following needs at most.
inline constexpr size_t MAX_INT_TEXT = 20;
inline constexpr size_t MAX_FLOAT_TEXT = 32;
// Writes without a terminating NUL; answers the end of what it wrote.
char* formatInt(int64_t value, char* to);
// The fewest digits that read back as the same double: "0.1", "1e+300", "inf", "nan"; whole numbers with a point
// ("3.0"), so that they read back as doubles. With an exponent below 1e-4 and from 1e16 on, as Python has it.
char* formatFloat(double value, char* to);
std::string formatNumber(const Number& value);

// "int", "float", "text"; "lines", "binary".
std::string_view name(ElementType type);
std::string_view name(Encoding encoding);
std::optional<ElementType> parseElementType(std::string_view text);

}  // namespace capstan
