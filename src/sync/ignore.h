// Which paths are left alone: patterns in gitignore syntax (git's documentation, gitignore(5)), from --exclude,
// --exclude-from, and `.capstanignore` in any folder. Pure: files are read through a function.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <capstan/base/error.h>

namespace capstan::sync {

inline constexpr std::string_view IGNORE_FILE = ".capstanignore";

// Thread-safe once made, if the reading function is.
class IgnoreRules {
 public:
  // Where a rule came from, for `explain`.
  struct Rule {
    std::string pattern;
    std::string origin;  // "--exclude", a file's path
    unsigned line = 0;   // in the file, from 1
  };

  // The text of the folder's `.capstanignore`, or nothing. Asked once for each folder that matters, then remembered.
  // While there is an Error, everything in the folder counts as ignored: see takeTrouble().
  using ReadFile = std::function<Result<std::optional<std::string>>(std::string_view folder)>;

  IgnoreRules(std::vector<Rule> given, ReadFile readFile);
  ~IgnoreRules();

  // The rule because of which a path is ignored: the last one that matches, of the deepest folder; also if a folder
  // above it is ignored, which nothing can take back. Nothing: it is not ignored. The synchroniser's own names
  // (`.capstan` at the top, unfinished downloads) always are.
  std::optional<Rule> ruleFor(std::string_view path, bool isFolder) const;
  bool isIgnored(std::string_view path, bool isFolder) const { return ruleFor(path, isFolder).has_value(); }

  // Forgets what was read from the folder's file.
  void forget(std::string_view folder);

  // Why some file could not be read, if so; nothing may be done with what was looked at then. They are read anew by the
  // next question.
  std::optional<Error> takeTrouble();

  // Whose files were read and held something.
  std::vector<std::string> foldersWithRules() const;

  // Another one whenever a rule that was given, or read so far, is another one.
  std::string fingerprint() const;

  // Patterns in the form of --exclude-from: one on each line, # comments. Errors: notFound, tooLarge.
  static Result<std::vector<Rule>> readPatterns(const std::string& file);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl;
};

}  // namespace capstan::sync
