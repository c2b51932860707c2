// Bytes to text and back, for people and for JSON: escaping, sizes, durations, times. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace capstan {

// Fit for a terminal or a log line: valid UTF-8 stays, but control characters (C0, DEL, C1), backslashes, what turns or
// hides text (see text.cpp), and bytes that are not UTF-8 become \n, \t, \\ or \xHH. At most four times as long.
std::string escapeForTerminal(std::string_view bytes);

// The inside of a JSON string, without the quotes, and fit for a terminal: control characters, and what turns or hides
// text, are escaped. Bytes that are not UTF-8 become lone surrogates (\udc80 to \udcff), as Python's "surrogateescape"
// has it, so that names survive a round trip through JSON.
std::string escapeForJson(std::string_view bytes);

// Whether the bytes are UTF-8 (RFC 3629: no surrogates, no overlong forms).
bool isUtf8(std::string_view bytes);

// Lower-case hexadecimal, and back (nothing if it is not an even number of hex digits).
std::string toHex(std::string_view bytes);
std::optional<std::string> fromHex(std::string_view hex);

// "64MiB", "1.5GB", "4096": bytes; units B, KiB MiB GiB TiB (1024) and KB MB GB TB (1000), in any case, K M G T as KiB
// and so on. Nothing if it is not such a text or does not fit in 63 bits.
std::optional<uint64_t> parseSize(std::string_view text);

// "250ms", "4s", "1.5h", "2m", "7d": nanoseconds. Without a unit: seconds. Nothing if it is not such a text.
std::optional<uint64_t> parseDuration(std::string_view text);

// "1.0 KiB", "999 B": at most four significant characters and a unit.
std::string formatSize(uint64_t bytes);

// "0.4 ms", "12 s", "1.5 s", "3:04", "1:02:03", "2 d 3:04:05".
std::string formatDuration(uint64_t nanoseconds);

// RFC 3339 in UTC with nanoseconds: "2026-11-21T09:16:55.000000000Z".
std::string formatTime(int64_t nanosecondsSinceEpoch);

}  // namespace capstan
