// The interactive prompt: reads lines from a terminal or a script and runs the commands on one connection, some of them
// in the background.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <capstan/client/cli/background.h>
#include <capstan/client/cli/runtime.h>

namespace capstan::cli {

// What a line of the shell came to.
struct LineOutcome {
  std::optional<int> status;  // nothing for empty lines
  bool end = false;           // LOGOUT, or a signal that ends the program
};

// Belongs to the runtime's thread. Used outside of event handlers.
class Shell {
 public:
  // `flags` hold for each command that does not say otherwise. `interactive`: a person is at the terminal.
  Shell(Runtime& runtime, Connection connection, GlobalFlags flags, bool interactive);

  // Connects and prints the greeting on standard error; DONE, or the exit status where there is no server.
  int greet();

  // Runs one line to its end (or starts it in the background).
  LineOutcome runLine(const std::string& line);
  // Runs words as a line with them would; for those who have no line.
  int runWords(const std::vector<std::string>& words);

  // Waits for what is in the background; the exit status of all of it.
  int finish();

  client::Client& client() { return *connection.client; }

 private:
  Runtime& runtime;
  Connection connection;
  const GlobalFlags base;
  const bool interactive;
  Output output;
  Background background;  // after the connection, which its commands use

  LineOutcome runOwnWord(const std::string& word, const std::vector<std::string>& words);
  LineOutcome runCommand(const std::vector<std::string>& words, bool inBackground, const std::string& text);
  int runForeground(kj::Promise<int> promise);
  int waitFor(const std::vector<std::string>& words);
  int help(const std::vector<std::string>& words);
  int usage(const std::string& message, const std::string& hint = {});
  kj::Own<Context> makeContext(const Invocation& invocation, bool foreground);
};

// LIST for ls and so on, in capitals or not; every other word as it is.
std::string commandOfWord(const std::string& word);

// Whether the shell has the word itself: help, jobs, wait, logout, exit, quit.
bool isOwnWord(const std::string& word);
std::vector<std::string> ownWords();

}  // namespace capstan::cli
