#include <capstan/client/cli/arguments.h>

#include <algorithm>
#include <charconv>

#include <CLI/CLI.hpp>

#include <capstan/base/number.h>
#include <capstan/base/text.h>

namespace capstan::cli {

namespace {

// CLI11 takes "[a]" for a list, "++" for the end of a subcommand, and "-1" for an operand, but the first two are names
// of files, and "-1" is one only where it is a number. A byte in front keeps words whole: SHIELD for what is wanted so,
// SUSPECT for what looks like an option and may yet be the value of one.
constexpr char SHIELD = '\x01';
constexpr char SUSPECT = '\x02';

bool isShielded(const std::string& word) { return !word.empty() && (word[0] == SHIELD || word[0] == SUSPECT); }

bool startsAsNegativeNumber(const std::string& word) {
  return word.size() > 1 && word[0] == '-' && (word[1] == '.' || (word[1] >= '0' && word[1] <= '9'));
}

// "-inf" and "-nan" too, in any case and length.
bool isNegativeNumber(const std::string& word) {
  return startsAsNegativeNumber(word) || (word.size() > 1 && word[0] == '-' && word[1] != '-' && parseFloat(word));
}

std::string shielded(const std::string& word, bool takesNumbers, bool mayBeOption) {
  bool special = !word.empty() && (word[0] == '[' || word == "++" || isShielded(word));
  if (special || (mayBeOption && takesNumbers && isNegativeNumber(word))) return SHIELD + word;
  if (mayBeOption && startsAsNegativeNumber(word)) return SUSPECT + word;
  return word;
}

std::string unshielded(const std::string& word) { return isShielded(word) ? word.substr(1) : word; }

bool takesValue(std::string_view word) { return word == "--server" || word == "--token-file" || word == "--timeout"; }

// The first word that is neither a flag nor the value of one.
size_t commandPosition(const std::vector<std::string>& words) {
  for (size_t i = 0; i < words.size(); ++i) {
    if (takesValue(words[i])) {
      ++i;
    } else if (words[i].empty() || words[i][0] != '-' || words[i] == "-") {
      return i;
    }
  }
  return words.size();
}

void addGlobalFlags(OptionTable& table, GlobalFlags& flags) {
  table.text("--server", flags.server, "ADDR",
             "HOST:PORT, unix:PATH, @INVITE or the name of a remote from the configuration");
  table.text("--token-file", flags.tokenFile, "FILE", "the file that holds the token");
  table.flag("--insecure", flags.insecure, "speak without TLS, also over a network; serve: take such connections");
  table.flag("--json", flags.json, "print JSON");
  table.flag("-q,--quiet", flags.quiet, "say nothing but results and errors");
  table.flag("-v,--verbose", flags.verbose, "say more");
  table.flag("--no-progress", flags.noProgress, "show no progress");
  table.flag("--no-color", flags.noColor, "use no colours");
  table.duration("--timeout", flags.timeout, "give up after this long; so long an answer is waited for (else 10 s)");
}

std::string sentenceOf(const CLI::ParseError& error, const std::vector<std::string>& options) {
  std::string text = error.what();
  size_t colon = text.find(": ");
  if (dynamic_cast<const CLI::ExtrasError*>(&error) == nullptr || colon == std::string::npos)
    return escapeForTerminal(text);
  std::string typed = text.substr(colon + 2);
  text = "there is no option " + typed;
  std::string nearest = typed.substr(0, 2) == "--" ? nearestName(typed.substr(0, typed.find('=')), options) : "";
  return escapeForTerminal(nearest.empty() ? text : text + "; did you mean " + nearest + "?");
}

std::string counted(size_t count, const char* what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

std::optional<std::string> operandProblem(const Command& command, size_t count) {
  std::string wanted = command.operands[0] == '\0' ? "no operands" : std::string(command.operands);
  if (count < command.minOperands) return "needs " + wanted;
  if (count > command.maxOperands) return "takes " + wanted + ", but was given " + counted(count, "operand");
  return std::nullopt;
}

UsageError unknownCommand(const std::vector<Command>& table, const std::string& word, std::string_view prefix) {
  std::vector<std::string> names;
  for (auto& command : table) names.push_back(command.name);
  std::string nearest = nearestName(word, names);
  std::string message = "there is no command \"" + escapeForTerminal(word) + "\"";
  if (!nearest.empty()) message += "; did you mean " + nearest + "?";
  return {message, prefix.empty() ? "HELP lists the commands" : "capstan --help lists the commands"};
}

}  // namespace

void OptionTable::add(const std::string& names, const std::string& typeName, const std::string& help,
                      std::function<void(const std::string&)> take, bool repeatable) {
  auto option = app.add_option(
      names,
      [take, repeatable](const CLI::results_t& results) {
        if (repeatable) {
          for (auto& result : results) take(unshielded(result));
        } else {
          take(unshielded(results.back()));
        }
        return true;
      },
      help);
  option->type_name(typeName)->type_size(1);
  // Of a flag that is given twice the last one counts, as with most programs, so that aliases can be overridden.
  option->multi_option_policy(repeatable ? CLI::MultiOptionPolicy::TakeAll : CLI::MultiOptionPolicy::TakeLast);
}

void OptionTable::flag(const std::string& names, bool& variable, const std::string& help) {
  app.add_flag_function(
      names, [&variable](int64_t count) { variable = count > 0; }, help);
}

void OptionTable::text(const std::string& names, std::optional<std::string>& variable, const std::string& typeName,
                       const std::string& help) {
  add(names, typeName, help, [&variable](const std::string& text) { variable = text; });
}

void OptionTable::texts(const std::string& names, std::vector<std::string>& variable, const std::string& typeName,
                        const std::string& help) {
  add(
      names, typeName, help, [&variable](const std::string& text) { variable.push_back(text); }, true);
}

void OptionTable::size(const std::string& names, std::optional<uint64_t>& variable, const std::string& help) {
  add(names, "SIZE", help, [names, &variable](const std::string& text) {
    variable = parseSize(text);
    if (!variable)
      throw CLI::ValidationError(names, "\"" + escapeForTerminal(text) + "\" is no size; write 4096, 64MiB or 1.5GB");
  });
}

void OptionTable::duration(const std::string& names, std::optional<uint64_t>& variable, const std::string& help) {
  add(names, "DUR", help, [names, &variable](const std::string& text) {
    variable = parseDuration(text);
    if (!variable)
      throw CLI::ValidationError(names,
                                 "\"" + escapeForTerminal(text) + "\" is no duration; write 250ms, 4s, 2m, 1h or 7d");
  });
}

void OptionTable::number(const std::string& names, std::optional<uint64_t>& variable, const std::string& help) {
  add(names, "N", help, [names, &variable](const std::string& text) {
    uint64_t number = 0;
    auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (problem != std::errc() || end != text.data() + text.size()) {
      throw CLI::ValidationError(names, "\"" + escapeForTerminal(text) + "\" is no whole number");
    }
    variable = number;
  });
}

void OptionTable::choice(const std::string& names, std::optional<std::string>& variable, const std::string& choices,
                         const std::string& help) {
  add(names, choices, help, [names, choices, &variable](const std::string& text) {
    std::string all = "|" + choices + "|";
    if (text.empty() || text.find('|') != std::string::npos || all.find("|" + text + "|") == std::string::npos) {
      throw CLI::ValidationError(names, "\"" + escapeForTerminal(text) + "\" is not one of " + choices);
    }
    variable = text;
  });
}

CommandParser::CommandParser(const Command* command)
    : app(std::make_unique<CLI::App>("", "capstan")),
      flags(std::make_shared<GlobalFlags>()),
      operands(std::make_shared<Operands>()) {
  OptionTable table(*app);
  app->set_help_flag("-h,--help", "show this help");
  if (command != nullptr) action = command->define(table);
  // The global flags come second, in a group of their own in the help.
  size_t own = app->get_options().size();
  addGlobalFlags(table, *flags);
  auto options = app->get_options();
  for (size_t i = own; i < options.size(); ++i) options[i]->group("Global");
  app->add_option("OPERANDS", *operands)->group("");
}

CommandParser::~CommandParser() = default;
CommandParser::CommandParser(CommandParser&&) noexcept = default;

std::vector<std::string> CommandParser::longOptions() const {
  std::vector<std::string> names;
  for (const CLI::Option* option : app->get_options()) {
    for (auto& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::string CommandParser::valueTypeOf(const std::string& name) const {
  const CLI::Option* option = app->get_option_no_throw(name);
  bool takesOne = option != nullptr && option->get_expected_max() > 0 && option->get_type_size() > 0;
  return takesOne ? option->get_type_name() : std::string();
}

const Command* findCommand(const std::vector<Command>& table, std::string_view name) {
  auto found = std::find_if(table.begin(), table.end(), [&](const Command& command) { return name == command.name; });
  return found == table.end() ? nullptr : &*found;
}

namespace {

// How many letters have to be typed, left out, changed or swapped with their neighbour to make one word of the other.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

}  // namespace

std::string nearestName(std::string_view word, const std::vector<std::string>& names) {
  constexpr size_t TOO_LONG = 64;  // a word of this length is no typing mistake
  std::string best;
  if (word.size() > TOO_LONG) return best;
  size_t bestDistance = std::max<size_t>(1, word.size() / 3) + 1;
  for (auto& name : names) {
    size_t found = distance(word, name);
    if (found < bestDistance) {
      bestDistance = found;
      best = name;
    }
  }
  return best;
}

Parsed parseWords(const std::vector<Command>& table, const std::vector<std::string>& words, std::string_view prefix) {
  size_t position = commandPosition(words);
  const Command* command = nullptr;
  bool json = std::find(words.begin(), words.end(), "--json") != words.end();
  if (position < words.size()) {
    command = findCommand(table, words[position]);
    if (command == nullptr) {
      UsageError error = unknownCommand(table, words[position], prefix);
      error.json = json;
      return error;
    }
  }
  std::string typed = command == nullptr ? "" : command->name;
  std::string hint = std::string(prefix) + (typed.empty() ? "" : typed + " ") + "--help tells more";
  std::string label = typed.empty() ? "" : typed + ": ";

  std::vector<std::string> reversed;  // CLI11 takes them from the back
  bool takesNumbers = command != nullptr && command->takesNumbers;
  size_t optionsEnd = std::find(words.begin(), words.end(), "--") - words.begin();
  for (size_t i = words.size(); i-- > 0;) {
    if (i != position) reversed.push_back(shielded(words[i], takesNumbers, i < optionsEnd));
  }
  CommandParser parser(command);
  Invocation invocation;
  invocation.command = command;
  try {
    parser.app->parse(reversed);
  } catch (const CLI::CallForHelp&) {
    invocation.help = true;
    return invocation;
  } catch (const CLI::ParseError& error) {
    return UsageError{label + sentenceOf(error, parser.longOptions()), hint, json};
  }
  if (command == nullptr) {
    if (prefix.empty()) return UsageError{"a command is missing", "HELP lists the commands", json};
    return UsageError{"a command is missing", "capstan --help lists the commands, capstan demo shows some of them",
                      json};
  }
  for (auto& operand : *parser.operands) {
    if (!operand.empty() && operand[0] == SUSPECT) {
      return UsageError{label + "there is no option " + escapeForTerminal(unshielded(operand)), hint, json};
    }
    invocation.operands.push_back(unshielded(operand));
  }
  if (auto problem = operandProblem(*command, invocation.operands.size())) {
    return UsageError{label + *problem, hint, json};
  }
  invocation.flags = *parser.flags;
  invocation.action = std::move(parser.action);
  return invocation;
}

}  // namespace capstan::cli
