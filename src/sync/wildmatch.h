// Patterns of gitignore(5) against one path: `*`, `?`, `[...]`, `\`, and `**` between slashes. Pure, on bytes.
#pragma once

#include <bitset>
#include <string>
#include <string_view>
#include <vector>

namespace capstan::sync {

// Immutable once made. `*`, `?` and `[...]` never match a slash; `**` does, where it stands alone between slashes or
// ends of the pattern. A pattern that ends within `[` or after a `\` matches nothing.
class WildPattern {
 public:
  explicit WildPattern(std::string_view pattern);

  // Whether the whole path matches. Takes a time that is at most the product of both lengths.
  bool matches(std::string_view path) const;

  // What one place in a pattern takes: one byte of a set, or any number of bytes.
  struct Step {
    enum class Kind { BYTE, STAR, DEEP_STAR, FOLDERS };  // FOLDERS: "**/": nothing, or anything up to a slash
    Kind kind = Kind::BYTE;
    std::bitset<256> accepts;
  };

 private:
  // The usual ones need no steps: a name, and an ending after a star.
  enum class Form { BROKEN, LITERAL, ENDING, STEPS };
  Form form = Form::STEPS;
  std::string literal;
  std::vector<Step> steps;
};

}  // namespace capstan::sync
