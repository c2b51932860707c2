#include <capstan/client/cli/line-completion.h>

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <sstream>

#include <capstan/base/text.h>
#include <capstan/client/cli/shell.h>

namespace capstan::cli {

namespace {

bool startsWith(std::string_view text, std::string_view beginning) {
  return text.substr(0, beginning.size()) == beginning;
}

bool canBeTyped(const std::string& name) {
  std::string doubled;
  for (char c : name) {
    if (c != '\\') doubled += c;
  }
  return isUtf8(name) && escapeForTerminal(doubled) == doubled;
}

// Never cuts a character in two.
std::string commonBeginning(const Names& names) {
  std::string common = names.front();
  for (auto& name : names) {
    size_t same = std::mismatch(common.begin(), common.end(), name.begin(), name.end()).first - common.begin();
    common.resize(same);
  }
  while (!isUtf8(common)) common.pop_back();
  return common;
}

std::string lastPart(const std::string& name) {
  size_t slash = name.rfind('/', name.size() - 2);
  return name.size() < 2 || slash == std::string::npos ? name : name.substr(slash + 1);
}

Names commandNames(const std::vector<Command>& table) {
  Names names = ownWords();
  for (auto& command : table) {
    if (command.inShell) names.push_back(command.name);
  }
  for (const char* word : {"HELP", "LIST", "UPLOAD", "DOWNLOAD", "DELETE", "RENAME", "ADD", "SORT", "SUM", "MIN", "MAX",
                           "COUNT", "JOB", "LOGOUT"})
    names.push_back(word);
  return names;
}

// The words that stand for the first operand, where there are only a few.
Names operandChoices(const Command& command) {
  std::string text = command.operands;
  text = text.substr(0, text.find(' '));
  if (text.find('|') == std::string::npos) return {};
  std::replace(text.begin(), text.end(), '|', ' ');
  std::istringstream words(text);
  return {std::istream_iterator<std::string>(words), {}};
}

bool takesJobId(const Command& command) {
  return std::string_view(command.operands).find(" [ID]") != std::string_view::npos;
}

Names optionNames(const Command& command) {
  CommandParser parser(&command);
  return parser.longOptions();
}

}  // namespace

OperandKinds kindsOfOperand(const Command& command, size_t index) {
  std::istringstream words(command.operands);
  std::vector<std::string> kinds;
  bool open = false;
  for (std::string word; words >> word;) {
    open |= word.find("...") != std::string::npos;
    kinds.push_back(word);
  }
  OperandKinds result;
  auto add = [&](const std::string& word) {
    // What is neither is a number, an id, or one of a few words.
    for (const char* remote : {"PATH", "REMOTE", "FROM", "TO", "ROOT"})
      result.remote |= word.find(remote) != std::string::npos;
    result.local |= word.find("LOCAL") != std::string::npos;
  };
  if (kinds.empty()) return result;
  if (!open || index == 0) {
    if (index < kinds.size()) add(kinds[index]);
  } else {
    for (auto& kind : kinds) add(kind);
  }
  return result;
}

std::string_view folderOfWord(std::string_view word) {
  size_t slash = word.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : word.substr(0, slash + 1);
}

Completions completeFrom(const PartialWord& word, Names names) {
  names.erase(std::remove_if(names.begin(), names.end(),
                             [&](auto& name) { return !startsWith(name, word.word) || !canBeTyped(name); }),
              names.end());
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  Completions result;
  result.replaceFrom = word.begin;
  if (names.empty()) return result;
  result.insert = quoted(commonBeginning(names), word.quote);
  if (names.size() == 1 && names[0].back() != '/') {
    if (word.quote != 0) result.insert += word.quote;
    result.insert += ' ';
  }
  if (names.size() > 1) {
    for (auto& name : names) result.candidates.push_back(lastPart(name));
  }
  return result;
}

Names localNames(std::string_view word) {
  std::string folder(folderOfWord(word));
  std::unique_ptr<DIR, int (*)(DIR*)> handle(opendir(folder.empty() ? "." : folder.c_str()), closedir);
  Names names;
  if (handle == nullptr) return names;
  while (dirent* entry = readdir(handle.get())) {
    std::string name = entry->d_name;
    if (name == "." || name == ".." || (name[0] == '.' && word == folder)) continue;
    struct stat status;
    bool isFolder = stat((folder + name).c_str(), &status) == 0 && S_ISDIR(status.st_mode);
    names.push_back(folder + name + (isFolder ? "/" : ""));
  }
  return names;
}

namespace {

// Whether the word behind `before` is the value of an option, and what kind of name it is then.
struct OptionValue {
  bool isOne = false;
  OperandKinds kinds;
};

OptionValue optionValue(const Command& command, const std::vector<std::string>& before) {
  if (before.size() < 2 || !startsWith(before.back(), "-")) return {};
  CommandParser parser(&command);
  OptionValue value;
  std::string type = parser.valueTypeOf(before.back());
  value.isOne = !type.empty();
  value.kinds.remote = type == "REMOTE";
  value.kinds.local = type == "LOCAL" || type == "FILE";
  return value;
}

Names namesFor(OperandKinds kinds, Names names, std::string_view word,
               const std::function<Names(std::string_view folder)>& listRemote) {
  if (kinds.remote) names = listRemote(folderOfWord(word));
  if (kinds.local) {
    for (auto& local : localNames(word)) names.push_back(local);
  }
  return names;
}

}  // namespace

Completions completeLine(std::string_view beforeCursor, const std::vector<Command>& table,
                         const std::function<Names(std::string_view folder)>& listRemote,
                         const std::function<Names()>& listJobs) {
  PartialWord partial = lastWord(beforeCursor);
  if (partial.before.empty()) return completeFrom(partial, commandNames(table));
  std::string name = commandOfWord(partial.before[0]);
  if (name == "help") return completeFrom(partial, commandNames(table));
  const Command* command = findCommand(table, name);
  if (command == nullptr) return {};
  if (startsWith(partial.word, "-")) return completeFrom(partial, optionNames(*command));
  OptionValue value = optionValue(*command, partial.before);
  if (value.isOne) return completeFrom(partial, namesFor(value.kinds, {}, partial.word, listRemote));
  auto isOperand = [](const std::string& word) { return word.empty() || word[0] != '-'; };
  size_t index = std::count_if(partial.before.begin() + 1, partial.before.end(), isOperand);
  Names fixed = index == 0 ? operandChoices(*command) : Names();
  if (index == 1 && takesJobId(*command) && listJobs) fixed = listJobs();
  return completeFrom(partial, namesFor(kindsOfOperand(*command, index), std::move(fixed), partial.word, listRemote));
}

}  // namespace capstan::cli
