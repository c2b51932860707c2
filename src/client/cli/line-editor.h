// Lines typed at a terminal: editing, history and completion by libedit, while the event loop goes on turning, so that
// background work proceeds and may write on the terminal without destroying the line being typed.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <capstan/client/cli/runtime.h>

namespace capstan::cli {

// What the word at the cursor may become.
struct Completions {
  size_t replaceFrom = 0;               // where in the text before the cursor the replaced part starts
  std::string insert;                   // what to put there: as much as is certain, quoted
  std::vector<std::string> candidates;  // to show when there are several; fit for the terminal
};

// Belongs to the runtime's thread; used outside of event handlers. One at a time.
class LineEditor final : public Transient {
 public:
  using Complete = std::function<Completions(std::string_view beforeCursor)>;
  LineEditor(Runtime& runtime, std::string prompt, std::string historyFile, Complete complete);
  // Saves the history.
  ~LineEditor() noexcept(false);
  KJ_DISALLOW_COPY(LineEditor);

  struct Read {
    std::optional<std::string> line;  // nothing at the end of the input
    bool interrupted = false;         // by Ctrl-C; the line is empty then
    int signal = 0;                   // 128 plus a signal that asks the program to end
  };
  Read readLine();

  void hide() override;
  void show() override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl;
};

}  // namespace capstan::cli
