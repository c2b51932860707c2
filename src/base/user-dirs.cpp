#include <capstan/base/user-dirs.h>

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>

namespace capstan {

namespace {

// An environment variable that holds an absolute path; relative ones are ignored, as the XDG specification asks.
std::string absoluteFromEnvironment(const char* name) {
  const char* value = getenv(name);
  return value != nullptr && value[0] == '/' ? value : "";
}

std::string homeFolder() {
  std::string home = absoluteFromEnvironment("HOME");
  if (!home.empty()) return home;
  const passwd* user = getpwuid(getuid());
  return user != nullptr ? user->pw_dir : "/";
}

}  // namespace

std::string userStateFolder() {
  std::string base = absoluteFromEnvironment("XDG_STATE_HOME");
  return (base.empty() ? homeFolder() + "/.local/state" : base) + "/capstan";
}

std::string userConfigFolder() {
  std::string base = absoluteFromEnvironment("XDG_CONFIG_HOME");
  return (base.empty() ? homeFolder() + "/.config" : base) + "/capstan";
}

std::string defaultSocketPath() {
  std::string base = absoluteFromEnvironment("XDG_RUNTIME_DIR");
  if (!base.empty()) return base + "/capstan.sock";
  return "/tmp/capstan-" + std::to_string(getuid()) + "/capstan.sock";
}

std::string tokenLinkFor(const std::string& address) { return userStateFolder() + "/tokens/" + address; }

}  // namespace capstan
