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
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include <capstan/base/error.h>

namespace capstan::cli {

struct Remote {
  std::string server;
  std::optional<std::string> tokenFile;
  std::optional<std::string> certificate;
  bool insecure = false;
};

struct Config {
  std::optional<std::string> server;
  std::optional<std::string> tokenFile;
  std::optional<uint64_t> timeout;  // nanoseconds
  std::optional<bool> progress;
  std::optional<bool> color;
  std::map<std::string, Remote> remotes;
};

// Keys and tables that it does not know are left alone: a newer capstan may. `fileName` is for sentences, `folder` is
// what relative token files start from, `home` what "~/" is. Errors: invalidArgument, naming file and line.
Result<Config> parseConfig(std::string_view text, const std::string& fileName, const std::string& folder,
                           const std::string& home);

// ./.capstan.toml over $XDG_CONFIG_HOME/capstan/config.toml. A file that is not there is empty. A token file goes with
// the server of its own file: where the nearer file names the server, the farther one's token is not used for it, so
// that a folder that somebody else made cannot send this user's token to a server of its own.
Result<Config> loadConfig();
Config merged(Config nearer, Config farther);

}  // namespace capstan::cli
