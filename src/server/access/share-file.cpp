#include <capstan/server/access/share-file.h>

#include <charconv>
#include <map>
#include <optional>

#include <capstan/base/path.h>
#include <capstan/base/text.h>

namespace capstan::server {

namespace {

constexpr std::string_view FIRST_LINE = "capstan-share 1";
constexpr std::string_view LAST_LINE = "end";
constexpr size_t HASH_BYTES = 32;

// What escapeForTerminal() has made, back to bytes.
std::optional<std::string> unescape(std::string_view text) {
  std::string bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      bytes += text[i];
      continue;
    }
    if (++i == text.size()) return std::nullopt;
    switch (text[i]) {
      case '\\': bytes += '\\'; break;
      case 'n': bytes += '\n'; break;
      case 'r': bytes += '\r'; break;
      case 't': bytes += '\t'; break;
      case 'x': {
        auto byte = fromHex(text.substr(i + 1, 2));
        if (!byte || byte->size() != 1) return std::nullopt;
        bytes += *byte;
        i += 2;
        break;
      }
      default: return std::nullopt;
    }
  }
  return bytes;
}

template <typename Number>
std::optional<Number> numberIn(std::string_view text) {
  Number number{};
  auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem != std::errc() || end != text.data() + text.size() || number < 0) return std::nullopt;
  return number;
}

Error corrupt(std::string_view what) { return {ErrorCode::CORRUPT, "the share's file " + std::string(what), {}}; }

using Lines = std::map<std::string_view, std::string_view>;  // names to what follows them

// All lines between the first one and the last.
Result<Lines> linesOf(std::string_view text) {
  Lines lines;
  bool isFirst = true;
  while (true) {
    size_t end = text.find('\n');
    if (end == std::string_view::npos) return corrupt("was cut off: its line \"end\" is missing");
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (isFirst && line != FIRST_LINE) return corrupt("does not begin with \"capstan-share 1\"");
    if (!isFirst && line == LAST_LINE) break;
    if (!isFirst) {
      size_t space = std::min(line.find(' '), line.size());
      std::string_view name = line.substr(0, space);
      line.remove_prefix(std::min(space + 1, line.size()));
      if (!lines.emplace(name, line).second) {
        return corrupt("has two lines with \"" + escapeForTerminal(name) + "\"");
      }
    }
    isFirst = false;
  }
  if (!text.empty()) return corrupt("goes on after its line \"end\"");
  return lines;
}

// Reads one line after the other; the first one that is missing or makes no sense is remembered.
class Reader {
 public:
  explicit Reader(const Lines& lines) : lines(lines) {}

  template <typename Read>
  auto line(std::string_view name, Read read) -> typename decltype(read(name))::value_type {
    auto found = lines.find(name);
    auto value = found == lines.end() ? std::nullopt : read(found->second);
    if (value) return std::move(*value);
    if (!problem) problem = corrupt("has no usable line \"" + std::string(name) + "\"");
    return {};
  }
  template <typename Number>
  Number number(std::string_view name) {
    return line(name, [](std::string_view text) { return numberIn<Number>(text); });
  }

  std::optional<Error> problem;

 private:
  const Lines& lines;
};

// Rights that this version does not know are not given.
std::optional<Rights> rightsIn(std::string_view text) {
  Rights rights;
  while (!text.empty()) {
    size_t end = std::min(text.find(' '), text.size());
    std::string_view word = text.substr(0, end);
    if (word == "write") rights.write = true;
    if (word == "compute") rights.compute = true;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return rights;
}

std::optional<std::string> hashIn(std::string_view text) {
  auto hash = fromHex(text);
  if (!hash || hash->size() != HASH_BYTES) return std::nullopt;
  return hash;
}

std::optional<std::string> pathIn(std::string_view text) {
  auto path = unescape(text);
  if (!path || !validatePath(*path).ok() || isReserved(*path)) return std::nullopt;
  return path;
}

}  // namespace

std::string format(const ShareFile& share) {
  std::string text(FIRST_LINE);
  text += '\n';
  auto line = [&](std::string_view name, std::string_view value) {
    text += name;
    text += ' ';
    text += value;
    text += '\n';
  };
  const ShareTerms& terms = share.terms;
  std::string rights = "read";
  if (terms.rights.write) rights += " write";
  if (terms.rights.compute) rights += " compute";
  line("token-sha256", toHex(share.tokenHash));
  line("parent", share.parent);
  line("path", escapeForTerminal(terms.path));
  line("rights", rights);
  line("made", std::to_string(share.made));
  line("expires", std::to_string(terms.expires));
  line("uses", std::to_string(terms.uses));
  line("used", std::to_string(share.used));
  line("last-used", std::to_string(share.lastUsed));
  line("quota", std::to_string(terms.quota));
  line("revoked", std::to_string(share.revoked));
  line("label", escapeForTerminal(terms.label));
  text += LAST_LINE;
  text += '\n';
  return text;
}

Result<ShareFile> parseShareFile(std::string_view text) {
  auto lines = linesOf(text);
  if (!lines.ok()) return lines.error();
  Reader reader(*lines);
  ShareFile share;
  share.tokenHash = reader.line("token-sha256", hashIn);
  share.parent = reader.line(
      "parent", [](std::string_view id) { return id.empty() ? std::nullopt : std::optional<std::string>(id); });
  share.terms.path = reader.line("path", pathIn);
  share.terms.rights = reader.line("rights", rightsIn);
  share.made = reader.number<int64_t>("made");
  share.terms.expires = reader.number<int64_t>("expires");
  share.terms.uses = reader.number<uint64_t>("uses");
  share.used = reader.number<uint64_t>("used");
  share.terms.quota = reader.number<uint64_t>("quota");
  share.revoked = reader.number<int64_t>("revoked");
  share.terms.label = reader.line("label", unescape);
  if (lines->contains("last-used")) share.lastUsed = reader.number<int64_t>("last-used");
  if (reader.problem) return *reader.problem;
  return share;
}

}  // namespace capstan::server
