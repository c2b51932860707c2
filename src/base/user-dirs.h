// Where things of this user lie: state, configuration, runtime folder, and what server and command line have to agree
// on without talking.
#pragma once

#include <sys/types.h>

#include <string>

namespace capstan {

// $XDG_STATE_HOME/capstan, else ~/.local/state/capstan. Not created here.
std::string userStateFolder();
// $XDG_CONFIG_HOME/capstan, else ~/.config/capstan.
std::string userConfigFolder();
// The folder that the system has made for what a user runs, `parent`/UID: where it is the user's own; else empty.
std::string runtimeFolderOf(uid_t user, const std::string& parent = "/run/user");
// The Unix socket of this user's server: $XDG_RUNTIME_DIR/capstan.sock; where that is not set, as in cron's jobs,
// /run/user/UID/capstan.sock if that folder is the user's, else /tmp/capstan-UID/capstan.sock (a folder of mode 0700
// that must belong to this user).
std::string defaultSocketPath();

// Where a server leaves, for each loopback TCP listener, a symlink to its owner's token file, so that a client of the
// same user finds the token by itself: userStateFolder()/tokens/ADDRESS. ADDRESS is as Address::toString() has it.
std::string tokenLinkFor(const std::string& address);

// The owner's token file in a server's state folder.
inline constexpr const char* OWNER_TOKEN_FILE = "owner.token";  // 64 hex digits and a newline, mode 0600

inline constexpr unsigned DEFAULT_PORT = 4457;

}  // namespace capstan
