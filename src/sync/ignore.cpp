#include <capstan/sync/ignore.h>

#include <map>
#include <mutex>
#include <set>
#include <unordered_map>

#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/base/path.h>
#include <capstan/base/text.h>
#include <capstan/sync/wildmatch.h>

namespace capstan::sync {
namespace {

using Rule = IgnoreRules::Rule;

constexpr std::string_view UNFINISHED = ".capstan-part-";
constexpr size_t MAX_PATTERNS_BYTES = 1 << 20;

struct Pattern {
  Rule rule;
  WildPattern wild;
  bool isNegated = false;
  bool isForFolders = false;
  bool isForNames = false;  // else for paths, from the folder of the file
};

// Blanks at the end do not count, unless there is a backslash before them.
std::string_view withoutBlanks(std::string_view line) {
  size_t end = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\\' && i + 1 < line.size()) {
      end = ++i + 1;
    } else if (line[i] != ' ') {
      end = i + 1;
    }
  }
  return line.substr(0, end);
}

std::optional<Pattern> parsePattern(Rule rule) {
  std::string_view text = rule.pattern;
  bool isNegated = text.starts_with('!');
  if (isNegated) text.remove_prefix(1);
  bool isForFolders = text.ends_with('/');
  if (isForFolders) text.remove_suffix(1);
  bool isForNames = text.find('/') == std::string_view::npos;
  if (text.starts_with('/')) text.remove_prefix(1);
  if (text.empty()) return std::nullopt;
  WildPattern wild(text);
  return Pattern{std::move(rule), std::move(wild), isNegated, isForFolders, isForNames};
}

std::vector<Rule> parseLines(std::string_view text, const std::string& origin) {
  std::vector<Rule> rules;
  constexpr std::string_view BYTE_ORDER_MARK = "\xEF\xBB\xBF";
  if (text.starts_with(BYTE_ORDER_MARK)) text.remove_prefix(BYTE_ORDER_MARK.size());
  for (unsigned number = 1; !text.empty(); ++number) {
    size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with('#')) continue;
    line = withoutBlanks(line);
    if (!line.empty()) rules.push_back({std::string(line), origin, number});
  }
  return rules;
}

using Patterns = std::vector<Pattern>;

Patterns parsePatterns(const std::vector<Rule>& rules) {
  Patterns patterns;
  for (const Rule& rule : rules) {
    if (auto pattern = parsePattern(rule)) patterns.push_back(std::move(*pattern));
  }
  return patterns;
}

// The last one that matches. `path` is from the folder that the patterns are about.
const Pattern* lastMatch(const Patterns& patterns, std::string_view path, bool isFolder) {
  for (auto pattern = patterns.rbegin(); pattern != patterns.rend(); ++pattern) {
    if (pattern->isForFolders && !isFolder) continue;
    if (pattern->wild.matches(pattern->isForNames ? baseNameOf(path) : path)) return &*pattern;
  }
  return nullptr;
}

std::optional<Rule> ownRule(std::string_view path) {
  if (isReserved(path)) return Rule{std::string(STATE_FOLDER), "built in", 0};
  std::string_view name = baseNameOf(path);
  if (name.starts_with('.') && name.find(UNFINISHED) != std::string_view::npos) {
    return Rule{".*" + std::string(UNFINISHED) + "*", "built in", 0};
  }
  return std::nullopt;
}

}  // namespace

// What is known of a folder stays, so that each path costs one look-up and the patterns that concern it.
struct IgnoreRules::Impl {
  Impl(std::vector<Rule> given, ReadFile readFile)
      : givenRules(std::move(given)), given(parsePatterns(givenRules)), readFile(std::move(readFile)) {}

  struct Source {
    size_t depth;  // bytes of the folder's path
    std::shared_ptr<const Patterns> patterns;
  };
  struct Folder {
    std::optional<Rule> ignored;  // it is, itself or by one above it
    std::vector<Source> sources;  // the deepest first; those without patterns are left out
  };

  // Constant after construction.
  const std::vector<Rule> givenRules;
  const Patterns given;
  const ReadFile readFile;

  // Protected by mutex.
  std::mutex mutex;
  std::unordered_map<std::string, Folder> folders;
  std::map<std::string, std::string> digests;  // by folder, of the files that were read and not empty
  std::set<std::string> forgotten;             // were read, and have to be read anew for the fingerprint
  std::map<std::string, Error> unreadable;     // by folder

  std::optional<Rule> find(std::string_view path, bool isFolder);
  const Folder& folderAt(const std::string& path);
  std::optional<Rule> findIn(const Folder& parent, std::string_view path, bool isFolder) const;
  // Null: it cannot be read.
  std::shared_ptr<const Patterns> read(const std::string& folder);
  void forget(std::string_view folder);
};

std::optional<Rule> IgnoreRules::Impl::find(std::string_view path, bool isFolder) {
  if (path.empty()) return std::nullopt;
  if (auto rule = ownRule(path)) return rule;
  return findIn(folderAt(std::string(parentOf(path))), path, isFolder);
}

