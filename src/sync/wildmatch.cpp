#include <capstan/sync/wildmatch.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <utility>

namespace capstan::sync {
namespace {

using Step = WildPattern::Step;

bool isInClass(std::string_view name, int c) {
  if (name == "alnum") return std::isalnum(c);
  if (name == "alpha") return std::isalpha(c);
  if (name == "blank") return c == ' ' || c == '\t';
  if (name == "cntrl") return std::iscntrl(c);
  if (name == "digit") return std::isdigit(c);
  if (name == "graph") return std::isgraph(c);
  if (name == "lower") return std::islower(c);
  if (name == "print") return std::isprint(c);
  if (name == "punct") return std::ispunct(c);
  if (name == "space") return std::isspace(c);
  if (name == "upper") return std::isupper(c);
  return name == "xdigit" && std::isxdigit(c);
}

bool isClassName(std::string_view name) {
  constexpr std::string_view NAMES[] = {"alnum", "alpha", "blank", "cntrl", "digit", "graph",
                                        "lower", "print", "punct", "space", "upper", "xdigit"};
  for (std::string_view known : NAMES) {
    if (name == known) return true;
  }
  return false;
}

class Compiler {
 public:
  explicit Compiler(std::string_view pattern) : pattern(pattern) {}
  // Nothing if the pattern is broken.
  std::optional<std::vector<Step>> run();

 private:
  std::string_view pattern;
  size_t at = 0;
  std::vector<Step> steps;

  void addStars();
  bool addSet();
  bool addClass(Step& step);
  bool takeSetByte(unsigned char& byte);
};

std::optional<std::vector<Step>> Compiler::run() {
  while (at < pattern.size()) {
    unsigned char c = pattern[at];
    if (c == '*') {
      addStars();
      continue;
    }
    if (c == '[') {
      if (!addSet()) return std::nullopt;
      continue;
    }
    Step step;
    if (c == '?') {
      step.accepts.set();
      step.accepts[static_cast<unsigned char>('/')] = false;
    } else {
      if (c == '\\' && ++at == pattern.size()) return std::nullopt;
      step.accepts[static_cast<unsigned char>(pattern[at])] = true;
    }
    ++at;
    steps.push_back(step);
  }
  return std::move(steps);
}

void Compiler::addStars() {
  size_t begin = at;
  while (at < pattern.size() && pattern[at] == '*') ++at;
  bool isAlone =
      at - begin >= 2 && (begin == 0 || pattern[begin - 1] == '/') && (at == pattern.size() || pattern[at] == '/');
  Step step;
  step.kind = Step::Kind::STAR;
  if (isAlone && at < pattern.size()) {
    step.kind = Step::Kind::FOLDERS;
    ++at;
  } else if (isAlone) {
    step.kind = Step::Kind::DEEP_STAR;
  }
  steps.push_back(step);
}

// The next byte of a set, perhaps after a backslash.
bool Compiler::takeSetByte(unsigned char& byte) {
  if (pattern[at] == '\\' && ++at == pattern.size()) return false;
  byte = pattern[at++];
  return true;
}

// "[:alpha:]", from its inner bracket on.
bool Compiler::addClass(Step& step) {
  size_t end = pattern.find(']', at + 2);
  if (end == std::string_view::npos) return false;
  if (end < at + 3 || pattern[end - 1] != ':') {
    step.accepts[static_cast<unsigned char>('[')] = true;  // only a bracket
    ++at;
    return true;
  }
  std::string_view name = pattern.substr(at + 2, end - 1 - (at + 2));
  if (!isClassName(name)) return false;
  for (int c = 0; c < 128; ++c) {
    if (isInClass(name, c)) step.accepts[c] = true;
  }
  at = end + 1;
  return true;
}

bool Compiler::addSet() {
  Step step;
  ++at;
  bool isNegated = at < pattern.size() && (pattern[at] == '!' || pattern[at] == '^');
  if (isNegated) ++at;
  for (bool isFirst = true;; isFirst = false) {
    if (at >= pattern.size()) return false;
    if (pattern[at] == ']' && !isFirst) break;
    if (pattern.substr(at, 2) == "[:") {
      if (!addClass(step)) return false;
      continue;
    }
    unsigned char from, to;
    if (!takeSetByte(from)) return false;
    to = from;
    if (at + 1 < pattern.size() && pattern[at] == '-' && pattern[at + 1] != ']') {
      ++at;
      if (!takeSetByte(to)) return false;
    }
    step.accepts[from] = true;  // as git has it, also where a range goes backwards
    for (int c = from; c <= to; ++c) step.accepts[c] = true;
  }
  ++at;
  if (isNegated) step.accepts.flip();
  step.accepts[static_cast<unsigned char>('/')] = false;
  steps.push_back(step);
  return true;
}

// Marks a place in the pattern, and those behind it that need no byte to be reached.
void reach(const std::vector<Step>& steps, std::vector<char>& places, size_t place) {
  places[place] = true;
  while (place < steps.size() && steps[place].kind != Step::Kind::BYTE) places[++place] = true;
}

void takeByte(const std::vector<Step>& steps, unsigned char c, size_t place, std::vector<char>& next) {
  const Step& step = steps[place];
  switch (step.kind) {
    case Step::Kind::BYTE:
      if (step.accepts[c]) reach(steps, next, place + 1);
      break;
    case Step::Kind::STAR:
      if (c != '/') reach(steps, next, place);
      break;
    case Step::Kind::DEEP_STAR: reach(steps, next, place); break;
    case Step::Kind::FOLDERS:
      next[place] = true;
      if (c == '/') reach(steps, next, place + 1);
      break;
  }
}

// Follows all places in the pattern to which the path up to here may have led, at once: no way back is ever needed.
bool follow(const std::vector<Step>& steps, std::string_view path) {
  std::vector<char> now(steps.size() + 1), next(steps.size() + 1);
  reach(steps, now, 0);
  for (unsigned char c : path) {
    std::fill(next.begin(), next.end(), false);
    bool isAlive = false;
    for (size_t place = 0; place < steps.size(); ++place) {
      if (!now[place]) continue;
      isAlive = true;
      takeByte(steps, c, place, next);
    }
    if (!isAlive) return false;
    std::swap(now, next);
  }
  return now[steps.size()];
}

bool isPlain(std::string_view text) { return text.find_first_of("*?[\\") == std::string_view::npos; }

}  // namespace

WildPattern::WildPattern(std::string_view pattern) {
  if (isPlain(pattern)) {
    form = Form::LITERAL;
    literal = pattern;
  } else if (pattern.front() == '*' && isPlain(pattern.substr(1))) {
    form = Form::ENDING;
    literal = pattern.substr(1);
  } else if (auto compiled = Compiler(pattern).run()) {
    steps = std::move(*compiled);
  } else {
    form = Form::BROKEN;
  }
}

bool WildPattern::matches(std::string_view path) const {
  switch (form) {
    case Form::BROKEN: return false;
    case Form::LITERAL: return path == literal;
    case Form::ENDING:
      return path.ends_with(literal) &&
             path.substr(0, path.size() - literal.size()).find('/') == std::string_view::npos;
    case Form::STEPS: return follow(steps, path);
  }
  return false;
}

}  // namespace capstan::sync
