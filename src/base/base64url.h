// Base64 with the alphabet for URLs and without padding (RFC 4648, section 5), as invites and fingerprints are written.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace capstan {

std::string toBase64Url(std::string_view bytes);
// Nothing if it is not such a text. Strict: each sequence of bytes has one text only, without padding or white space.
std::optional<std::string> fromBase64Url(std::string_view text);

}  // namespace capstan
