#include <capstan/client/cli/server-wish.h>

#include <cstdlib>

#include <capstan/base/text.h>

namespace capstan::cli {

namespace {

std::optional<std::string> variable(const char* name) {
  const char* value = getenv(name);
  return value == nullptr || *value == '\0' ? std::nullopt : std::optional<std::string>(value);
}

void takeServer(ServerWish& wish, const GlobalFlags& flags, const Environment& environment, const Config& config) {
  if (flags.server) {
    wish.server = flags.server;
    wish.serverFrom = "--server";
  } else if (environment.server) {
    wish.server = environment.server;
    wish.serverFrom = "CAPSTAN_SERVER";
  } else if (config.server) {
    wish.server = config.server;
    wish.addressOrigin = config.serverOrigin;
    wish.serverFrom = config.serverOrigin == Origin::FOLDER ? FOLDER_CONFIG : "the configuration";
  }
}

// True if there is such a remote.
bool takeRemote(ServerWish& wish, const Config& config) {
  if (!wish.server) return false;
  if (config.untaken.contains(*wish.server)) {
    wish.warnings.push_back(
        "the remote " + escapeForTerminal(*wish.server) + " of " + FOLDER_CONFIG + " is not taken: " +
        (config.remotes.contains(*wish.server)
             ? "the user's own configuration has one of that name, which is; give one of them another "
               "name to have both"
             : "it has the name of an address; give it one of letters and digits"));
  }
  auto found = config.remotes.find(*wish.server);
  if (found == config.remotes.end()) return false;
  auto& [name, remote] = *found;
  wish.server = remote.server;
  wish.addressOrigin = wish.tokenOrigin = wish.insecureOrigin = remote.origin;
  wish.remote = name;
  wish.serverFrom = "the remote " + escapeForTerminal(name);
  wish.tokenFile = remote.tokenFile;
  wish.insecure = remote.insecure;
  wish.certificateFile = remote.certificate;
  return true;
}

void withhold(ServerWish& wish, const std::string& token) {
  wish.warnings.push_back("the token of " + token + " is not sent to a server that " + FOLDER_CONFIG +
                          " names; name the server with --server or in " + escapeForTerminal(userConfigFile()) +
                          ", or the token with --token-file");
}

// Where no remote says which.
void takeTokenOfConfig(ServerWish& wish, bool serverIsNamed, const Config& config) {
  if (config.folderTokenFile && !serverIsNamed) {
    wish.tokenFile = config.folderTokenFile;
    wish.tokenOrigin = Origin::FOLDER;
  } else if (wish.addressOrigin == Origin::USER) {
    wish.tokenFile = config.tokenFile;
  } else if (config.tokenFile) {
    withhold(wish, "the user's configuration");
  }
}

}  // namespace

Environment currentEnvironment() {
  return {variable("CAPSTAN_SERVER"), variable("CAPSTAN_TOKEN_FILE"), variable("CAPSTAN_INSECURE") == "1"};
}

ServerWish wishOf(const GlobalFlags& flags, const Environment& environment, const Config& config) {
  ServerWish wish;
  takeServer(wish, flags, environment, config);
  if (!takeRemote(wish, config)) takeTokenOfConfig(wish, flags.server || environment.server, config);
  if (flags.tokenFile) {
    wish.tokenFile = flags.tokenFile;
    wish.tokenOrigin = Origin::USER;
    wish.tokenIsAsked = true;
  } else if (environment.tokenFile && wish.addressOrigin == Origin::FOLDER) {
    withhold(wish, "CAPSTAN_TOKEN_FILE");
  } else if (environment.tokenFile) {
    wish.tokenFile = environment.tokenFile;
    wish.tokenOrigin = Origin::USER;
  }
  wish.timeout = flags.timeout ? *flags.timeout : config.timeout.value_or(0);
  if (environment.insecure || flags.insecure) {
    wish.insecure = true;
    wish.insecureOrigin = Origin::USER;
  }
  return wish;
}

}  // namespace capstan::cli
