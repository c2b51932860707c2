// What one command prints: results on standard output, errors and remarks on standard error, as text or as JSON, fit
// for a terminal where there is one. Holds back what it can, so that a million lines are not a million writes.
#pragma once

#include <string>
#include <string_view>

#include <kj/async.h>

#include <capstan/base/entry.h>
#include <capstan/base/error.h>
#include <capstan/client/cli/screen.h>

namespace capstan::cli {

struct OutputMode {
  bool json = false;
  bool quiet = false;
  bool verbose = false;
  bool color = true;  // if the terminal and the environment (NO_COLOR, TERM) agree
};

// Belongs to one event loop. `screen` must outlive it.
class Output {
 public:
  Output(Screen& screen, OutputMode mode);
  ~Output() noexcept(false);
  KJ_DISALLOW_COPY(Output);

  bool json() const { return mode.json; }
  bool quiet() const { return mode.quiet; }
  bool verbose() const { return mode.verbose; }
  bool isTerminal() const { return screen.isTerminal(Channel::OUT); }
  Screen& terminal() { return screen; }

  // Results, as they are.
  void raw(std::string_view bytes);
  void line(std::string_view text);
  // A name for standard output: escaped for a terminal, as it is otherwise.
  std::string name(std::string_view bytes) const;
  // With the terminal's number for a colour ("32"), where colours are wanted.
  std::string inColor(std::string_view color, std::string_view text) const;
  // An entry's name in the colour of its type.
  std::string colored(const Entry& entry, std::string_view shown) const;

  // A remark on standard error, unless quiet.
  void note(std::string_view text);
  // On standard error, "capstan: CODE: sentence" or a JSON object; answers the exit status that belongs to the code.
  int fail(const Error& error);
  // The same for errors that are not the schema's: `code` is "usage", "warning", ... The path may be empty.
  void complain(std::string_view code, std::string_view message, std::string_view path = {});
  // "hint: ..." on standard error, not with JSON or when quiet.
  void hint(std::string_view text);

  // Writes what was held back.
  void flush();

  // Resolves when standard output takes no more: 0 when its reader has closed it, which is no failure, else the errno
  // (after which the error has been printed). At most one promise at a time.
  kj::Promise<int> whenBroken();
  bool isBroken() const { return broken; }
  // The exit status then.
  int brokenStatus() const;
  // For those who write to standard output by themselves.
  void setBroken(int number);

 private:
  Screen& screen;
  const OutputMode mode;
  const bool usesColor;
  std::string held;
  bool broken = false;
  int brokenBy = 0;
  kj::Own<kj::PromiseFulfiller<int>> brokenFulfiller;

  void write(std::string_view bytes);
};

// {"error":{"code","message","path"}}; path null where it is empty.
std::string errorAsJson(std::string_view code, std::string_view message, std::string_view path);

}  // namespace capstan::cli
