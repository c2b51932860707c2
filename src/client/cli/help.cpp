#include <capstan/client/cli/help.h>

#include <algorithm>

#include <CLI/CLI.hpp>

namespace capstan::cli {

namespace {

struct Row {
  std::string left;
  std::string right;
};

std::string columns(const std::vector<Row>& rows) {
  size_t width = 0;
  for (auto& row : rows) width = std::max(width, row.left.size());
  std::string text;
  for (auto& row : rows) {
    text += "  " + row.left;
    if (!row.right.empty()) text += std::string(width - row.left.size() + 2, ' ') + row.right;
    text += '\n';
  }
  return text;
}

std::vector<Row> optionRows(const CLI::App& app, const std::string& group) {
  std::vector<Row> rows;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group() != group || option->get_positional()) continue;
    std::string left;
    for (auto& name : option->get_snames()) left += (left.empty() ? "-" : ", -") + name;
    for (auto& name : option->get_lnames()) left += (left.empty() ? "    --" : ", --") + name;
    if (option->get_expected_max() > 0 && option->get_type_size() > 0) left += " " + option->get_type_name();
    rows.push_back({left, option->get_description()});
  }
  return rows;
}

std::string examples(const std::vector<Example>& list) {
  std::vector<Row> rows;
  for (auto& example : list)
    rows.push_back({example.command, *example.comment == '\0' ? "" : "# " + std::string(example.comment)});
  return "Examples:\n" + columns(rows);
}

std::string indented(std::string_view lines) {
  std::string text = "  ";
  for (char c : lines) {
    text += c;
    if (c == '\n') text += "  ";
  }
  return text + "\n";
}

const std::vector<Example> FIRST_STEPS{
    {"capstan demo", "a guided tour that leaves nothing behind"},
    {"capstan serve shared", "serve the folder \"shared\" to programs of this user"},
    {"capstan put notes.txt docs/", "store a file there"},
};

}  // namespace

std::string helpAboutAll(const std::vector<Command>& table) {
  std::vector<Row> commands;
  for (auto& command : table) commands.push_back({command.name, command.summary});
  CommandParser parser(nullptr);
  std::string text = "capstan - a file and compute server, and its client\n\n";
  text += "Usage: capstan [options] COMMAND ...\n\nCommands:\n" + columns(commands);
  auto options = optionRows(*parser.app, "Global");
  for (auto& row : optionRows(*parser.app, "Options")) options.push_back(row);
  text += "\nOptions, before or after the command:\n" + columns(options);
  text += "\n" + examples(FIRST_STEPS);
  text +=
      "\nWithout --server: CAPSTAN_SERVER, ./.capstan.toml, the user's config.toml, this user's server, "
      "127.0.0.1:4457.\n"
      "To a server that ./.capstan.toml names no token is sent but that folder's own, and one of --token-file.\n";
  text += "Next: capstan COMMAND --help tells more about one command\n";
  return text;
}

std::string helpAbout(const Command& command) {
  CommandParser parser(&command);
  std::string usage = std::string("Usage: capstan ") + command.name + " [options]";
  if (*command.operands != '\0') usage += std::string(" ") + command.operands;
  std::string text = std::string("capstan ") + command.name + " - " + command.summary + "\n\n" + usage + "\n";
  if (*command.operandHelp != '\0') text += "\n" + indented(command.operandHelp);
  text += "\nOptions:\n" + columns(optionRows(*parser.app, "Options"));
  text += "\nGlobal options:\n" + columns(optionRows(*parser.app, "Global"));
  text += "\n" + examples(command.examples);
  text += std::string("\nNext: ") + command.next + "\n";
  return text;
}

std::string helpInShell(const std::vector<Command>& table) {
  std::vector<Row> rows;
  for (auto& command : table) {
    if (!command.inShell) continue;
    rows.push_back(
        {std::string(command.name) + (*command.operands == '\0' ? "" : " ") + command.operands, command.summary});
  }
  std::string text = "Commands (COMMAND --help tells more):\n" + columns(rows);
  text +=
      "\nWords, in capitals or not: LIST = ls, UPLOAD = put, DOWNLOAD = get, DELETE = rm, RENAME = mv,\n"
      "ADD, SORT, SUM, MIN, MAX, COUNT, JOB\n\nThe prompt's own:\n";
  text += columns({{"COMMAND &", "runs it in the background, under a number"},
                   {"jobs", "lists what runs in the background"},
                   {"wait [NUMBER]", "waits for it, or for all"},
                   {"help [COMMAND]", "this, or about one command"},
                   {"logout, exit, quit", "ends (also Ctrl-D); waits for what is in the background"}});
  text += "\nNames with spaces are quoted as in a Unix shell: 'a b', \"a b\" or a\\ b. TAB completes remote names.\n";
  return text;
}

}  // namespace capstan::cli
