#include <capstan/client/cli/words.h>

#include <capstan/base/text.h>

namespace capstan::cli {

namespace {

constexpr std::string_view SPACE = " \t\r\n";
constexpr std::string_view OPERATORS = "|<>;";

bool isIn(char c, std::string_view set) { return set.find(c) != std::string_view::npos; }

// Reads words one after the other; knows where it stands.
class Reader {
 public:
  explicit Reader(std::string_view text) : text(text) {}

  std::string word;
  size_t begin = 0;
  char openQuote = 0;  // where the text ended inside quotes, or '\\' behind a backslash

  // Stands at something after white space?
  bool skipSpace() {
    while (position < text.size() && isIn(text[position], SPACE)) ++position;
    begin = position;
    return position < text.size();
  }

  char peek() const { return position < text.size() ? text[position] : '\0'; }
  size_t where() const { return position; }
  void advance() { ++position; }

  // Up to unquoted white space or an operator.
  void readWord() {
    word.clear();
    begin = position;
    while (position < text.size() && !isIn(text[position], SPACE) && !isIn(text[position], OPERATORS) &&
           text[position] != '&') {
      char c = text[position++];
      if (c == '\'' || c == '"') {
        readQuoted(c);
      } else if (c != '\\') {
        word += c;
      } else if (position < text.size()) {
        word += text[position++];
      } else {
        openQuote = '\\';
      }
    }
  }

 private:
  std::string_view text;
  size_t position = 0;

  void readQuoted(char quote) {
    while (position < text.size()) {
      char c = text[position++];
      if (c == quote) return;
      // Inside "...", a backslash is one only before what would end or change something.
      if (quote == '"' && c == '\\' && position < text.size() && isIn(text[position], "\"\\$`")) c = text[position++];
      word += c;
    }
    openQuote = quote;
  }
};

Error wrong(std::string sentence) { return {ErrorCode::INVALID_ARGUMENT, std::move(sentence), {}}; }

}  // namespace

Result<Line> splitLine(std::string_view text) {
  Line line;
  Reader reader(text);
  while (reader.skipSpace()) {
    char c = reader.peek();
    if (c == '#') break;
    if (line.background) return wrong("& belongs at the end of the line; quote it where it is part of a name");
    if (c == '&') {
      if (line.words.empty()) return wrong("there is no command before the &");
      line.background = true;
      reader.advance();
      continue;
    }
    if (isIn(c, OPERATORS)) {
      return wrong(std::string("there are no pipes, redirections or lists of commands here; quote ") + c +
                   " where it is part of a name");
    }
    reader.readWord();
    if (reader.openQuote == '\\') return wrong("the line ends in a backslash");
    if (reader.openQuote != 0) return wrong(std::string("a ") + reader.openQuote + " is not closed");
    line.words.push_back(reader.word);
  }
  return line;
}

PartialWord lastWord(std::string_view text) {
  PartialWord partial;
  Reader reader(text);
  while (reader.skipSpace()) {
    if (isIn(reader.peek(), OPERATORS) || reader.peek() == '&') {
      reader.advance();
      continue;
    }
    reader.readWord();
    if (reader.where() == text.size()) {
      partial.word = reader.word;
      partial.begin = reader.begin;
      partial.quote = reader.openQuote == '\\' ? 0 : reader.openQuote;
      return partial;
    }
    partial.before.push_back(reader.word);
  }
  partial.begin = text.size();
  return partial;
}

std::string quoted(std::string_view word, char quote) {
  constexpr std::string_view SPECIAL = " \t\n\r'\"\\|&;<>()$`*?[]#~!{}";
  std::string out;
  if (quote != 0) out += quote;
  for (char c : word) {
    if (quote == 0 ? isIn(c, SPECIAL) : quote == '"' && isIn(c, "\"\\$`")) out += '\\';
    if (quote == '\'' && c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace capstan::cli
