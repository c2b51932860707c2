#include <capstan/base/user-dirs.h>

#include <pwd.h>
#include <sys/stat.h>
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

std::string runtimeFolderOf(uid_t user, const std::string& parent) {
  std::string folder = parent + "/" + std::to_string(user);
  struct stat status;
  bool isOwn = lstat(folder.c_str(), &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == user &&
               (status.st_mode & 022) == 0;
  return isOwn ? folder : "";
}

std::string defaultSocketPath() {
  std::string base = absoluteFromEnvironment("XDG_RUNTIME_DIR");
  if (base.empty()) base = runtimeFolderOf(getuid());
  if (!base.empty()) return base + "/capstan.sock";
  return "/tmp/capstan-" + std::to_string(getuid()) + "/capstan.sock";
}

std::string tokenLinkFor(const std::string& address) { return userStateFolder() + "/tokens/" + address; }

}  // namespace capstan
