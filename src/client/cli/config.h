// The configuration files of the command line: the subset of TOML that they need, and what it says. Pure, but for
// loadConfig().
//
//   server = "files.example:4457"        # or the name of a remote, or "@FILE", an invite
//   token-file = "~/.config/capstan/files.token"
//   timeout = "30s"
//   progress = false
//   color = false
//   [remotes.office]
//   server = "10.0.0.5:4457"
//   token-file = "office.token"          # relative to this file's folder, as all files are
//   certificate = "office.pem"           # whose key the server has to have
//   insecure = true                      # no TLS
//
// The file of the current folder is trusted less than what the user wrote elsewhere: whoever can write to the folder
// may have put it there. It may say which server the folder belongs to, and may bring a token of its own for it.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include <capstan/base/error.h>

namespace capstan::cli {

// The configuration of the current folder.
inline constexpr const char* FOLDER_CONFIG = ".capstan.toml";
// The user's own.
std::string userConfigFile();

// Who has given a setting.
enum class Origin {
  USER,    // the user: on the command line, in the environment, in the user's own configuration, or by leaving it out
  FOLDER,  // FOLDER_CONFIG
};

struct Remote {
  std::string server;
  std::optional<std::string> tokenFile;
  std::optional<std::string> certificate;
  bool insecure = false;
  Origin origin = Origin::USER;
};

struct Config {
  std::optional<std::string> server;
  Origin serverOrigin = Origin::USER;
  std::optional<std::string> tokenFile;
  std::optional<std::string> folderTokenFile;  // what FOLDER_CONFIG says of it, unchecked
  std::optional<uint64_t> timeout;             // nanoseconds
  std::optional<bool> progress;
  std::optional<bool> color;
  std::map<std::string, Remote> remotes;
  std::set<std::string> untaken;  // remotes of FOLDER_CONFIG that are not taken
};

// Keys and tables that it does not know are left alone: a newer capstan may. `fileName` is for sentences, `folder` is
// what relative token files start from, `home` what "~/" is. Errors: invalidArgument, naming file and line.
Result<Config> parseConfig(std::string_view text, const std::string& fileName, const std::string& folder,
                           const std::string& home);

// ./.capstan.toml over $XDG_CONFIG_HOME/capstan/config.toml. A file that is not there is empty.
Result<Config> loadConfig();

// The folder's goes before the user's, but for remotes: of two with the same name the user's is taken, whole. The
// folder's remotes have names of letters, digits, '-' and '_', so that they do not stand for an address that somebody
// types; others, and "localhost", are not taken.
Config merged(Config folder, Config user);

}  // namespace capstan::cli
