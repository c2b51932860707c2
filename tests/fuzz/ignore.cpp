// Ignore patterns: a pattern is compared with a second, simpler matcher, and rules keep their word for whole trees. A
// pattern that took a time that grows faster than it should would meet libFuzzer's time limit.
//
// The input is lines: a path, then either one pattern, or (with a first byte that is odd) the text of .capstanignore.
#include <capstan/base/path.h>
#include <capstan/sync/ignore.h>
#include <capstan/sync/wildmatch.h>

#include "fuzz.h"

namespace capstan::fuzz {
namespace {

using sync::IgnoreRules;
using sync::WildPattern;

constexpr size_t MAX_COMPARED = 24;  // the second matcher tries all ways

// `*`, `?`, `**` and `\`, straight from gitignore(5); sets are left out.
bool matchesSlowly(std::string_view whole, size_t at, std::string_view path) {
  std::string_view pattern = whole.substr(at);
  if (pattern.empty()) return path.empty();
  if (pattern[0] == '*') {
    size_t stars = std::min(pattern.find_first_not_of('*'), pattern.size());
    bool beginsAlone = at == 0 || whole[at - 1] == '/';
    bool isDeep = stars >= 2 && beginsAlone && (stars == pattern.size() || pattern[stars] == '/');
    if (isDeep && stars == pattern.size()) return true;
    if (isDeep) {
      if (matchesSlowly(whole, at + stars + 1, path)) return true;
      for (size_t slash = path.find('/'); slash != path.npos; slash = path.find('/', slash + 1)) {
        if (matchesSlowly(whole, at + stars + 1, path.substr(slash + 1))) return true;
      }
      return false;
    }
    for (size_t taken = 0;; ++taken) {
      if (matchesSlowly(whole, at + stars, path.substr(taken))) return true;
      if (taken == path.size() || path[taken] == '/') return false;
    }
  }
  if (path.empty()) return false;
  if (pattern[0] == '?') return path[0] != '/' && matchesSlowly(whole, at + 1, path.substr(1));
  bool isEscape = pattern[0] == '\\';
  if (isEscape && pattern.size() == 1) return false;
  return pattern[isEscape] == path[0] && matchesSlowly(whole, at + 1 + isEscape, path.substr(1));
}

// A backslash at the very end breaks the whole pattern, also where the rest would match before it is reached.
bool isBroken(std::string_view pattern) {
  size_t backslashes = pattern.size() - (pattern.find_last_not_of('\\') + 1);
  return backslashes % 2 != 0;
}

void comparePattern(std::string_view path, std::string_view pattern) {
  bool matches = WildPattern(pattern).matches(path);
  if (pattern.find('[') != pattern.npos || pattern.size() > MAX_COMPARED || path.size() > MAX_COMPARED) return;
  bool expected = !isBroken(pattern) && matchesSlowly(pattern, 0, path);
  if (matches != expected) {
    std::string what = "(\"" + std::string(pattern) + "\" and \"" + std::string(path) + "\")";
    fail("both matchers agree", __FILE__, __LINE__, what.c_str());
  }
}

void applyRules(std::string_view path, std::string_view text) {
  if (path.empty() || !validatePath(path).ok()) return;
  IgnoreRules rules({{"*.o", "--exclude", 0}}, [&](std::string_view folder) {
    bool hasFile = folder.size() % 2 == 0;  // the top, and some others
    return Result<std::optional<std::string>>(hasFile ? std::optional(std::string(text)) : std::nullopt);
  });
  for (bool isFolder : {false, true}) {
    bool ignored = rules.isIgnored(path, isFolder);
    FUZZ_CHECK(rules.isIgnored(path, isFolder) == ignored);
    // What is in something ignored is ignored too.
    for (std::string_view above = parentOf(path); !above.empty(); above = parentOf(above)) {
      if (rules.isIgnored(above, true)) FUZZ_CHECK(ignored);
    }
    if (isFolder && ignored) FUZZ_CHECK(rules.isIgnored(joinPath(path, "x"), false));
    if (isReserved(path) || path.ends_with(".o")) FUZZ_CHECK(ignored);
  }
  (void)rules.isIgnored("something else", false);  // now the top has been looked at in any case
  std::string before = rules.fingerprint();
  rules.forget("");
  FUZZ_CHECK(rules.fingerprint() == before && !rules.takeTrouble());
}

}  // namespace
}  // namespace capstan::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace capstan::fuzz;
  Choices choices(data, size);
  bool withRules = choices.byte() % 2 == 1;
  std::string all(choices.all());
  size_t end = std::min(all.find('\n'), all.size());
  std::string path = all.substr(0, end), rest = all.substr(std::min(end + 1, all.size()));
  withRules ? applyRules(path, rest) : comparePattern(path, rest);
  return 0;
}
