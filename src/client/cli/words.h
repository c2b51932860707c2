// A line of the shell taken apart into words, with quotes as in a POSIX shell: '...', "...", \. No expansion of any
// kind, no pipes, no redirections. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <capstan/base/error.h>

namespace capstan::cli {

struct Line {
  std::vector<std::string> words;
  bool background = false;  // the line ended in an unquoted '&'
};

// A '#' at the beginning of a word starts a comment. Errors: invalidArgument with a sentence (a quote that is not
// closed, an unquoted | < > ; or an '&' that is not at the end).
Result<Line> splitLine(std::string_view text);

// The word that the cursor at the end of `text` is in, for completion.
struct PartialWord {
  std::vector<std::string> before;  // the words before it
  std::string word;                 // unquoted so far
  size_t begin = 0;                 // where in the text it starts, quotes included
  char quote = 0;                   // the quote that is open, or 0
};
PartialWord lastWord(std::string_view text);

// As one would type it: unchanged where nothing needs quoting, else with backslashes, or inside `quote` if that is
// open.
std::string quoted(std::string_view word, char quote = 0);

}  // namespace capstan::cli
