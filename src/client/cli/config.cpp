#include <capstan/client/cli/config.h>

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include <capstan/base/file.h>
#include <capstan/base/text.h>
#include <capstan/base/user-dirs.h>

namespace capstan::cli {

namespace {

std::string_view trimmed(std::string_view text) {
  size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

// Everything before a '#' that is not inside quotes.
std::string_view withoutComment(std::string_view line) {
  char quote = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    char c = line[i];
    if (quote == '"' && c == '\\') {
      ++i;
    } else if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '#') {
      return line.substr(0, i);
    }
  }
  return line;
}

std::optional<std::string> unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') return std::nullopt;
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    if (++i == text.size()) return std::nullopt;
    switch (text[i]) {
      case '"':
      case '\\': out += text[i]; break;
      case 'n': out += '\n'; break;
      case 't': out += '\t'; break;
      default: return std::nullopt;
    }
  }
  return out;
}

// "text", 'text', or a bare word (number, true, false).
std::optional<std::string> valueOf(std::string_view text) {
  if (text.empty()) return std::nullopt;
  char quote = text.front();
  if (quote != '"' && quote != '\'') {
    return text.find_first_of(" \t\"'") == std::string_view::npos ? std::optional(std::string(text)) : std::nullopt;
  }
  if (text.size() < 2 || text.back() != quote) return std::nullopt;
  std::string_view inside = text.substr(1, text.size() - 2);
  if (quote == '"') return unescaped(inside);
  return inside.find('\'') == std::string_view::npos ? std::optional(std::string(inside)) : std::nullopt;
}

// "office" of "[remotes.office]" or "[remotes.\"office\"]"; nothing for other tables.
std::optional<std::string> remoteOfTable(std::string_view table) {
  constexpr std::string_view PREFIX = "remotes.";
  if (table.substr(0, PREFIX.size()) != PREFIX) return std::nullopt;
  return valueOf(trimmed(table.substr(PREFIX.size())));
}

class Parser {
 public:
  Parser(std::string fileName, std::string folder, std::string home)
      : fileName(std::move(fileName)), folder(std::move(folder)), home(std::move(home)) {}

  Result<Config> parse(std::string_view text) {
    while (!text.empty()) {
      size_t end = text.find('\n');
      std::string_view line = text.substr(0, end);
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
      ++lineNumber;
      if (Status status = takeLine(trimmed(withoutComment(line))); !status.ok()) return status.error();
    }
    for (auto& [name, entry] : config.remotes) {
      if (entry.server.empty()) return wrong("the remote \"" + escapeForTerminal(name) + "\" has no server");
    }
    return std::move(config);
  }

 private:
  std::string fileName, folder, home;
  unsigned lineNumber = 0;
  bool inTable = false;
  std::optional<std::string> remote;
  Config config;

  Error wrong(const std::string& what) {
    return {ErrorCode::INVALID_ARGUMENT,
            escapeForTerminal(fileName) + ", line " + std::to_string(lineNumber) + ": " + what,
            {}};
  }

  Status takeLine(std::string_view line) {
    if (line.empty()) return okStatus();
    if (line.front() == '[') {
      if (line.back() != ']') return wrong("a table begins as in [remotes.NAME]");
      inTable = true;
      remote = remoteOfTable(trimmed(line.substr(1, line.size() - 2)));
      if (remote) config.remotes[*remote];
      return okStatus();
    }
    size_t equals = line.find('=');
    if (equals == std::string_view::npos) return wrong("a line is written as in server = \"HOST:PORT\"");
    if (inTable && !remote) return okStatus();
    std::string_view key = trimmed(line.substr(0, equals));
    auto value = valueOf(trimmed(line.substr(equals + 1)));
    if (!value)
      return wrong("the value of " + escapeForTerminal(key) + " is not a text in quotes, a number, true or false");
    return remote ? takeRemoteKey(key, *value) : takeKey(key, *value);
  }

  Status takeRemoteKey(std::string_view key, const std::string& value) {
    Remote& entry = config.remotes[*remote];
    if (key == "server") entry.server = serverOf(value);
    if (key == "token-file") entry.tokenFile = pathOf(value);
    if (key == "certificate") entry.certificate = pathOf(value);
    if (key == "insecure") {
      if (value != "true" && value != "false") return wrong("insecure is true or false");
      entry.insecure = value == "true";
    }
    return okStatus();
  }

  Status takeKey(std::string_view key, const std::string& value) {
    if (key == "server") config.server = serverOf(value);
    if (key == "token-file") config.tokenFile = pathOf(value);
    if (key == "timeout") {
      config.timeout = parseDuration(value);
      if (!config.timeout) return wrong("timeout is written as in \"30s\"");
    }
    if (key == "progress" || key == "color") {
      if (value != "true" && value != "false") return wrong(std::string(key) + " is true or false");
      (key == "progress" ? config.progress : config.color) = value == "true";
    }
    return okStatus();
  }

  std::string serverOf(const std::string& value) {
    return value.starts_with('@') ? "@" + pathOf(value.substr(1)) : value;
  }

  std::string pathOf(const std::string& value) {
    if (value.substr(0, 2) == "~/") return home + value.substr(1);
    return value.empty() || value[0] == '/' || folder.empty() ? value : folder + "/" + value;
  }
};

Result<Config> loadFile(const std::string& path, const std::string& folder) {
  auto text = readFile(path);
  if (!text.ok()) {
    if (text.error().code == ErrorCode::NOT_FOUND || text.error().code == ErrorCode::NOT_DIRECTORY) return Config{};
    return text.error();
  }
  const char* home = getenv("HOME");
  return parseConfig(*text, path, folder, home == nullptr ? "" : home);
}

bool canBeOfFolder(std::string_view name) {
  return !name.empty() && name != "localhost" && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
}

}  // namespace

std::string userConfigFile() { return userConfigFolder() + "/config.toml"; }

Result<Config> parseConfig(std::string_view text, const std::string& fileName, const std::string& folder,
                           const std::string& home) {
  return Parser(fileName, folder, home).parse(text);
}

Config merged(Config folder, Config user) {
  Config both = std::move(user);
  if (folder.server) {
    both.server = std::move(folder.server);
    both.serverOrigin = Origin::FOLDER;
  }
  both.folderTokenFile = std::move(folder.tokenFile);
  if (folder.timeout) both.timeout = folder.timeout;
  if (folder.progress) both.progress = folder.progress;
  if (folder.color) both.color = folder.color;
  for (auto& [name, remote] : folder.remotes) {
    if (!canBeOfFolder(name) || both.remotes.contains(name)) {
      both.untaken.insert(name);
      continue;
    }
    remote.origin = Origin::FOLDER;
    both.remotes.emplace(name, std::move(remote));
  }
  return both;
}

Result<Config> loadConfig() {
  auto folder = loadFile(FOLDER_CONFIG, "");
  if (!folder.ok()) return folder;
  auto user = loadFile(userConfigFile(), userConfigFolder());
  if (!user.ok()) return user;
  return merged(std::move(*folder), std::move(*user));
}

}  // namespace capstan::cli
