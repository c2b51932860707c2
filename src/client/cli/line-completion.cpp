#include <capstan/client/cli/line-completion.h>

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
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
  for (const char* word : {"HELP", "LIST", "UPLOAD", "DOWNLOAD", "DELETE", "RENAME", "LOGOUT"}) names.push_back(word);
  return names;
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
    (word.find("LOCAL") != std::string::npos ? result.local : result.remote) = true;
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

Completions completeLine(std::string_view beforeCursor, const std::vector<Command>& table,
                         const std::function<Names(std::string_view folder)>& listRemote) {
  PartialWord partial = lastWord(beforeCursor);
  if (partial.before.empty()) return completeFrom(partial, commandNames(table));
  std::string name = commandOfWord(partial.before[0]);
  if (name == "help") return completeFrom(partial, commandNames(table));
  const Command* command = findCommand(table, name);
  if (command == nullptr) return {};
  if (startsWith(partial.word, "-")) return completeFrom(partial, optionNames(*command));
  auto isOperand = [](const std::string& word) { return word.empty() || word[0] != '-'; };
  size_t index = std::count_if(partial.before.begin() + 1, partial.before.end(), isOperand);
  OperandKinds kinds = kindsOfOperand(*command, index);
  Names names;
  if (kinds.remote) names = listRemote(folderOfWord(partial.word));
  if (kinds.local) {
    for (auto& local : localNames(partial.word)) names.push_back(local);
  }
  return completeFrom(partial, std::move(names));
}

}  // namespace capstan::cli
