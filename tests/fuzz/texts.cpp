// The small readers of text: numbers, sizes, durations, hexadecimal, addresses, paths, configuration, lines of
// the shell, names of conflict copies; and escaping, which every log line and error goes through. What is read and
// written again is the same, and what is escaped holds nothing to be escaped. The first byte chooses the reader.
#include <bit>
#include <cmath>

#include <capstan/base/number.h>
#include <capstan/base/path.h>
#include <capstan/base/text.h>
#include <capstan/client/cli/config.h>
#include <capstan/client/cli/words.h>
#include <capstan/rpc/address.h>
#include <capstan/sync/conflict-name.h>

#include "fuzz.h"

namespace capstan::fuzz {
namespace {

// What is shown to people.
void checkShown(std::string_view text) {
  FUZZ_CHECK(isUtf8(text));
  for (size_t i = 0; i < text.size(); ++i) {
    auto c = static_cast<unsigned char>(text[i]);
    FUZZ_CHECK(c >= 0x20 && c != 0x7f);
    bool isC1 = c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    FUZZ_CHECK(!isC1);
  }
}

void checkError(const Error& error) {
  FUZZ_CHECK(error.code != ErrorCode::UNSET && !error.message.empty());
  checkShown(error.message);
}

void numbers(std::string_view text) {
  if (auto value = parseInt(text)) {
    FUZZ_CHECK(isInteger(text));
    FUZZ_CHECK(parseFloat(text) == double(*value));
    char buffer[MAX_INT_TEXT];
    std::string_view written(buffer, size_t(formatInt(*value, buffer) - buffer));
    FUZZ_CHECK(parseInt(written) == value && isCanonicalInt(written));
    if (isCanonicalInt(text)) FUZZ_CHECK(written == text);
  } else {
    FUZZ_CHECK(!isCanonicalInt(text));
  }
  if (auto value = parseFloat(text)) {
    char buffer[MAX_FLOAT_TEXT];
    std::string_view written(buffer, size_t(formatFloat(*value, buffer) - buffer));
    auto again = parseFloat(written);
    FUZZ_CHECK(again.has_value());
    bool isSame =
        std::isnan(*value) ? std::isnan(*again) : std::bit_cast<uint64_t>(*value) == std::bit_cast<uint64_t>(*again);
    FUZZ_CHECK(isSame && !parseInt(written));
  } else {
    FUZZ_CHECK(!isInteger(text));
  }
  if (auto number = parseNumber(text)) {
    auto again = parseNumber(formatNumber(*number));
    FUZZ_CHECK(again && again->index() == number->index());
  }
}

void sizes(std::string_view text) {
  auto size = parseSize(text);
  if (size) {
    FUZZ_CHECK(*size <= INT64_MAX);
    FUZZ_CHECK(parseSize(std::to_string(*size)).has_value());
    checkShown(formatSize(*size));
  }
  auto duration = parseDuration(text);
  if (duration) {
    FUZZ_CHECK(*duration <= INT64_MAX);
    checkShown(formatDuration(*duration));
  }
  Choices choices(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  uint64_t any = choices.number();
  checkShown(formatSize(any));
  checkShown(formatDuration(any));
  checkShown(formatTime(int64_t(any)));
}

void escaping(std::string_view bytes) {
  std::string shown = escapeForTerminal(bytes);
  FUZZ_CHECK(shown.size() <= bytes.size() * 4);
  checkShown(shown);
  std::string json = escapeForJson(bytes);
  checkShown(json);
  for (size_t i = 0; i < json.size(); ++i) {
    FUZZ_CHECK(json[i] != '"');
    if (json[i] == '\\') FUZZ_CHECK(++i < json.size());
  }
  FUZZ_CHECK(fromHex(toHex(bytes)) == bytes);
}

void addresses(std::string_view text) {
  auto address = rpc::parseAddress(text);
  if (!address.ok()) return checkError(address.error());
  auto again = rpc::parseAddress(address->toString());
  FUZZ_CHECK(again.ok() && *again == *address);
  if (address->kind == rpc::Address::Kind::TCP) {
    checkShown(address->host);
    // 127.0.0.1.evil.example and the like are not this machine.
    if (address->isLoopback())
      FUZZ_CHECK(strcasecmp(address->host.c_str(), "localhost") == 0 ||
                 address->host.find_first_not_of("0123456789.:") == std::string::npos);
  }
}

void paths(std::string_view text) {
  std::string_view a = text.substr(0, text.find('\xff'));
  std::string_view b = a.size() < text.size() ? text.substr(a.size() + 1) : std::string_view();
  Status valid = validatePath(a);
  if (!valid.ok()) {
    checkError(valid.error());
    FUZZ_CHECK(valid.error().code == ErrorCode::INVALID_PATH);
    return;
  }
  FUZZ_CHECK(a.size() <= MAX_PATH_BYTES && a.find('\0') == a.npos);
  std::string joined;
  for (std::string_view name : splitPath(a)) {
    FUZZ_CHECK(!name.empty() && name != "." && name != ".." && name.size() <= MAX_NAME_BYTES);
    FUZZ_CHECK(name.find('/') == name.npos);
    joined = joinPath(joined, name);
  }
  FUZZ_CHECK(joined == a);
  FUZZ_CHECK(joinPath(parentOf(a), baseNameOf(a)) == a && isWithin(a, parentOf(a)));
  FUZZ_CHECK(isReserved(a) == (!splitPath(a).empty() && splitPath(a)[0] == STATE_FOLDER));
  if (!validatePath(b).ok()) return;
  int order = comparePaths(a, b);
  FUZZ_CHECK((order == 0) == (a == b) && (order < 0) == (comparePaths(b, a) > 0));
  if (isWithin(b, a) && a != b) FUZZ_CHECK(order < 0);
  auto namesOfA = splitPath(a), namesOfB = splitPath(b);
  FUZZ_CHECK((order < 0) == (namesOfA < namesOfB));
}

void config(std::string_view text) {
  auto config = cli::parseConfig(text, "some\nfile", "/folder", "/home/x");
  if (!config.ok()) return checkError(config.error());
  for (auto& [name, remote] : config->remotes) FUZZ_CHECK(!remote.server.empty());
  if (config->timeout) FUZZ_CHECK(*config->timeout <= INT64_MAX);
}

void shellLines(std::string_view text) {
  auto line = cli::splitLine(text);
  if (!line.ok()) return checkError(line.error());
  std::string again;
  for (auto& word : line->words) again += (word.empty() ? "''" : cli::quoted(word)) + " ";
  auto second = cli::splitLine(again);
  FUZZ_CHECK(second.ok() && second->words == line->words && !second->background);
  auto partial = cli::lastWord(text);
  FUZZ_CHECK(partial.begin <= text.size());
}

void conflictNames(std::string_view text) {
  Choices choices(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  auto time = int64_t(choices.number());
  std::string host(choices.bytes(choices.below(80)));
  unsigned taken = choices.below(3);
  std::string_view path = choices.all();
  if (path.empty() || !validatePath(path).ok()) return;
  auto isTaken = [&](std::string_view) { return taken-- > 0; };
  std::string name = sync::conflictPath(path, time, host, isTaken);
  FUZZ_CHECK(parentOf(name) == parentOf(path) && name != path);
  if (name.size() <= MAX_PATH_BYTES) FUZZ_CHECK(validatePath(name).ok());
  FUZZ_CHECK(sync::isConflictName(name));
}

}  // namespace
}  // namespace capstan::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace capstan::fuzz;
  constexpr void (*READERS[])(std::string_view) = {numbers, sizes,  escaping,   addresses,
                                                   paths,   config, shellLines, conflictNames};
  if (size == 0) return 0;
  // In memory of its own, so that a byte too far is noticed.
  std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  READERS[data[0] % std::size(READERS)](std::string_view(text.data(), text.size()));
  return 0;
}
