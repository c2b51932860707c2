#include <capstan/client/cli/completion-script.h>

#include <CLI/CLI.hpp>

#include <capstan/client/cli/line-completion.h>

namespace capstan::cli {

namespace {

// What can follow a flag, or stand as an operand.
enum class Kind { NOTHING, FILE, REMOTE, BOTH, CHOICE, ANY };

struct Flag {
  std::vector<std::string> names;  // with their dashes
  std::string help;
  Kind kind = Kind::NOTHING;  // of its value; NOTHING where it takes none
  std::string choices;        // separated by spaces
};

std::vector<Flag> flagsOf(const Command* command) {
  CommandParser parser(command);
  std::vector<Flag> flags;
  for (const CLI::Option* option : parser.app->get_options()) {
    if (option->get_positional()) continue;
    Flag flag;
    for (auto& name : option->get_snames()) flag.names.push_back("-" + name);
    for (auto& name : option->get_lnames()) flag.names.push_back("--" + name);
    flag.help = option->get_description();
    if (option->get_expected_max() > 0 && option->get_type_size() > 0) {
      std::string type = option->get_type_name();
      flag.kind = type == "FILE" || type == "DIR" || type == "LOCAL" ? Kind::FILE : Kind::ANY;
      if (type == "REMOTE") flag.kind = Kind::REMOTE;
      if (type.find('|') != std::string::npos) {
        flag.kind = Kind::CHOICE;
        for (char c : type) flag.choices += c == '|' ? ' ' : c;
      }
    }
    flags.push_back(std::move(flag));
  }
  return flags;
}

std::string operandChoices(const Command& command) {
  std::string text = command.operands;
  text = text.substr(0, text.find(' '));
  if (text.find('|') == std::string::npos) return {};
  for (char& c : text) c = c == '|' ? ' ' : c;
  return text;
}

// Whether the id of a job follows the first operand.
bool takesJobId(const Command& command) {
  return std::string_view(command.operands).find(" [ID]") != std::string_view::npos;
}

Kind operandKind(const Command& command) {
  if (!operandChoices(command).empty()) return Kind::CHOICE;
  OperandKinds first = kindsOfOperand(command, 0);
  OperandKinds second = kindsOfOperand(command, 1);
  bool local = first.local || second.local;
  bool remote = first.remote || second.remote;
  if (std::string_view(command.operands).find("ROOT") != std::string_view::npos) return Kind::FILE;
  return local && remote ? Kind::BOTH : local ? Kind::FILE : remote ? Kind::REMOTE : Kind::NOTHING;
}

std::string joined(const std::vector<std::string>& names, const char* between = " ") {
  std::string text;
  for (auto& name : names) text += (text.empty() ? "" : between) + name;
  return text;
}

std::string commandNames(const std::vector<Command>& table, const char* between = " ") {
  std::vector<std::string> names;
  for (auto& command : table) names.push_back(command.name);
  return joined(names, between);
}

// For single quotes in a shell's script.
std::string escaped(std::string_view text, std::string_view special, std::string_view with) {
  std::string out;
  for (char c : text) {
    if (special.find(c) != std::string_view::npos) {
      out += with;
      if (with.size() == 1) out += c;
    } else {
      out += c;
    }
  }
  return out;
}

constexpr const char* BASH_HEAD =
    R"SH(# Completion of capstan for bash: source it, or put it into ~/.local/share/bash-completion/completions/capstan

# Remote names: the folder of the word, as far as it is typed. Options of the line that name the server are passed on.
_capstan_remote() {
  local word=$1 folder='' name
  [[ $word == */* ]] && folder=${word%/*}/
  while IFS= read -r name; do
    [[ $folder$name == "$word"* ]] && COMPREPLY+=("$folder$name")
  done < <(capstan "${_capstan_server[@]}" --quiet --timeout 2s ls -p -- "${folder%/}" 2>/dev/null)
  [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace
  compopt -o filenames 2>/dev/null
}

# Ids of jobs, behind the verb of `job`.
_capstan_job() {
  local id rest
  while read -r id rest; do
    [[ $id == "$1"* ]] && COMPREPLY+=("$id")
  done < <(capstan "${_capstan_server[@]}" --quiet --timeout 2s job list 2>/dev/null)
}

_capstan_local() {
  local name
  while IFS= read -r name; do COMPREPLY+=("$name"); done < <(compgen -f -- "$1")
  compopt -o filenames 2>/dev/null
}

)SH";

std::string bashReply(Kind kind, const std::string& choices) {
  switch (kind) {
    case Kind::FILE: return "_capstan_local \"$word\"";
    case Kind::REMOTE: return "_capstan_remote \"$word\"";
    case Kind::BOTH: return "_capstan_remote \"$word\"; _capstan_local \"$word\"";
    case Kind::CHOICE: return "COMPREPLY=($(compgen -W '" + choices + "' -- \"$word\"))";
    case Kind::NOTHING:
    case Kind::ANY: break;
  }
  return ":";
}

std::string bashScript(const std::vector<Command>& table) {
  std::string script = BASH_HEAD;
  script +=
      "_capstan() {\n  local word previous command='' i\n  local -a _capstan_server=()\n  COMPREPLY=()\n"
      "  word=${COMP_WORDS[COMP_CWORD]}\n  previous=${COMP_WORDS[COMP_CWORD-1]}\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n    case ${COMP_WORDS[i]} in\n"
      "      --server|--token-file) _capstan_server+=(\"${COMP_WORDS[i]}\" \"${COMP_WORDS[i+1]}\"); ((i++)) ;;\n"
      "      --timeout) ((i++)) ;;\n      -*) ;;\n"
      "      *) [[ -z $command ]] && command=${COMP_WORDS[i]} ;;\n    esac\n  done\n"
      "  case $command:$previous in\n";
  for (auto& flag : flagsOf(nullptr)) {
    for (auto& name : flag.names) {
      if (flag.kind != Kind::NOTHING)
        script += "    *:" + name + ") " + bashReply(flag.kind, flag.choices) + "; return ;;\n";
    }
  }
  for (auto& command : table) {
    size_t own = flagsOf(&command).size() - flagsOf(nullptr).size();
    auto flags = flagsOf(&command);
    for (size_t i = 0; i < own + 1 && i < flags.size(); ++i) {
      for (auto& name : flags[i].names) {
        if (flags[i].kind != Kind::NOTHING) {
          script += std::string("    ") + command.name + ":" + name + ") " +
                    bashReply(flags[i].kind, flags[i].choices) + "; return ;;\n";
        }
      }
    }
  }
  script += "  esac\n  case $command in\n";
  auto words = [](const std::vector<Flag>& flags) {
    std::vector<std::string> names;
    for (auto& flag : flags) names.insert(names.end(), flag.names.begin(), flag.names.end());
    return joined(names);
  };
  script += "    '') COMPREPLY=($(compgen -W '" + commandNames(table) + " " + words(flagsOf(nullptr)) +
            "' -- \"$word\")) ;;\n";
  for (auto& command : table) {
    script += std::string("    ") + command.name + ")\n      if [[ $word == -* ]]; then COMPREPLY=($(compgen -W '" +
              words(flagsOf(&command)) + "' -- \"$word\"))\n";
    if (takesJobId(command)) {
      script += std::string("      elif [[ $previous != ") + command.name + " ]]; then _capstan_job \"$word\"\n";
    }
    script += "      else " + bashReply(operandKind(command), operandChoices(command)) + "; fi ;;\n";
  }
  return script + "  esac\n}\n\ncomplete -F _capstan capstan\n";
}

constexpr const char* ZSH_HEAD = R"SH(#compdef capstan
# Completion of capstan for zsh: put it into a folder of $fpath under the name _capstan.

_capstan_remote() {
  local folder='' line
  local -a names
  [[ $PREFIX == */* ]] && folder=${PREFIX%/*}/
  for line in ${(f)"$(capstan $capstan_server --quiet --timeout 2s ls -p -- ${folder%/} 2>/dev/null)"}; do names+=("$folder$line"); done
  compadd -S '' -- $names
}

_capstan_job() {
  local line
  local -a ids
  for line in ${(f)"$(capstan $capstan_server --quiet --timeout 2s job list 2>/dev/null)"}; do ids+=("${line%% *}"); done
  compadd -- $ids
}

_capstan() {
  local -a capstan_server
  local context state line command i
  for ((i = 2; i < CURRENT; i++)); do
    case ${words[i]} in
      --server|--token-file) capstan_server+=(${words[i]} ${(Q)words[i+1]}); ((i++)) ;;
      --timeout) ((i++)) ;;
      -*) ;;
      *) [[ -z $command ]] && command=${words[i]} ;;
    esac
  done
)SH";

const char* zshAction(Kind kind) {
  switch (kind) {
    case Kind::FILE: return "_files";
    case Kind::REMOTE: return "_capstan_remote";
    case Kind::BOTH: return "_alternative \"remote:remote:_capstan_remote\" \"files:local:_files\"";
    default: return " ";
  }
}

std::string zshFlags(const std::vector<Flag>& flags) {
  std::string text;
  for (auto& flag : flags) {
    for (auto& name : flag.names) {
      text += " \\\n        '" + name + "[" + escaped(escaped(flag.help, "[]:", "\\"), "'", "'\\''") + "]";
      if (flag.kind == Kind::CHOICE) text += ":value:(" + flag.choices + ")";
      if (flag.kind == Kind::FILE) text += ":file:_files";
      if (flag.kind == Kind::REMOTE) text += ":remote:_capstan_remote";
      if (flag.kind == Kind::ANY) text += ":value: ";
      text += "'";
    }
  }
  return text;
}

std::string zshScript(const std::vector<Command>& table) {
  std::string script = ZSH_HEAD;
  script += "  if [[ -z $command ]]; then\n    _arguments" + zshFlags(flagsOf(nullptr)) + " \\\n        '1:command:(" +
            commandNames(table) + ")'\n    return\n  fi\n  case $command in\n";
  for (auto& command : table) {
    script += std::string("    ") + command.name + ") _arguments" + zshFlags(flagsOf(&command)) +
              " \\\n        '1: :(" + command.name + ")'";
    if (takesJobId(command)) {
      script += " '2: :(" + operandChoices(command) + ")' '*:job:_capstan_job'";
    } else if (operandKind(command) == Kind::CHOICE) {
      script += " '*:operand:(" + operandChoices(command) + ")'";
    } else if (operandKind(command) != Kind::NOTHING) {
      script += std::string(" '*:operand:") + zshAction(operandKind(command)) + "'";
    }
    script += " ;;\n";
  }
  return script + "  esac\n}\n\n_capstan \"$@\"\n";
}

constexpr const char* FISH_HEAD =
    R"SH(# Completion of capstan for fish: put it into ~/.config/fish/completions/capstan.fish

function __capstan_remote
    set -l folder (string match -r '.*/' -- (commandline -ct))
    for name in (capstan --quiet --timeout 2s ls -p -- (string trim -r -c / -- "$folder") 2>/dev/null)
        echo "$folder$name"
    end
end

function __capstan_job
    capstan --quiet --timeout 2s job list 2>/dev/null | string replace -r ' .*' ''
end

complete -c capstan -f
)SH";

std::string fishFlag(const Flag& flag, const std::string& condition) {
  std::string text = "complete -c capstan" + condition;
  for (auto& name : flag.names) text += name[1] == '-' ? " -l " + name.substr(2) : " -s " + name.substr(1);
  if (flag.kind == Kind::FILE) text += " -r -F";
  if (flag.kind == Kind::ANY) text += " -x";
  if (flag.kind == Kind::REMOTE) text += " -x -a '(__capstan_remote)'";
  if (flag.kind == Kind::CHOICE) text += " -x -a '" + flag.choices + "'";
  return text + " -d '" + escaped(flag.help, "'", "\\") + "'\n";
}

std::string fishScript(const std::vector<Command>& table) {
  std::string script = FISH_HEAD;
  size_t global = flagsOf(nullptr).size();
  for (auto& flag : flagsOf(nullptr)) script += fishFlag(flag, "");
  for (auto& command : table) {
    script += std::string("complete -c capstan -n __fish_use_subcommand -a ") + command.name + " -d '" +
              escaped(command.summary, "'", "\\") + "'\n";
    std::string condition = std::string(" -n '__fish_seen_subcommand_from ") + command.name + "'";
    auto flags = flagsOf(&command);
    // --help comes first, then the command's own, then the global ones.
    for (size_t i = 1; i + (global - 1) < flags.size(); ++i) script += fishFlag(flags[i], condition);
    Kind kind = operandKind(command);
    if (kind == Kind::FILE || kind == Kind::BOTH) script += "complete -c capstan" + condition + " -F\n";
    if (kind == Kind::REMOTE || kind == Kind::BOTH)
      script += "complete -c capstan" + condition + " -a '(__capstan_remote)'\n";
    if (takesJobId(command)) script += "complete -c capstan" + condition + " -a '(__capstan_job)'\n";
    if (kind == Kind::CHOICE) script += "complete -c capstan" + condition + " -a '" + operandChoices(command) + "'\n";
  }
  return script;
}

}  // namespace

std::string completionScript(std::string_view shell, const std::vector<Command>& table) {
  if (shell == "bash") return bashScript(table);
  if (shell == "zsh") return zshScript(table);
  if (shell == "fish") return fishScript(table);
  return {};
}

}  // namespace capstan::cli
