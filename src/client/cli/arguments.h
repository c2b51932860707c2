// From words to a command that can be run: the global flags, a command's own options and operands, usage errors. The
// same for argv and for lines of the shell. Pure: no input or output.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <kj/async.h>

#include <capstan/base/error.h>

namespace CLI {
class App;
}

namespace capstan::cli {

class Context;

// Flags that every command takes, before or after its name. Unset means: look further (environment, configuration,
// default).
struct GlobalFlags {
  std::optional<std::string> server;
  std::optional<std::string> tokenFile;
  bool insecure = false;            // no TLS
  std::optional<uint64_t> timeout;  // nanoseconds, for the whole command
  bool json = false;
  bool quiet = false;
  bool verbose = false;
  bool noProgress = false;
  bool noColor = false;
};

using Operands = std::vector<std::string>;
// Runs one command on the context's loop; answers its exit status. The context outlives the promise.
using Action = std::function<kj::Promise<int>(Context&)>;
// Runs a command that brings its own event loop, blocking (`serve`, `shell`, `demo`).
struct OwnLoopAction {
  using Run = std::function<int(const GlobalFlags&, const Operands&)>;
  explicit OwnLoopAction(Run run, Action atPrompt = {}) : run(std::move(run)), atPrompt(std::move(atPrompt)) {}
  int operator()(const GlobalFlags& flags, const Operands& operands) const { return run(flags, operands); }

  Run run;
  Action atPrompt;  // the same on the shell's loop, where the command can be typed there
};
using AnyAction = std::variant<Action, OwnLoopAction>;

// What a command declares its options with. Each variable has to live as long as the action that the command answers.
// Texts that cannot be read (sizes, durations, numbers) are usage errors which name the flag.
class OptionTable {
 public:
  explicit OptionTable(CLI::App& app) : app(app) {}

  void flag(const std::string& names, bool& variable, const std::string& help);
  void text(const std::string& names, std::optional<std::string>& variable, const std::string& typeName,
            const std::string& help);
  void texts(const std::string& names, std::vector<std::string>& variable, const std::string& typeName,
             const std::string& help);
  void size(const std::string& names, std::optional<uint64_t>& variable, const std::string& help);
  void duration(const std::string& names, std::optional<uint64_t>& variable, const std::string& help);
  void number(const std::string& names, std::optional<uint64_t>& variable, const std::string& help);
  // One of `choices`, separated by '|' as the help shows them.
  void choice(const std::string& names, std::optional<std::string>& variable, const std::string& choices,
              const std::string& help);

 private:
  CLI::App& app;

  void add(const std::string& names, const std::string& typeName, const std::string& help,
           std::function<void(const std::string&)> take, bool repeatable = false);
};

struct Example {
  const char* command;
  const char* comment;
};

// A row of the table of commands.
struct Command {
  enum class Needs {
    NOTHING,   // neither server nor event loop of its own
    SERVER,    // a client
    OWN_LOOP,  // runs outside of any event loop
  };

  const char* name;
  const char* operands;     // as help shows them: "LOCAL... REMOTE"; the words tell the completion what they are
  const char* operandHelp;  // lines that say what they mean; may be empty
  size_t minOperands;
  size_t maxOperands;
  const char* summary;
  std::vector<Example> examples;
  const char* next;  // what one may want to do after this
  Needs needs;
  bool inShell;  // may be typed at the prompt of the shell
  AnyAction (*define)(OptionTable&);
  bool takesNumbers = false;  // "-3" and "-.5" are operands rather than options
};

inline constexpr size_t ANY_NUMBER = SIZE_MAX;

struct Invocation {
  const Command* command = nullptr;  // null where help about everything was asked for
  GlobalFlags flags;
  Operands operands;
  AnyAction action;
  bool help = false;
};

struct UsageError {
  std::string message;  // "put: unknown option --foo"
  std::string hint;     // what to type for help
  bool json = false;    // whether the words ask for JSON, as far as they could be read
};

using Parsed = std::variant<Invocation, UsageError>;

// `words` without the program's name. `prefix` is what the user has to type before a command: "capstan " or, in the
// shell, "".
Parsed parseWords(const std::vector<Command>& table, const std::vector<std::string>& words,
                  std::string_view prefix = "capstan ");

const Command* findCommand(const std::vector<Command>& table, std::string_view name);

// The name that was most likely meant; empty if none is near.
std::string nearestName(std::string_view word, const std::vector<std::string>& names);

// Makes a parser with the options of one command (null: the global ones only), for help and completion. The variables
// behind it live as long as what is returned.
struct CommandParser {
  std::unique_ptr<CLI::App> app;
  std::shared_ptr<GlobalFlags> flags;
  std::shared_ptr<Operands> operands;
  AnyAction action;

  explicit CommandParser(const Command* command);
  ~CommandParser();
  CommandParser(CommandParser&&) noexcept;

  // "--json" and so on, of the command and global.
  std::vector<std::string> longOptions() const;
  // What kind of value the option takes ("REMOTE", "N"), by its name with the dashes; empty if it takes none, or is
  // none.
  std::string valueTypeOf(const std::string& option) const;
};

}  // namespace capstan::cli