std::optional<Rule> IgnoreRules::Impl::findIn(const Folder& parent, std::string_view path, bool isFolder) const {
  if (parent.ignored) return parent.ignored;
  // What was given goes before all files, as with git.
  const Pattern* match = lastMatch(given, path, isFolder);
  for (size_t i = 0; match == nullptr && i < parent.sources.size(); ++i) {
    const Source& source = parent.sources[i];
    match = lastMatch(*source.patterns, path.substr(source.depth == 0 ? 0 : source.depth + 1), isFolder);
  }
  if (match == nullptr || match->isNegated) return std::nullopt;
  return match->rule;
}

const IgnoreRules::Impl::Folder& IgnoreRules::Impl::folderAt(const std::string& path) {
  if (auto known = folders.find(path); known != folders.end()) return known->second;
  Folder folder;
  if (!path.empty()) {
    // As deep as the tree, which MAX_PATH_BYTES bounds.
    const Folder& parent = folderAt(std::string(parentOf(path)));
    folder.ignored = ownRule(path);
    if (!folder.ignored) folder.ignored = findIn(parent, path, true);
    if (!folder.ignored) folder.sources = parent.sources;
  }
  if (!folder.ignored) {
    std::shared_ptr<const Patterns> own = read(path);
    if (own == nullptr)
      folder.ignored = Rule{"*", joinPath(path, IGNORE_FILE) + ", which cannot be read", 0};
    else if (!own->empty())
      folder.sources.insert(folder.sources.begin(), Source{path.size(), std::move(own)});
  }
  return folders.emplace(path, std::move(folder)).first->second;
}

std::shared_ptr<const Patterns> IgnoreRules::Impl::read(const std::string& folder) {
  auto answer = readFile ? readFile(folder) : Result<std::optional<std::string>>(std::optional<std::string>());
  if (!answer.ok()) {
    unreadable.insert_or_assign(folder, std::move(answer).error());
    return nullptr;
  }
  std::optional<std::string>& text = *answer;
  forgotten.erase(folder);
  if (!text || text->empty()) {
    digests.erase(folder);
    return std::make_shared<Patterns>();
  }
  digests[folder] = digestOf(DigestAlgorithm::XXH3, *text);
  return std::make_shared<Patterns>(parsePatterns(parseLines(*text, joinPath(folder, IGNORE_FILE))));
}

IgnoreRules::IgnoreRules(std::vector<Rule> given, ReadFile readFile)
    : impl(std::make_unique<Impl>(std::move(given), std::move(readFile))) {}
IgnoreRules::~IgnoreRules() = default;

std::optional<Rule> IgnoreRules::ruleFor(std::string_view path, bool isFolder) const {
  std::lock_guard lock(impl->mutex);
  return impl->find(path, isFolder);
}

void IgnoreRules::Impl::forget(std::string_view folder) {
  std::erase_if(folders, [&](const auto& known) { return isWithin(known.first, folder); });
  // What lies below is read anew too, with what is above it.
  for (const auto& [path, digest] : digests) {
    if (isWithin(path, folder)) forgotten.insert(path);
  }
  forgotten.insert(std::string(folder));
}

void IgnoreRules::forget(std::string_view folder) {
  std::lock_guard lock(impl->mutex);
  impl->forget(folder);
}

std::optional<Error> IgnoreRules::takeTrouble() {
  std::lock_guard lock(impl->mutex);
  if (impl->unreadable.empty()) return std::nullopt;
  Error first = impl->unreadable.begin()->second;
  auto all = std::move(impl->unreadable);
  impl->unreadable.clear();
  for (const auto& [folder, error] : all) impl->forget(folder);
  return first;
}

std::vector<std::string> IgnoreRules::foldersWithRules() const {
  std::lock_guard lock(impl->mutex);
  std::vector<std::string> folders;
  for (const auto& [folder, digest] : impl->digests) folders.push_back(folder);
  return folders;
}

std::string IgnoreRules::fingerprint() const {
  std::lock_guard lock(impl->mutex);
  const std::set<std::string> forgotten = impl->forgotten;
  for (const std::string& folder : forgotten) {
    bool isIgnored = impl->folderAt(folder).ignored.has_value();
    if (!impl->unreadable.empty() && isIgnored) continue;
    // One that is ignored now is not read, so its rules do not count any more.
    if (isIgnored) impl->digests.erase(folder);
    impl->forgotten.erase(folder);
  }
  Hasher hasher(DigestAlgorithm::XXH3);
  auto add = [&](std::string_view text) { hasher.update(std::to_string(text.size()) + ":" + std::string(text)); };
  for (const Rule& rule : impl->givenRules) add(rule.pattern);
  for (const auto& [folder, digest] : impl->digests) {
    add(folder);
    add(digest);
  }
  return toHex(hasher.digest());
}

Result<std::vector<Rule>> IgnoreRules::readPatterns(const std::string& file) {
  auto text = readFile(file, MAX_PATTERNS_BYTES);
  if (!text.ok()) return std::move(text).error();
  return parseLines(*text, file);
}

}  // namespace capstan::sync
